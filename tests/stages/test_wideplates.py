"""Wide plates through the real engine: a pan's background wider than the frame, nobody in it, cut to buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import bglora
from bglora.film.png import read_grey, read_picture
from bglora.project import Project
from bglora.stages.wideplates import cuts
from bglora.training.buckets import bucket_sizes, cut_picture
from bglora.vision.metrics import psnr_db
from tests.stages.drawn_project import EVERYTHING, project_of, records
from tests.vision import drawn


def project_with_wide(root: Path, shot: drawn.Drawn) -> tuple[Project, dict[str, dict[str, Any]]]:
    """A project with wide plates, and the records of those."""
    project = project_of(root, shot.frames, "inpaint.wide=true")
    assert not project.run("ingest", "segment", "inpaint", "cluster").failures
    rows = records(project, "plates/plates.jsonl")
    return project, {name: row for name, row in rows.items() if "w" in name.rpartition("/")[2]}


def test_a_pan_gives_a_plate_wider_than_the_frame_that_is_the_drawn_panorama(tmp_path: Path) -> None:
    step, count = 8.0, 12
    shot = drawn.shot(33, count, pan=step)
    project, rows = project_with_wide(tmp_path, shot)
    assert len(rows) == 1
    name, row = next(iter(rows.items()))
    picture = read_picture(project.root / "plates" / f"{name}.png")
    provenance = read_grey(project.root / "provenance" / f"{name}.png")
    assert picture.shape[:2] == provenance.shape == tuple(row["record"]["size"])
    assert picture.shape[1] > 1.25 * drawn.WIDTH
    truth = np.clip(drawn.texture(33, width=drawn.WIDTH + int(step * count) + 8).round(), 0, 255).astype(np.uint8)
    _, _, (x, y), _ = cv2.minMaxLoc(cv2.matchTemplate(truth, picture, cv2.TM_SQDIFF))
    behind = truth[y : y + picture.shape[0], x : x + picture.shape[1]]
    assert psnr_db(picture, behind, provenance < 2) > 33
    off = np.abs(picture.astype(int) - behind).max(-1)[provenance < 2]
    assert (off > 30).mean() < 0.002  # nobody stands in it: the figure covers 3 % of a frame
    assert (provenance >= 2).mean() < 0.03  # behind the figure at the edge that leaves the view first
    assert len(row["record"]["made_of"]) >= 2
    rows = records(project, "scenes/plates.jsonl")
    assert rows[name]["record"]["scene"] == rows[f"{name[:-2]}"]["record"]["scene"]


def test_without_the_setting_and_on_a_still_shot_there_is_none(tmp_path: Path) -> None:
    _, rows = project_with_wide(tmp_path / "still", drawn.shot(31, 8))
    assert rows == {}
    project = project_of(tmp_path / "off", drawn.shot(33, 8, pan=8.0).frames)
    project.run("ingest", "segment", "inpaint")
    assert not [name for name in records(project, "plates/plates.jsonl") if "w" in name.rpartition("/")[2]]


def test_a_person_s_word_keeps_a_wide_plate_that_is_too_much_of_a_guess(tmp_path: Path) -> None:
    project, rows = project_with_wide(tmp_path, drawn.shot(33, 12, pan=8.0))
    ((name, row),) = rows.items()
    guessed = row["record"]["guessed"] + row["record"]["untrusted"]
    given = (*EVERYTHING, "inpaint.wide=true", f"inpaint.max_guessed={guessed - 1e-4}")
    strict = bglora.open(project.root, given=given, jobs=1)
    strict.keep("drawn-s000/0000??")  # its frames' own plates stay, and with them what it is made of
    strict.run("inpaint")
    row = records(strict, "plates/plates.jsonl")[name]
    assert row["status"] == "dropped" and "guess" in row["reason"]
    strict.keep(name)
    strict.run("inpaint")
    assert records(strict, "plates/plates.jsonl")[name]["status"] == "made"
    assert (strict.root / "plates" / f"{name}.png").is_file()


def test_wide_plates_carry_the_grain_that_is_asked_for(tmp_path: Path) -> None:
    step, count, flat = 8.0, 12, slice(0, 60)
    shot = drawn.shot(33, count, pan=step, noise=5.0)
    frames = [frame.copy() for frame in shot.frames]
    for k, frame in enumerate(frames):  # grain is measured where a picture is flat
        frame[flat] = np.clip(np.random.default_rng(k).normal(140, 5, frame[flat].shape).round(), 0, 255)
    noise = {}
    for grain in ("none", "match"):
        project = project_of(tmp_path / grain, frames, "inpaint.wide=true", f"inpaint.grain={grain}")
        assert not project.run("ingest", "segment", "inpaint").failures
        (name,) = [name for name in records(project, "plates/plates.jsonl") if "w" in name.rpartition("/")[2]]
        recovered = read_grey(project.root / "provenance" / f"{name}.png") == 1
        picture = read_picture(project.root / "plates" / f"{name}.png").astype(np.float32)
        noise[grain] = np.abs(cv2.Laplacian(picture, cv2.CV_32F))[recovered].mean()
    assert noise["match"] > 1.02 * noise["none"]


@pytest.mark.parametrize("resolution, step", [(1024, 64), (128, 32), (512, 0)])
@pytest.mark.parametrize("size", [(288, 700), (288, 560), (250, 1900), (500, 300)])
def test_cuts_have_a_buckets_shape_and_lie_inside(size: tuple[int, int], resolution: int, step: int) -> None:
    found = cuts(size, resolution, step)
    for top, left, height, width in found:
        assert top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
        cut = cut_picture((height, width), bucket_sizes(resolution, step))
        spare = (cut.resized[0] - cut.bucket[0]) / cut.bucket[0] + (cut.resized[1] - cut.bucket[1]) / cut.bucket[1]
        assert spare < 0.02
    assert [left for _, left, _, _ in found] == sorted({left for _, left, _, _ in found})
