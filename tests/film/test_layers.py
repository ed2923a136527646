"""Layers of an earlier segmentation in all the forms that they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bglora.errors import UserError
from bglora.film.layers import cropped, entries, hole, list_layers
from bglora.film.png import write_png


def test_layers_of_a_film_go_by_frame_number(tmp_path: Path) -> None:
    empty = np.zeros((4, 6), np.uint8)
    for name in ("background/film-s000/000012.png", "masks/film-s000/000012.png", "masks/000003.png"):
        write_png(tmp_path / name, empty)
    for track in (1, 2):
        write_png(tmp_path / f"character/film-s000/000012_{track}.png", np.zeros((4, 6, 4), np.uint8))
    rows, _ = list_layers(tmp_path, numbered=True)
    assert [row["frame"] for row in rows] == [3, 12]
    found = entries(tmp_path, {"layers": {"root": ".", "frames": rows}})
    assert found[3].background is None
    assert found[12].background == tmp_path / "background/film-s000/000012.png"
    assert [path.name for path in found[12].characters] == ["000012_1.png", "000012_2.png"]


def test_layers_without_a_film_are_numbered_in_natural_order(tmp_path: Path) -> None:
    for name in ("view 10.png", "view 9.png", "b/1.png"):
        write_png(tmp_path / name, np.zeros((4, 6, 3), np.uint8))
    rows, names = list_layers(tmp_path, numbered=False)
    assert names == ["b/1", "view 9", "view 10"]
    assert [row["frame"] for row in rows] == [0, 1, 2]


@pytest.mark.parametrize("alone", ["masks/000002.png", "character/000002_1.png"])
def test_a_layer_without_background_and_without_film_is_an_error(tmp_path: Path, alone: str) -> None:
    for name in ("background/000001.png", alone):
        write_png(tmp_path / name, np.zeros((4, 6), np.uint8))
    with pytest.raises(UserError, match="1 layers have no background") as told:
        list_layers(tmp_path, numbered=False)
    assert told.value.where.endswith("000002")
    assert [row["frame"] for row in list_layers(tmp_path, numbered=True)[0]] == [1, 2]


def test_names_without_numbers_and_double_frames_are_errors(tmp_path: Path) -> None:
    write_png(tmp_path / "one" / "house.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(UserError, match="no frame number"):
        list_layers(tmp_path / "one", numbered=True)
    for name in ("two/a/000001.png", "two/b/000001.png"):
        write_png(tmp_path / name, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(UserError, match="Two layers claim frame 1"):
        list_layers(tmp_path / "two", numbered=True)
    (tmp_path / "three").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        list_layers(tmp_path / "three", numbered=False)


def entry(folder: Path, **layers: np.ndarray):
    for part, picture in layers.items():
        write_png(folder / part / "000000.png", picture)
    rows, _ = list_layers(folder, numbered=True)
    return entries(folder, {"layers": {"root": ".", "frames": rows}})[0]


def test_the_hole_comes_from_mask_or_alpha_or_black(tmp_path: Path) -> None:
    picture = np.full((20, 30, 4), 120, np.uint8)
    picture[..., 3] = 255
    expected = np.zeros((20, 30), np.uint8)
    expected[5:12, 8:20] = 255
    clear = picture.copy()
    clear[expected > 0] = 0
    assert (hole(entry(tmp_path / "alpha", background=clear)) == expected).all()
    black = picture[..., :3].copy()
    black[expected > 0] = 0
    black[2, 2] = 0  # a dark pixel of the picture itself
    assert (hole(entry(tmp_path / "black", background=black)) == expected).all()
    mask = expected.copy()
    mask[14:16, 8:20] = 128
    assert (hole(entry(tmp_path / "mask", background=black, masks=mask)) == mask).all()
    grey = np.where(expected > 0, 200, 0).astype(np.uint8)
    assert (hole(entry(tmp_path / "grey", masks=grey)) == expected).all()


def test_layers_with_bars_are_cropped_like_the_frames() -> None:
    remark = {"video": {"size": [20, 30], "crop": [2, 3, 0, 1]}}
    assert cropped(np.zeros((20, 30, 3), np.uint8), remark).shape == (15, 29, 3)
    assert cropped(np.zeros((15, 29), np.uint8), remark).shape == (15, 29)
