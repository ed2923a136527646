"""What every fill backend must do, and how the embedded one fills."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bglora import backends
from bglora.errors import MachineError, UserError
from bglora.settings.plates import InpaintSettings
from bglora.vision.metrics import psnr_db
from tests.backends import tiny_diffusion as tiny
from tests.backends import tiny_lama
from tests.vision import drawn

ENGINES = [
    "patch",
    "lama",
    "brushnet",
    "brushnet with SDXL",
    "brushnet after LaMa",
    "sdxl",
    "sdxl with any SDXL model",
    "hybrid",
]


SIMPLE_BELOW = 0.03


def settings(name: str) -> dict[str, Any]:
    """The table [inpaint] with which an engine runs on tiny random weights."""
    few: dict[str, Any] = {"steps": 2}
    return {
        "patch": lambda: {},
        "lama": lambda: {"lama": tiny_lama_path()},
        "brushnet": lambda: few | tiny.brushnet_settings("sd15"),
        "brushnet with SDXL": lambda: few | tiny.brushnet_settings("sdxl"),
        "brushnet after LaMa": lambda: (
            few | tiny.brushnet_settings("sd15") | {"lama_first": True, "lama": tiny_lama_path()}
        ),
        "sdxl": lambda: few | {"sdxl": str(tiny.tiny_sdxl_inpainting())},
        "sdxl with any SDXL model": lambda: few | {"sdxl": str(tiny.tiny_sdxl())},
        "hybrid": lambda: (
            few | tiny.brushnet_settings("sd15") | {"lama": tiny_lama_path(), "simple_below": SIMPLE_BELOW}
        ),
    }[name]()


def tiny_lama_path() -> str:
    path = tiny.home() / "lama.safetensors"
    return str(path if path.exists() else tiny_lama.checkpoint(path))


@cache
def engine(name: str) -> Any:
    """The engine, with a tiny model of random weights where it needs one."""
    return backends.load("fill", name.split()[0], InpaintSettings(**settings(name)))


def hole_at(y: int, x: int, height: int, width: int) -> np.ndarray:
    hole = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
    hole[y : y + height, x : x + width] = True
    return hole


@pytest.mark.parametrize("name", ENGINES)
def test_pixels_outside_the_hole_stay_bit_identical_and_the_input_is_untouched(name: str) -> None:
    frame, hole = drawn.shot(21, 2).frames[0], hole_at(40, 60, 50, 40)
    before = frame.copy()
    filled = engine(name).fill(frame, hole, seed=1)
    assert filled.dtype == np.uint8 and filled.shape == frame.shape
    assert np.array_equal(filled[~hole], frame[~hole]) and np.array_equal(frame, before)


@pytest.mark.parametrize("name", ENGINES)
def test_what_lies_in_the_hole_is_not_used(name: str) -> None:
    frame, hole = drawn.texture(22).astype(np.uint8), hole_at(50, 100, 40, 30)
    other = frame.copy()
    other[hole] = (255, 0, 255)
    assert np.array_equal(engine(name).fill(frame, hole, seed=3), engine(name).fill(other, hole, seed=3))


@pytest.mark.parametrize("name", ENGINES)
def test_same_seed_same_fill(name: str) -> None:
    frame, hole = drawn.texture(23).astype(np.uint8), hole_at(30, 30, 40, 40)
    assert np.array_equal(engine(name).fill(frame, hole, seed=5), engine(name).fill(frame, hole, seed=5))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("where", [(0, 0, 30, 30), (100, 200, 44, 56), (0, 100, 144, 20), (70, 90, 1, 1)])
def test_holes_at_the_border_through_the_picture_and_of_one_pixel(name: str, where: tuple[int, int, int, int]) -> None:
    frame, hole = drawn.texture(24).astype(np.uint8), hole_at(*where)
    filled = engine(name).fill(frame, hole, seed=1)
    assert np.array_equal(filled[~hole], frame[~hole])


@pytest.mark.parametrize("name", ENGINES)
def test_no_hole_and_nothing_but_hole(name: str) -> None:
    frame = drawn.texture(25).astype(np.uint8)
    assert np.array_equal(engine(name).fill(frame, np.zeros(frame.shape[:2], bool), seed=1), frame)
    assert engine(name).fill(frame, np.ones(frame.shape[:2], bool), seed=1).shape == frame.shape


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in ("patch", "lama", "hybrid")])
def test_many_pictures_at_once_are_filled_like_one_by_one(name: str) -> None:
    frames = [drawn.texture(seed).astype(np.uint8) for seed in (31, 32, 33)]
    holes = [hole_at(40, 60, 20, 30), hole_at(20, 180, 60, 40), hole_at(60, 60, 20, 30)]
    together = engine(name).fill_many(frames, holes, seeds=[1, 2, 3])
    for k, (frame, hole) in enumerate(zip(frames, holes, strict=True)):
        alone = engine(name).fill(frame, hole, seed=k + 1)
        assert np.array_equal(together[k][~hole], frame[~hole])
        assert np.abs(together[k].astype(int) - alone).max() <= 2  # sums of a batch are rounded otherwise
        assert (alone[hole] != engine(name).fill(frame, hole, seed=k + 11)[hole]).any()


def test_hybrid_fills_small_holes_as_lama_and_large_ones_as_brushnet() -> None:
    frame, small, large = drawn.texture(26).astype(np.uint8), hole_at(20, 30, 20, 20), hole_at(20, 30, 60, 60)
    assert small.mean() < SIMPLE_BELOW < large.mean()
    filled = engine("hybrid").fill_many([frame] * 3, [small, large, small], seeds=[2, 3, 4])
    assert np.array_equal(filled[0], engine("lama").fill(frame, small, seed=2))
    assert np.array_equal(filled[1], engine("brushnet").fill(frame, large, seed=3))
    assert np.array_equal(filled[2], engine("lama").fill(frame, small, seed=4))


def test_patches_continue_a_pattern_where_diffusion_smears_it() -> None:
    import cv2

    ys, xs = np.mgrid[0 : drawn.HEIGHT, 0 : drawn.WIDTH]
    tiles = ((ys // 8 + xs // 8) % 2 * 140 + 50).astype(np.uint8)
    frame = np.stack([tiles, tiles // 2 + 40, 255 - tiles], 2)
    hole = hole_at(50, 100, 40, 40)
    broken = frame.copy()
    broken[hole] = 0
    filled = engine("patch").fill(broken, hole, seed=1)
    smear = cv2.inpaint(broken, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    assert psnr_db(filled, frame, hole) > psnr_db(smear, frame, hole) + 3


def test_an_odd_seed_gives_lama_another_try() -> None:
    frame, hole = drawn.texture(26).astype(np.uint8), hole_at(50, 100, 40, 40)
    first, second, third = (engine("lama").fill(frame, hole, seed=seed) for seed in (4, 5, 6))
    assert np.array_equal(first, third) and not np.array_equal(first, second)


def test_many_holes_together_are_those_one_by_one() -> None:
    frames = [drawn.texture(seed).astype(np.uint8) for seed in (27, 28)]
    holes = [hole_at(50, 100, 40, 40), hole_at(10, 10, 60, 20)]
    together = engine("lama").fill_many(frames, holes, [2, 3], ["", ""])
    alone = [
        engine("lama").fill(frame, hole, seed=seed) for frame, hole, seed in zip(frames, holes, (2, 3), strict=True)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


def test_the_weights_are_part_of_what_lama_is(tmp_path: Path) -> None:
    names = []
    for seed in (1, 2):
        path = tiny_lama.checkpoint(tmp_path / f"{seed}.safetensors", seed)
        names.append(backends.identity("fill", "lama", InpaintSettings(lama=str(path))))
    assert names[0] != names[1] and all(name.startswith("lama/1 ") for name in names)


def test_simple_lama_says_how_to_get_its_package_and_which_file_it_reads(tmp_path: Path) -> None:
    path = tiny_lama.checkpoint(tmp_path / "a.safetensors")
    settings = InpaintSettings(lama=str(path))
    if backends.find("fill", "simple_lama").missing():
        with pytest.raises(MachineError, match="simple_lama_inpainting") as told:
            backends.load("fill", "simple_lama", settings)
        assert told.value.cure == "pip install --no-deps simple-lama-inpainting"
    else:
        with pytest.raises(UserError, match="TorchScript files only"):
            backends.load("fill", "simple_lama", settings)
