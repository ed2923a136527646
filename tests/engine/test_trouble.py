"""Errors a person or a machine causes: three lines, the right exit code, nothing lost."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from bglora.engine.ledger import SCHEMA
from bglora.engine.lock import ProjectLock
from bglora.engine.runner import RunRequest
from bglora.engine.stage import Item, Outcome, Tools
from bglora.errors import BgloraError, MachineError, TimeIsUp, UserError
from tests.engine.projects import Project, Slow, everything
from tests.engine.toys import Double, Split, contents


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "p")
    made.source("a", "one", "two")
    return made


def three_lines(error: BgloraError) -> list[str]:
    lines = str(error).split("\n")
    assert len(lines) == 3 and all(lines), lines
    return lines


def test_a_ledger_of_a_newer_version_is_refused(project: Project) -> None:
    project.run()
    before = contents(project.root)
    path = project.root / ".bglora/ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    for work in (project.run, lambda: project.runner().plan(), lambda: project.runner().status()):
        with pytest.raises(UserError) as caught:
            work()
        what, where, cure = three_lines(caught.value)
        assert "newer bglora" in what and "ledger.sqlite" in where and "Update bglora" in cure
    assert contents(project.root) == before


@pytest.mark.parametrize("damage", ["garbage", "hole", "cut"])
def test_a_damaged_ledger_is_set_aside_and_nothing_is_redone(project: Project, damage: str) -> None:
    project.source("b", *["line"] * 200)
    project.run()
    path = project.root / ".bglora/ledger.sqlite"
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "garbage":
            file.write(b"not a database at all")
        elif damage == "hole":
            file.seek(4096)
            file.write(b"\xff" * (size - 8192))
        else:
            file.truncate(size // 2)
    assert project.started() == []
    assert "ledger.damaged-1" in project.notices()
    assert (project.root / ".bglora/ledger.damaged-1").exists()
    assert project.started() == []


def test_two_runs_at_once_are_refused_and_the_owner_is_named(project: Project) -> None:
    code = "import sys; from pathlib import Path; from bglora.engine.lock import ProjectLock\n"
    code += "with ProjectLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(project.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        with pytest.raises(UserError) as caught:
            project.run()
        what, where, cure = three_lines(caught.value)
        assert "Another run" in what and f"process {other.pid} on" in where and "since 20" in where
        assert [one.todo for one in project.runner().status()] == [1, 0, 0]
    finally:
        other.kill()
        other.wait()
    assert project.run().exit_code == 0


def test_the_lock_can_be_entered_again_by_its_own_thread(project: Project) -> None:
    with ProjectLock(project.root):
        assert project.run().exit_code == 0
    assert not (project.root / ".bglora/lock.json").exists()


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from bglora.engine.runner import Runner
from bglora.errors import UserError
from tests.engine.toys import pipeline
runner = Runner(Path(sys.argv[1]), pipeline(), {}, None, jobs=1)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    runner.run()
except UserError as error:
    print(error)
print([one.made for one in runner.status()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permissions here")
@pytest.mark.xdist_group("permissions")  # both open the same folder of temporary files to others, and close it again
@pytest.mark.parametrize("ran_before", [False, True])
def test_a_read_only_project_is_refused_in_three_lines_but_can_be_looked_at(project: Project, ran_before: bool) -> None:
    if ran_before:
        project.run()
    places = [project.root, *project.root.rglob("*")]
    parents = [place for place in project.root.parents if place.stat().st_uid == os.getuid() and place != Path("/")]
    modes = {place: place.stat().st_mode for place in (*places, *parents)}
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    for place in parents:
        place.chmod(modes[place] | 0o055)
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(project.root)], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    finally:
        for place, mode in modes.items():
            place.chmod(mode)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout + done.stderr
    assert lines[0] == "This place cannot be written."
    assert lines[3] == ("[2, 2, 1]" if ran_before else "[0, 0, 0]")


class FullDisk(Double):
    """The disk is full as soon as `b` is made."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        if item.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device", str(tools.scratch / "x"))
        return super().make(item, tools)


def test_a_full_disk_while_making_stops_the_run_and_keeps_what_is_done(project: Project) -> None:
    project.source("b", "three")
    project.source("c", "four")
    project.stages = [Split(), FullDisk()]
    with pytest.raises(MachineError) as caught:
        project.run()
    assert three_lines(caught.value)[0] == "The disk is full." and caught.value.exit_code == 3
    assert ("double", "a") in project.fingerprints()
    assert "a/00" in project.read("doubled/double-records.jsonl")
    project.stages = [Split(), Double()]
    assert project.started() == [("double", "b"), ("double", "c")]


@pytest.mark.parametrize("moves", range(6))
def test_a_disk_that_fills_up_while_files_are_put_in_place(
    project: Project, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    real, left = os.replace, moves

    def full(source: str, target: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MachineError):
        project.run()
    monkeypatch.undo()
    assert project.run().exit_code == 0
    clean = Project(project.root.parent / "clean")
    clean.source("a", "one", "two")
    clean.run()
    assert contents(project.root) == contents(clean.root)


def test_a_stage_that_would_not_fit_is_not_started(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    project.settings["double.times"] = 3
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1})())
    with pytest.raises(MachineError) as caught:
        project.run()
    assert "double would write about" in three_lines(caught.value)[0]


def test_a_source_that_vanishes_during_the_run_fails_alone(project: Project) -> None:
    class Vanishing(Split):
        def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
            (tools.root / "sources/b.txt").unlink(missing_ok=True)
            return super().make(item, tools)

    project.source("b", "three")
    project.stages = [Vanishing(), Double()]
    result = project.run()
    assert [one.item for one in result.failures] == ["b"]
    assert project.read("doubled/a/00.txt") == "oneone"


def test_time_is_up_and_the_same_command_goes_on(tmp_path: Path) -> None:
    project = Project(tmp_path, everything())
    project.source("a", "one")
    project.settings.update({"pause": 0.05, "slow.steps": 8})
    with pytest.raises(TimeIsUp) as caught:
        project.run(RunRequest(max_time=0.25))
    assert caught.value.exit_code == 75
    assert "slow: 0 of 1 items done" in three_lines(caught.value)[1]
    assert list((tmp_path / ".bglora/scratch/slow").iterdir())
    project.settings["pause"] = 0.0
    assert project.started() == [("slow", "a")]
    steps = (tmp_path / ".bglora/steps.log").read_text().split("\n")
    assert steps == [f"a {k}" for k in range(1, 9)] + [""], "steps were repeated"
    assert not (tmp_path / ".bglora/scratch").exists()


def test_kept_scratch_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    project = Project(tmp_path, [Split(), Slow()])
    project.source("a", "one")
    project.settings.update({"pause": 0.05, "slow.steps": 8})
    with pytest.raises(TimeIsUp):
        project.run(RunRequest(max_time=0.2))
    project.settings.update({"pause": 0.0, "slow.steps": 2})
    project.run()
    assert project.read("slow/a.txt") == "2 steps"
    assert (tmp_path / ".bglora/steps.log").read_text().endswith("a 1\na 2\n")
    assert not (tmp_path / ".bglora/scratch").exists()


class Rude(Split):
    """Names an output outside the project."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        return [Outcome("a/00", outputs=("../outside.txt",))]


class Forgetful(Split):
    """Names an output that it did not write."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        return [Outcome("a/00", outputs=("lines/nothing.txt",))]


@pytest.mark.parametrize(
    ("stage", "said"), [(Rude(), "may not be stored"), (Forgetful(), "was not written: lines/nothing.txt")]
)
def test_a_stage_that_breaks_the_rules_fails_its_item(project: Project, stage: Split, said: str) -> None:
    project.stages = [stage]
    (failure,) = project.run().failures
    assert said in failure.reason
    assert not (project.root.parent / "outside.txt").exists()


def test_an_unknown_stage_is_refused_with_the_known_ones(project: Project) -> None:
    with pytest.raises(UserError) as caught:
        project.run(RunRequest(stages=("inpant",)))
    assert "split, double, join" in three_lines(caught.value)[2]


class Careful(Double):
    """As Double, but a failure leaves what was made before."""

    keeps_earlier = True


@pytest.mark.parametrize(("doubling", "stays"), [(Careful(), True), (Double(), False)])
@pytest.mark.parametrize("line", ["boom", "bad"])
def test_a_failed_try_keeps_what_was_made_before_where_the_stage_says_so(
    tmp_path: Path, doubling: Double, stays: bool, line: str
) -> None:
    project = Project(tmp_path / "p", [Split(), doubling])
    project.source("a", "one", "two")
    project.run()
    before = contents(project.root)["doubled/a/01.txt"]
    project.source("a", "one", line)
    assert project.run().exit_code == 1
    assert (contents(project.root).get("doubled/a/01.txt") == before) is stays
    assert not project.started(), "what failed is not tried again by itself"
    project.source("a", "one", "three")
    assert project.run().exit_code == 0
    assert project.read("doubled/a/01.txt") == "threethree"
