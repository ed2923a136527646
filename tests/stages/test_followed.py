"""`segment` by a backend that knows who is who, through the real engine; its net is made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import bglora
from bglora.film.png import read_grey, read_rgba
from tests.foreign import installed
from tests.stages.drawn_project import project_of, records
from tests.vision import drawn
from tests.vision.by_color import BLUE, RED, of_color

CODE = """
from bglora.backends.masks.following import FollowedMasks
from tests.vision.by_color import ByColor, Named

IDENTITY = "colors/1"


def create(settings):
    return FollowedMasks(ByColor(), Named() if settings.targets else None, settings)
"""
TOML = '[project.entry-points."bglora.masks"]\ncolors = "color_masks"\n'


@pytest.fixture(autouse=True)
def colors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("package"), monkeypatch, "color_masks", CODE, TOML):
        yield


def film(count: int) -> list[np.ndarray]:
    """Two striped discs that cross the picture in opposite directions, one above the other, before grey things."""
    grey = np.repeat(drawn.texture(61).mean(2, keepdims=True), 3, 2).astype(np.uint8)
    stripes = (np.arange(drawn.HEIGHT) // 4 % 2 * 30)[:, None, None]
    frames = []
    for k in range(count):
        frame = grey.copy()
        x = round(25 + (drawn.WIDTH - 50) * k / (count - 1))
        for color, at in ((RED, (x, 40)), (BLUE, (drawn.WIDTH - x, 105))):
            disc = cv2.circle(np.zeros(frame.shape[:2], np.uint8), at, 16, 1, -1) > 0
            frame[disc] = np.clip(np.asarray(color) - stripes, 0, 255).repeat(drawn.WIDTH, 1)[disc]
        frames.append(frame)
    return frames


def test_a_shot_of_more_frames_than_are_looked_at_together_keeps_who_is_who(tmp_path: Path) -> None:
    frames = film(30)
    project = project_of(
        tmp_path, frames, "segment.backend=colors", 'segment.targets=["red", "blue"]', "segment.samples=8"
    )
    project.run("ingest", "segment")
    lines = records(project, "segmented/segmented.jsonl")
    assert {tuple(line["record"]["tracks"]) for line in lines.values()} == {(1, 2)}
    colors = {}
    for path in (project.root / "segmented/character/drawn-s000").glob("*.png"):
        cut = read_rgba(path)
        mean = cut[cut[..., 3] > 250][:, :3].mean(0)
        colors.setdefault(path.stem.split("_")[1], set()).add("red" if mean[0] > mean[2] else "blue")
    assert colors in ({"1": {"red"}, "2": {"blue"}}, {"1": {"blue"}, "2": {"red"}})
    for k in (0, 13, 29):
        mask = read_grey(project.root / f"segmented/masks/drawn-s000/{k:06d}.png")
        solid = of_color(frames[k], RED) | of_color(frames[k], BLUE)
        assert (mask[solid] == 255).mean() > 0.97 and (mask[~solid] == 255).mean() < 0.003


def test_whom_a_person_points_out_is_followed_and_nobody_else(tmp_path: Path) -> None:
    frames = film(20)
    project = project_of(tmp_path, frames, "segment.backend=colors", "segment.targets=[]")
    project.run("ingest", "segment")
    masks = project.root / "segmented/masks/drawn-s000"
    assert not read_grey(masks / "000003.png").any()
    ys, xs = np.nonzero(of_color(frames[6], RED))
    project.decisions.add("prompt", prompt="drawn-s000/000006", points=[[int(xs.mean()), int(ys.mean()), 1]])
    assert project.run("segment").items == 1
    for k in (0, 6, 19):
        mask = read_grey(masks / f"{k:06d}.png") == 255
        assert mask[of_color(frames[k], RED)].mean() > 0.97 and not mask[of_color(frames[k], BLUE)].any()


def test_pointing_somebody_out_to_a_backend_that_can_not_be_told_is_an_error(tmp_path: Path) -> None:
    project = project_of(tmp_path, film(6))
    project.decisions.add("prompt", prompt="drawn-s000/000003", box=[10, 10, 60, 60])
    failures = project.run("ingest", "segment").failures
    assert len(failures) == 6 and all("can't be told" in one.reason for one in failures)
    assert "drawn-s000/000003" in failures[0].reason


def test_a_setting_of_the_nets_makes_nothing_again_that_motion_made(tmp_path: Path) -> None:
    project = project_of(tmp_path, drawn.shot(62, 6).frames)
    project.run("ingest", "segment")
    again = bglora.open(project.root, given=("segment.window=5", "segment.sam2=other", "segment.redetect=3"), jobs=1)
    assert again.run("segment").items == 0


def test_other_weights_at_the_same_place_make_the_masks_again(tmp_path: Path) -> None:
    from tests.backends.tiny_sam2 import write_sam2

    folder = write_sam2(tmp_path / "sam2")
    given = ("segment.backend=sam2", f"segment.sam2={folder}", "segment.targets=[]")
    project = project_of(tmp_path, film(4), *given)
    project.run("ingest", "segment")
    assert project.run("segment").items == 0
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert project.run("segment").items == 1
