"""A project on the real stages outlives a lost ledger, a move, an edit, and a source that changes."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import bglora
from bglora.film.png import read_picture, write_png
from tests.whole.drawn_film import place, shot, write_film

GIVEN = ("ingest.fps=6", "cluster.min_cluster_size=2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two drawn shots, done up to its captions, with its film inside."""
    folder = tmp_path_factory.mktemp("finished")
    film = write_film(folder / "film.mp4", chain(shot(place(3), 20), shot(place(4), 20, seed=1)))
    root = bglora.init(folder / "project").root
    (root / "sources").mkdir(exist_ok=True)
    shutil.move(film, root / "sources" / "film.mp4")
    assert bglora.open(root, given=GIVEN, jobs=1).run(to="caption").exit_code == 0
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> bglora.Project:
    """A copy of the finished project at another place."""
    root = tmp_path / "elsewhere" / "project"
    shutil.copytree(finished, root)
    return bglora.open(root, given=GIVEN, jobs=1)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".bglora" not in path.relative_to(root).parts
    }


def test_a_copied_project_is_fresh(project: bglora.Project) -> None:
    assert project.run(to="caption").items == 0


def test_a_lost_ledger_is_rebuilt_by_content_and_nothing_is_redone(project: bglora.Project) -> None:
    before = contents(project.root)
    shutil.rmtree(project.root / ".bglora")
    assert project.run(to="caption").items == 0
    assert contents(project.root) == before


def test_a_run_from_nothing_gives_the_same_bytes(project: bglora.Project) -> None:
    before = contents(project.root)
    for name in ("frames", "segmented", "plates", "provenance", "scenes", "datasets", ".bglora"):
        shutil.rmtree(project.root / name)
    assert project.run(to="caption").exit_code == 0
    assert contents(project.root) == before


def test_a_retouched_plate_is_kept_and_reaches_the_dataset(project: bglora.Project) -> None:
    lines = (project.root / "datasets" / "caption.jsonl").read_text("utf-8").splitlines()
    chosen = next(row for row in map(json.loads, lines) if row["status"] == "made")["picture"]
    plate = project.root / "plates" / f"{chosen}.png"
    retouched = read_picture(plate)
    retouched[:10, :10] = (255, 0, 255)
    write_png(plate, retouched)
    edited = plate.read_bytes()
    assert project.run(to="caption").items > 0
    assert plate.read_bytes() == edited
    pictures = [read_picture(path) for path in (project.root / "datasets").glob("*/*/*.png")]
    assert any((picture[:10, :10] == (255, 0, 255)).all() for picture in pictures)


def test_an_edited_caption_is_never_overwritten(project: bglora.Project) -> None:
    caption = next((project.root / "datasets").glob("*/*/*.txt"))
    caption.write_text("my own words", encoding="utf-8")
    bglora.open(project.root, given=[*GIVEN, "caption.prefix=somewhere"], jobs=1).run(to="caption")
    assert caption.read_text("utf-8") == "my own words"


def test_a_dropped_plate_leaves_scene_and_dataset_and_comes_back(project: bglora.Project) -> None:
    scenes = project.root / "scenes" / "scenes.json"
    before = json.loads(scenes.read_text("utf-8"))
    victim = before["scenes"][0]["plates"][0]
    project.drop(victim, reason="too dark")
    project.run(to="caption")
    assert victim not in json.loads(scenes.read_text("utf-8"))["scenes"][0]["plates"]
    assert not list((project.root / "datasets").glob(f"*/*/{victim.replace('/', '_')}.png"))
    project.keep(victim)
    project.run(to="caption")
    assert json.loads(scenes.read_text("utf-8"))["scenes"] == before["scenes"]


def test_a_source_that_vanished_is_told_and_nothing_is_lost(project: bglora.Project) -> None:
    before = contents(project.root)
    (project.root / "sources" / "film.mp4").rename(project.root.parent / "film.mp4")
    with pytest.raises(bglora.UserError) as told:
        project.run(to="caption")
    assert told.value.cure
    after = contents(project.root)
    assert {name: data for name, data in before.items() if not name.startswith("sources/")} == after


def test_a_source_that_changed_is_worked_on_again(project: bglora.Project) -> None:
    write_film(project.root / "sources" / "film.mp4", chain(shot(place(3), 20), shot(place(9), 20, seed=1)))
    planned = project.plan(to="caption").stages[0]
    assert "film.mp4" in " ".join(planned.todo[0].reasons)
    assert project.run(to="caption").exit_code == 0
    last = sorted((project.root / "plates").glob("film-s001/*.png"))[-1]
    assert np.abs(read_picture(last).astype(int) - place(9)).mean() < 8
