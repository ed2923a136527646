"""Regions: boxes, mask pictures, attention; their soft edges; and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bglora.backends.paint import regions
from bglora.errors import UserError

SIZE = (64, 96)


def test_a_box_is_given_in_shares_of_the_picture() -> None:
    box = regions.as_box("0.25 0.5 0.75 1")
    assert box == (0.25, 0.5, 0.75, 1.0) == regions.as_box("0.25, 0.5, 0.75, 1")
    mask = regions.from_box(box, SIZE)
    assert regions.bounds(mask) == (24, 32, 72, 64) and mask.sum() == 48 * 32
    assert regions.from_box((0.5, 0.5, 0.5001, 0.5001), SIZE).sum() == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.5 0.2 1.2 0.9", "beyond the picture"),
        ("-0.1 0 0.5 0.5", "beyond the picture"),
        ("300 200 700 950", "beyond the picture"),
        ("0.7 0.2 0.3 0.9", "no inside"),
    ],
)
def test_a_region_outside_of_the_picture_is_told_in_three_lines(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        regions.as_box(text)
    assert caught.value.where == f"compose.region: {text}" and "shares of the picture" in caught.value.cure


def test_words_that_are_no_region_are_told(tmp_path: Path) -> None:
    assert regions.check("attention", tmp_path) is None and regions.check("0 0 1 1", tmp_path) is None
    with pytest.raises(UserError, match="no such region"):
        regions.check("the left side", tmp_path)


def test_a_mask_picture_of_any_size_is_white_or_opaque_where_the_character_stands(tmp_path: Path) -> None:
    half = np.zeros((32, 48), np.uint8)
    half[:, 24:] = 255
    Image.fromarray(half).save(tmp_path / "gray.png")
    Image.fromarray(np.dstack([np.zeros((32, 48, 3), np.uint8), half])).save(tmp_path / "clear.png")
    for name in ("gray.png", "clear.png"):
        mask = regions.from_picture(tmp_path / name, SIZE, name)
        assert mask.shape == SIZE and mask[:, :44].max() == 0 and mask[:, 52:].min() == 1
    large = Image.fromarray(np.kron(half, np.ones((8, 8), np.uint8)))
    large.save(tmp_path / "large.png")
    assert regions.from_picture(tmp_path / "large.png", SIZE, "large.png")[:, 48:].min() == 1


def test_a_black_or_broken_mask_picture_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match="black all over"):
        regions.from_picture(tmp_path / "black.png", SIZE, "black.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="can't be read"):
        regions.from_picture(tmp_path / "broken.png", SIZE, "broken.png")


def test_soft_edges_lie_inside_of_the_region_and_not_at_the_pictures_border() -> None:
    hard = regions.from_box((0.25, 0.0, 0.75, 1.0), SIZE)
    soft = regions.feathered(hard, 0.1)
    assert soft[hard == 0].max() == 0
    middle = soft[32, 24:72]
    assert 0 < middle[0] < 0.5 and middle[10:-10].min() == 1 and (np.diff(middle[:6]) > 0).all()
    np.testing.assert_array_equal(soft[0], soft[32])
    np.testing.assert_array_equal(regions.feathered(hard, 0.0), hard)


def test_attention_gives_the_connected_place_of_its_peak() -> None:
    rows, columns = np.mgrid[:16, :24]
    blob = np.exp(-((rows - 9) ** 2 + (columns - 16) ** 2) / 8.0)
    attention = (blob + 0.4 * np.exp(-((rows - 3) ** 2 + (columns - 3) ** 2) / 2.0) + 0.02).astype(np.float32)
    mask = regions.from_attention(attention, (128, 192))
    left, top, right, bottom = regions.bounds(mask)
    assert left < 16 * 8 < right and top < 9 * 8 < bottom
    assert mask[24, 24] == 0 and 0.04 < mask.mean() < 0.35


def test_attention_without_an_opinion_still_leaves_room_around_the_character() -> None:
    flat = np.full((16, 16), 0.5, np.float32) + np.random.default_rng(0).normal(0, 1e-3, (16, 16)).astype(np.float32)
    mask = regions.from_attention(flat, (64, 64))
    assert 0 < mask.mean() < 0.75


def test_a_mask_goes_through_a_recipe_in_256_steps() -> None:
    soft = regions.feathered(regions.from_box((0.2, 0.2, 0.8, 0.8), SIZE), 0.2)
    back = regions.from_text(regions.as_text(soft))
    assert np.abs(back - soft).max() <= 0.5 / 255 + 1e-6
    assert regions.as_text(back) == regions.as_text(soft)
