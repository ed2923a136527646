"""What a grid of test pictures shows: figures by arrays, and copies as the base would paint them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bglora.backends.paint import diffusers as paint
from bglora.settings.lora import TrainSettings
from bglora.stages.judging import followed_prompts, other_places, views_of
from bglora.training import figures


def units(*shape: int) -> Any:
    values = np.random.default_rng(1).standard_normal((*shape, 8))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_prompts_that_paint_one_picture_are_not_followed_and_seeds_that_do_have_no_variety() -> None:
    grid = units(2, 3, 4)
    grid[1] = grid[1, :1]  # at scale 1, the prompts paint the same
    followed, varied = figures.ratio(figures.following(grid)), figures.ratio(figures.variety(grid))
    assert followed[0].mean == pytest.approx(1.0) and followed[1].mean == pytest.approx(0.0, abs=1e-9)
    assert varied[1].mean > 0.5


def test_a_lora_that_paints_its_own_place_elsewhere_does_not_follow_whatever_its_colors() -> None:
    places = np.eye(8)[:3]  # of a town, a beach and a room
    drawn = np.random.default_rng(2).standard_normal((4, 3, 6, 8)) * 0.1
    grid = places[None, :, None] + drawn
    grid[1, 1:] += 0.3 * places[0]  # a touch of the town: still a beach
    grid[2, 1:] = places[0] + drawn[2, 1:] + np.eye(8)[3:5, None]  # the town everywhere, in the prompts' colors
    grid[3, 1:] = np.eye(8)[5:7, None] + drawn[3, 1:]  # neither the town nor what was asked for
    grid /= np.linalg.norm(grid, axis=-1, keepdims=True)
    apart = figures.ratio(figures.following(grid))
    assert apart[3].mean > 0.7
    found = followed_prompts(grid, range(1, 3))
    assert (found[0].low, found[0].mean, found[0].high) == pytest.approx((1, 1, 1))
    assert found[1].mean > 0.8 and found[2].high < 0.3 and found[3].high < 0.3
    assert followed_prompts(grid, ()) == apart


def test_a_prompt_for_the_scenes_own_place_is_no_other_place() -> None:
    likeness = np.array([[0.2, 0.25, 0.22], [0.3, 0.35, 0.3], [0.7, 0.75, 0.72], [0.28, 0.2, 0.3], [0.0, -0.1, 0.05]])
    assert other_places(likeness, range(2, 5)) == [4]  # a beach's own beach, one that can't be told, and a room
    assert other_places(likeness, ()) == []


def test_other_places_say_nothing_of_a_base_that_does_not_tell_them_apart_or_of_one_seed() -> None:
    grid = units(2, 3, 4)
    alike = np.broadcast_to(grid[:, :1], grid.shape)  # the same picture whatever is asked for
    assert figures.place_retention(alike, range(1, 3)) is None
    places = np.eye(8)[None, :3, None] * np.ones((2, 1, 2, 1))
    assert figures.place_retention(places[:, :, :1], range(1, 3)) is None
    told = figures.place_retention(places, range(1, 3))
    assert told is not None and told.shape == (2, 4) and told == pytest.approx(1.0)


def test_a_copy_is_found_mirrored_too_and_another_picture_is_none() -> None:
    rng = np.random.default_rng(2)
    small = rng.integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    training = np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in small])
    other = np.asarray(Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((64, 64)))
    painted = np.stack([training[1], training[2][:, ::-1], other])
    assert list(figures.nearest(painted, training) > 0.9) == [True, True, False]


def test_a_copy_of_any_part_of_a_wide_plate_is_found_as_soft_as_the_base_paints_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    small = Image.fromarray(rng.integers(0, 255, (6, 10, 3), dtype=np.uint8)).resize((160, 90))
    wide = Image.fromarray((np.asarray(small) * rng.uniform(0.3, 1, (90, 160, 1))).astype(np.uint8))  # fine detail
    wide.save(tmp_path / "plate.png")
    painter = paint.create(TrainSettings())
    views = views_of(tmp_path, ["plate.png"], 8, 128, painter)
    assert views.shape == (4, 48, 48, 3)
    ends = [wide.crop((x, 0, x + 90, 90)).resize((128, 128)) for x in (0, 70)]
    sharp = np.stack([np.asarray(one) for one in (*ends, wide.resize((128, 128)))])
    copies = painter.as_painted(sharp)
    assert (figures.nearest(copies, views) > 0.97).all()
    assert (figures.nearest(copies, sharp) < figures.nearest(copies, views)).all()
    assert figures.nearest(copies[:1, ::-1], views)[0] < 0.9


def test_held_out_plates_of_a_trained_view_do_not_hide_copies() -> None:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    training = np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in small])
    alike = (0.75 * training[0] + 0.25 * training[1]).astype(np.uint8)  # another view of the same place
    found = float(figures.nearest(alike[None], training)[0])
    assert 0.9 < found < 0.97
    assert figures.copy_limit(np.stack([training[2], alike]), training) == pytest.approx(found)
    assert figures.copy_limit(training[:1], training) == figures.copy_limit(training[:0], training) == 0.9


def test_intervals_hold_their_values() -> None:
    spread = figures.bootstrap(np.arange(20.0))
    assert spread.low < spread.mean == 9.5 < spread.high
    share = figures.wilson(0, 10)
    assert share.low == 0.0 and 0.2 < share.high < 0.35
    assert figures.wilson(5, 10).low == pytest.approx(0.2366, abs=1e-3)
