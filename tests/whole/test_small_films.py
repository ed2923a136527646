"""Films that are smaller or emptier than anyone expects go through the pipeline and end with an answer."""

from __future__ import annotations

import json
import re
import sys
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

import bglora
from bglora.film.png import read_picture
from tests.whole.drawn_film import place, shot, write_film


def project_of(tmp_path: Path, film: Path, *given: str) -> bglora.Project:
    root = bglora.init(tmp_path / "project", films=[film]).root
    return bglora.open(root, given=["ingest.fps=0", "ingest.max_per_shot=0", *given], jobs=1)


def statuses(root: Path) -> dict[str, int]:
    lines = (root / "plates" / "plates.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line)["status"] for line in lines]
    return {status: found.count(status) for status in set(found)}


def test_a_film_of_one_shot_loses_its_walker_and_becomes_one_scene(tmp_path: Path) -> None:
    background = place(3)
    film = write_film(tmp_path / "walk.mp4", shot(background, 24))
    project = project_of(tmp_path, film)
    result = project.run(to="caption")
    assert result.exit_code == 0
    scenes = json.loads((project.root / "scenes" / "scenes.json").read_text("utf-8"))["scenes"]
    assert len(scenes) == 1
    plates = sorted((project.root / "plates").glob("*/*.png"))
    assert len(plates) >= 20
    error = np.mean([np.abs(read_picture(plate).astype(int) - background).mean() for plate in plates])
    assert error < 6, error
    middle = read_picture(project.root / "plates" / "walk-s000" / "000012.png")
    walker = np.abs(middle.astype(int) - background)[40:85, 70:105]
    assert walker.mean() < 6, "nothing of the walker or its shadow is left"


def test_a_film_without_characters_keeps_its_frames_bit_by_bit(tmp_path: Path) -> None:
    film = write_film(tmp_path / "empty.mp4", shot(place(5), 16, walker=False))
    project = project_of(tmp_path, film)
    assert project.run(to="caption").exit_code == 0
    assert statuses(project.root) == {"made": 16}
    for plate in (project.root / "plates").glob("*/*.png"):
        frame = project.root / "frames" / plate.relative_to(project.root / "plates")
        assert (read_picture(plate) == read_picture(frame)).all()
        provenance = cv2.imread(str(project.root / "provenance" / plate.relative_to(project.root / "plates")))
        assert (provenance == provenance[0, 0]).all()


def test_a_film_with_one_plate_a_scene_gives_scenes_with_a_notice(tmp_path: Path) -> None:
    shots = [shot(place(seed), 12, walker=False, seed=seed) for seed in (11, 22, 33)]
    film = write_film(tmp_path / "three.mp4", chain(*shots))
    root = bglora.init(tmp_path / "project", films=[film]).root
    project = bglora.open(root, given=["ingest.max_per_shot=1"], jobs=1)
    assert project.run(to="caption").exit_code == 0
    found = json.loads((root / "scenes" / "scenes.json").read_text("utf-8"))
    assert found["scenes"], "small films get a smaller minimum, not an empty result"
    assert sum(len(scene["plates"]) for scene in found["scenes"]) + len(found["noise"]) == 3


def test_a_film_of_one_frame_ends_with_a_reason(tmp_path: Path) -> None:
    film = write_film(tmp_path / "one.mp4", shot(place(8), 1))
    project = project_of(tmp_path, film)
    project.run(to="inpaint")
    line = json.loads((project.root / "segmented" / "segmented.jsonl").read_text("utf-8"))
    assert line["status"] == "dropped"
    assert "one frame" in line["reason"]
    assert not list((project.root / "plates").glob("*/*.png"))


def test_a_shot_of_one_frame_is_rescued_by_keeping_it(tmp_path: Path) -> None:
    film = write_film(tmp_path / "one.mp4", shot(place(8), 1, walker=False))
    project = project_of(tmp_path, film)
    project.run(to="inpaint")
    assert not list((project.root / "plates").glob("*/*.png"))
    project.keep("one-s000/*")
    assert project.run(to="inpaint").exit_code == 0
    assert statuses(project.root) == {"made": 1}
    plate = read_picture(project.root / "plates/one-s000/000000.png")
    assert (plate == read_picture(project.root / "frames/one-s000/000000.png")).all()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_film_with_a_hostile_name_goes_all_the_way_to_the_report(tmp_path: Path) -> None:
    name = "-.. <script>alert(1)<_script> 'q' \"漢字\""
    film = write_film(tmp_path / f"{name}.mp4", shot(place(5), 8, walker=False))
    project = project_of(tmp_path, film)
    assert project.run(to="caption").exit_code == 0
    shots = [path.name for path in (project.root / "plates").iterdir() if path.is_dir()]
    assert len(shots) == 1 and re.fullmatch(r"[A-Za-z0-9._-]+-s000", shots[0]) and not shots[0].startswith(("-", "."))
    assert "<script>alert" not in project.report().read_text("utf-8")
