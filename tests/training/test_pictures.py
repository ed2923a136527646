"""What a picture weighs, cell by cell, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bglora.errors import UserError
from bglora.training.buckets import Cut
from bglora.training.pictures import cut_pixels, latent_weights, read_picture

WEIGHTS = (1.0, 1.0, 0.3, 0.0)


def provenance(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def test_one_untrusted_pixel_takes_its_latent_cell_and_no_other(tmp_path: Path) -> None:
    values = np.zeros((64, 64))
    values[15, 16] = 3
    weights = latent_weights(provenance(tmp_path / "p.png", values), Cut((64, 64), (64, 64), (64, 64)), 8, WEIGHTS)
    expected = np.ones((8, 8), np.float32)
    expected[1, 2] = 0.0
    np.testing.assert_array_equal(weights, expected)


def test_guessed_pixels_weigh_less_and_recovered_ones_fully(tmp_path: Path) -> None:
    values = np.zeros((64, 64))
    values[:, :32], values[:, 32:] = 1, 2
    weights = latent_weights(provenance(tmp_path / "p.png", values), Cut((64, 64), (64, 64), (64, 64)), 8, WEIGHTS)
    assert set(weights[:, :4].ravel()) == {1.0}
    np.testing.assert_allclose(weights[:, 4:], 0.3)


def test_weights_follow_the_scale_and_the_crop_of_the_picture(tmp_path: Path) -> None:
    values = np.zeros((100, 200))
    values[:, 180:] = 3  # 90 % of the width: outside the centered crop
    values[:, 100:102] = 3  # the middle
    cut = Cut((100, 200), (64, 128), (64, 64))
    weights = latent_weights(provenance(tmp_path / "p.png", values), cut, 8, WEIGHTS)
    assert list(np.flatnonzero(weights[0] == 0.0)) == [4]


def test_without_provenance_all_cells_weigh_the_same() -> None:
    assert latent_weights(None, Cut((64, 64), (64, 64), (64, 32)), 8, WEIGHTS).tolist() == [[1.0] * 4] * 8


def test_a_cut_has_the_size_of_its_bucket_and_keeps_the_center() -> None:
    picture = np.zeros((72, 128, 3), np.uint8)
    picture[:, 64:] = 255
    cut = cut_pixels(picture, Cut((72, 128), (64, 114), (64, 96)))
    assert cut.shape == (64, 96, 3)
    assert cut[:, :46].max() == 0
    assert cut[:, 50:].min() == 255


def test_a_damaged_picture_is_told_in_three_lines(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / "broken.png")
    assert "broken.png" in caught.value.where
    assert "bglora caption" in caught.value.cure
