"""Real processes: workers, kills, Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from bglora.engine.stage import Item, Outcome, Tools
from tests.engine.projects import Project, everything
from tests.engine.toys import Double, Split, contents

ROOT = Path(__file__).parents[2]
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


class Deadly(Double):
    """Its worker is killed, as by the system when memory runs out, as soon as `b` is made."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        if item.name == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().make(item, tools)


class Signed(Double):
    """Leaves word of the process that makes an item, beside the project."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        (tools.root.parent / "processes" / str(os.getpid())).mkdir(parents=True, exist_ok=True)
        time.sleep(0.2)
        return super().make(item, tools)


def start(root: Path, jobs: int, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.projects", str(root), str(jobs), str(pause)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def sources(project: Project) -> Project:
    for name in "abcd":
        project.source(name, *[f"{name} {k}" for k in range(5)], "bad")
    return project


def test_workers_make_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    one, two = sources(Project(tmp_path / "1", jobs=1)), sources(Project(tmp_path / "2", jobs=2))
    assert one.run().failures == two.run().failures
    assert contents(one.root) == contents(two.root)
    assert two.started() == []


@pytest.mark.parametrize("room", [None, 1, 2])
def test_a_stage_works_in_as_many_processes_as_a_card_has_room_for(tmp_path: Path, room: int | None) -> None:
    project = Project(tmp_path / "project", [Split(), Signed()], jobs=3)
    for name in "abcdef":
        project.source(name, "one")
    runner = project.runner()
    runner.room = lambda stage: room if stage == "double" else None
    assert runner.run().exit_code == 0
    seen = {int(path.name) for path in (tmp_path / "processes").iterdir()}
    assert seen == {os.getpid()} if room == 1 else len(seen) == (room or 3)


@unix
def test_a_worker_that_dies_fails_its_item_and_the_others_go_on(tmp_path: Path) -> None:
    project = Project(tmp_path, [Split(), Deadly()], jobs=2)
    for name in "abcd":
        project.source(name, "one")
    result = project.run()
    assert [one.item for one in result.failures] == ["b"]
    assert "Its worker process died: killed by SIGKILL." in result.failures[0].reason
    assert sorted(path.name for path in (tmp_path / "doubled").iterdir() if path.is_dir()) == ["a", "c", "d"]


@unix
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_at_any_moment_the_same_command_ends_the_same(tmp_path: Path, jobs: int) -> None:
    clean = sources(Project(tmp_path / "clean", everything()))
    clean.settings["pause"] = 0.0
    clean.run()
    project = sources(Project(tmp_path / "killed", everything()))
    chance = random.Random(jobs)
    for _ in range(3):
        process = start(project.root, jobs, 0.02)
        time.sleep(chance.uniform(0.1, 1.2))
        process.kill()
        process.communicate()
    recorded = project.fingerprints()
    out, errors = start(project.root, jobs, 0.0).communicate()
    assert out.startswith("started"), errors
    started = {(stage, item) for stage, _, item in (word.partition(":") for word in out.split()[1:])}
    after = project.fingerprints()
    assert not [one for one in started if one in recorded and recorded[one] == after[one]], "done twice"
    assert contents(project.root) == contents(clean.root)
    assert sorted(path.name for path in (project.root / ".bglora").iterdir()) == ["ledger.sqlite", "lock", "steps.log"]
    steps = (project.root / ".bglora/steps.log").read_text().splitlines()
    assert len(steps) <= 4 * 5 + 3, "more steps were repeated than were under way"


@unix
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_done_and_goes_on_later(tmp_path: Path, jobs: int) -> None:
    code = (
        "import sys; from pathlib import Path; from bglora.errors import BgloraError\n"
        "from tests.engine.projects import Project, everything\n"
        "if __name__ == '__main__':\n"
        f"    project = Project(Path(sys.argv[1]), everything(), jobs={jobs}); project.settings['pause'] = 0.1\n"
        "    runner = project.runner(); runner.listener = lambda e: print(e.kind, flush=True)\n"
        "    try: runner.run()\n"
        "    except BgloraError as error: print(error); raise SystemExit(error.exit_code)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    project = sources(Project(tmp_path / "p", everything()))
    process = subprocess.Popen(
        [sys.executable, str(script), str(project.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("item-progress") and (project.root / ".bglora/steps.log").exists():
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait() == 130, rest
    assert "Stopped by you" in rest and "Run the same command" in rest
    assert ("join", "all") in project.fingerprints()
    project.settings["pause"] = 0.0
    assert all(stage == "slow" for stage, _ in project.started())
    assert len((project.root / ".bglora/steps.log").read_text().splitlines()) == 4 * 5


@unix
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    project = sources(Project(tmp_path / "p", everything()))
    process = start(project.root, 1, 30.0)
    deadline = time.monotonic() + 30
    while not (project.root / ".bglora/steps.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "Stopped by you" in told
    project.settings["pause"] = 0.0
    assert project.run().exit_code == 1
    assert project.read("slow/a.txt") == "5 steps"
