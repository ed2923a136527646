"""ingest as a stage: films, folders and layers in; shots, frames and what is said about them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bglora.engine.events import Event, ItemProgress
from bglora.engine.runner import Runner, RunRequest, RunResult
from bglora.engine.stopping import Stopping
from bglora.engine.view import LedgerView
from bglora.errors import Interrupted, UserError
from bglora.film import open_source
from bglora.film.png import read_picture, write_png
from bglora.settings import Settings
from bglora.stages.ingest import Ingest
from tests.film.films import scene, scenes, write_film
from tests.film.test_png import bomb

EVERY = {"fps": 0, "max_per_shot": 0}


class Project:
    """A folder with the stage alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(exist_ok=True)

    def run(
        self,
        films: list[str] | None = None,
        layers: list[str] | None = None,
        limit: int | None = None,
        **ingest: object,
    ) -> RunResult:
        tables = {"sources": {"films": films or [], "layers": layers or []}, "ingest": ingest or EVERY}
        self.runner = Runner(self.root, [Ingest()], Settings.model_validate(tables), jobs=1)
        return self.runner.run(RunRequest(limit=limit))

    @property
    def shots(self) -> dict:
        return json.loads((self.root / "frames" / "shots.json").read_text(encoding="utf-8"))

    def frames(self) -> list[str]:
        folder = self.root / "frames"
        return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.png"))

    def records(self) -> list[dict]:
        lines = (self.root / "frames" / "frames.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def two_shots() -> list[np.ndarray]:
    return scenes(14, seed=1) + scenes(12, seed=2)


def test_a_film_gives_shots_and_every_frame(project: Project, tmp_path: Path) -> None:
    write_film(tmp_path / "pier.mp4", two_shots())
    result = project.run([str(tmp_path / "pier.mp4")])
    assert result.exit_code == 0
    shots = [(shot["name"], shot["source"], shot["first"], shot["last"]) for shot in project.shots["shots"]]
    assert shots == [("pier-s000", "pier", 0, 13), ("pier-s001", "pier", 14, 25)]
    assert project.frames() == [f"pier-s00{int(n >= 14)}/{n:06d}" for n in range(26)]
    record = next(line for line in project.records() if line["picture"] == "pier-s001/000014")["record"]
    assert (record["shot"], record["frame"], record["size"]) == ("pier-s001", 14, [96, 160])
    assert record["time"] == pytest.approx(14 / 24, abs=1e-3)


def test_a_second_run_makes_nothing_and_a_copy_has_the_same_bytes(project: Project, tmp_path: Path) -> None:
    film = write_film(tmp_path / "pier.mp4", two_shots())
    project.run([str(film)])
    assert project.run([str(film)]).items == 0
    other = Project(tmp_path / "other")
    other.run([str(film)])
    for path in sorted((project.root / "frames").rglob("*.*")):
        assert path.read_bytes() == (other.root / path.relative_to(project.root)).read_bytes()


def remark_of(project: Project, source: str) -> dict:
    with project.runner._ledger() as ledger:  # what later stages are handed as their view
        view = LedgerView(project.root, project.runner.settings, None, ledger)
        return dict(view.item_record("ingest", source))


def test_frames_can_be_decoded_again_by_what_was_recorded(project: Project, tmp_path: Path) -> None:
    (project.root / "sources").mkdir()
    film = write_film(project.root / "sources" / "a b.mp4", two_shots())
    project.run()
    name = project.shots["shots"][0]["source"]
    remark = remark_of(project, name)
    assert remark["titles"] == "a b"
    assert remark["path"] == "sources/a b.mp4"
    assert len(remark["digest"]) == 32
    with open_source(project.root, remark) as reader:
        assert reader.count == 26
        for number, picture in reader.frames(12, 16):
            shot = f"{name}-s{int(number >= 14):03d}"
            assert (picture == read_picture(project.root / "frames" / shot / f"{number:06d}.png")).all()
    film.unlink()
    with pytest.raises(UserError, match="not where it was"):
        open_source(project.root, remark)


def test_one_corrupt_picture_among_good_ones_is_a_failed_picture(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "shots" / "s1"
    for number, picture in enumerate(scenes(6)):
        write_png(folder / f"view {number + 8}.png", picture)
    (folder / "view 10.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    bomb(folder / "view 11.png")
    result = project.run([str(tmp_path / "shots")])
    assert result.exit_code == 1
    assert [failure.picture for failure in result.failures] == ["s1-s000/000002", "s1-s000/000003"]
    assert "view 10.png" in result.failures[0].reason
    assert "refused" in result.failures[1].reason
    assert project.frames() == [f"s1-s000/{n:06d}" for n in (0, 1, 4, 5)]
    assert project.shots["names"]["s1"][:3] == ["view 8.png", "view 9.png", "view 10.png"]
    assert (read_picture(project.root / "frames/s1-s000/000001.png") == scene(1)).all()


def test_frames_of_another_size_begin_another_shot(project: Project, tmp_path: Path) -> None:
    for number in range(8):
        write_png(tmp_path / "mixed" / f"{number}.png", scene(number, 96 if number < 5 else 64, 160))
    project.run([str(tmp_path / "mixed")])
    assert [(shot["first"], shot["last"]) for shot in project.shots["shots"]] == [(0, 4), (5, 7)]


def test_one_bad_source_does_not_stop_the_others(project: Project, tmp_path: Path) -> None:
    write_film(tmp_path / "good.mp4", two_shots())
    (tmp_path / "bad.mp4").write_text("no film at all")
    result = project.run([str(tmp_path / "bad.mp4"), str(tmp_path / "good.mp4")])
    assert result.exit_code == 1
    assert [failure.item for failure in result.failures] == ["bad"]
    assert len(project.frames()) == 26


def test_a_source_that_changes_is_ingested_again(project: Project, tmp_path: Path) -> None:
    film = write_film(tmp_path / "pier.mp4", two_shots())
    project.run([str(film)])
    write_film(film, scenes(9, seed=5))
    assert project.run([str(film)]).items == 1
    assert len(project.frames()) == 9
    film.unlink()
    with pytest.raises(UserError, match="no such film"):
        project.run([str(film)])
    assert len(project.frames()) == 9


def test_limit_spreads_the_pictures_over_the_shots(project: Project, tmp_path: Path) -> None:
    write_film(tmp_path / "pier.mp4", two_shots())
    project.run([str(tmp_path / "pier.mp4")], limit=4)
    frames = project.frames()
    assert len(frames) == 4
    assert {frame.split("/")[0] for frame in frames} == {"pier-s000", "pier-s001"}


def test_a_long_film_stops_between_frames_and_the_same_command_goes_on(project: Project, tmp_path: Path) -> None:
    write_film(tmp_path / "pier.mp4", scenes(60))
    settings = Settings.model_validate({"sources": {"films": [str(tmp_path / "pier.mp4")]}, "ingest": EVERY})
    stopping = Stopping(None)
    seen: list[ItemProgress] = []

    def hear(event: Event) -> None:
        if isinstance(event, ItemProgress):
            seen.append(event)
            stopping.interrupted = True

    with pytest.raises(Interrupted):
        Runner(project.root, [Ingest()], settings, jobs=1, listener=hear).run(stopping=stopping)
    assert seen
    assert not project.frames()
    project.run([str(tmp_path / "pier.mp4")])
    assert len(project.frames()) == 60


def test_layers_alone_keep_their_names_and_their_holes(project: Project, tmp_path: Path) -> None:
    for place, name in enumerate(["quay 2", "quay 10"]):
        picture = np.dstack([scene(place), np.full((96, 160), 255, np.uint8)])
        picture[20:50, 30:60] = 0
        write_png(tmp_path / "old" / "background" / f"{name}.png", picture)
    project.run(layers=[str(tmp_path / "old")], fps=2, max_per_shot=1)
    assert project.shots["names"]["old"] == ["background/quay 2.png", "background/quay 10.png"]
    assert len(project.frames()) == 2
    shown = read_picture(project.root / "frames" / f"{project.frames()[0]}.png")
    assert (shown[20:50, 30:60] == 0).all()
    remark = remark_of(project, "old")
    assert remark["kind"] == "layers"
    assert [row["frame"] for row in remark["layers"]["frames"]] == [0, 1]


def test_layers_of_a_film_are_listed_by_frame(project: Project, tmp_path: Path) -> None:
    write_film(tmp_path / "pier.mp4", two_shots())
    write_png(tmp_path / "old" / "pier-s001" / "000020.png", scene(20))
    project.run([str(tmp_path / "pier.mp4")], layers=[str(tmp_path / "old")])
    remark = remark_of(project, "pier")
    assert remark["layers"]["frames"][0]["background"] == "pier-s001/000020.png"
    assert remark["layers"]["frames"][0]["frame"] == 20
    project.run([str(tmp_path / "pier.mp4")], layers=[str(tmp_path / "old")], fps=2)
    assert "pier-s001/000020" in project.frames()
    assert len(project.frames()) == 2
