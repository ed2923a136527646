"""Whatever happens between and within runs, the project ends as one clean run would have made it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bglora.engine import checkpoint
from bglora.engine.events import ItemStarted
from bglora.engine.runner import RunRequest
from tests.engine.projects import Project
from tests.engine.toys import contents

NAMES = st.sampled_from(["a", "b", "c"])
LINES = st.lists(st.sampled_from(["one", "two", "", "bad", "boom", "three"]), max_size=4)

MEMORY = Path("/dev/shm")
"""A disk in memory where there is one: thousands of small transactions wait for the disk otherwise."""


class Killed(BaseException):
    """As if the process died here: no `except Exception` of the engine may see it."""


class Lives(RuleBasedStateMachine):
    """A person and a power supply do what they want with a project."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="bglora-states-", dir=MEMORY if MEMORY.is_dir() else None))
        self.project = Project(self.folder / "project")
        self.edits: dict[str, str] = {}
        self.clean_since_kill = True

    @initialize(lines=LINES)
    def start(self, lines: list[str]) -> None:
        self.source("a", lines)

    @rule(name=NAMES, lines=LINES)
    def source(self, name: str, lines: list[str]) -> None:
        self.project.source(name, *lines)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        path = self.project.root / "sources" / f"{old}.txt"
        if path.exists():
            path.replace(path.with_name(f"{new}.txt"))

    @rule(name=NAMES)
    def remove_source(self, name: str) -> None:
        (self.project.root / "sources" / f"{name}.txt").unlink(missing_ok=True)

    @rule(upper=st.booleans(), times=st.integers(1, 3), glue=st.sampled_from(["+", "-"]))
    def set(self, upper: bool, times: int, glue: str) -> None:
        self.project.settings = {"split.upper": upper, "double.times": times, "join.with": glue}

    @rule(picture=st.sampled_from(["a/00", "a/01", "b/00", "c/02"]))
    def drop_or_keep(self, picture: str) -> None:
        self.project.dropped ^= {picture}

    def outputs(self) -> list[str]:
        skipped = ("sources/", ".jsonl")
        return [
            path for path in contents(self.project.root) if not path.startswith(skipped[0]) and skipped[1] not in path
        ]

    @precondition(lambda self: self.outputs())
    @rule(data=st.data(), text=st.sampled_from(["mine", "mine too"]))
    def edit(self, data: st.DataObject, text: str) -> None:
        path = data.draw(st.sampled_from(self.outputs()))
        (self.project.root / path).write_text(text, encoding="utf-8")
        self.edits[path] = text

    @precondition(lambda self: self.outputs())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(self.outputs()))
        (self.project.root / path).unlink()
        self.edits.pop(path, None)

    @precondition(lambda self: self.clean_since_kill)
    @rule()
    def delete_ledger(self) -> None:
        shutil.rmtree(self.project.root / ".bglora", ignore_errors=True)

    @rule(stage=st.sampled_from(["lines/split.jsonl", "doubled/double-records.jsonl"]))
    def delete_records_and_run(self, stage: str) -> None:
        if (self.project.root / ".bglora").exists():
            (self.project.root / stage).unlink(missing_ok=True)
            self.run()

    @rule()
    def move(self) -> None:
        """The whole folder is copied elsewhere, with new modification times."""
        before = self.project.fingerprints()
        target = self.folder / "elsewhere"
        shutil.copytree(self.project.root, target, copy_function=shutil.copyfile)
        shutil.rmtree(self.project.root)
        target.rename(self.project.root)
        assert self.project.fingerprints() == before

    @rule(after=st.integers(0, 25))
    def kill(self, after: int) -> None:
        left = after

        def strike(place: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed(place)

        checkpoint.listener = strike
        try:
            self.project.run()
        except Killed:
            self.clean_since_kill = False
        else:
            self.clean_since_kill = True
        finally:
            checkpoint.listener = None

    @rule()
    def kill_then_run(self) -> None:
        self.kill(7)
        before = self.project.fingerprints()
        started = self.project.started()
        self.clean_since_kill = True
        after = self.project.fingerprints()
        twice = [item for item in started if item in before and before[item] == after.get(item)]
        assert not [item for item in twice if not self.missing(item)], "a recorded item was done twice"

    def missing(self, item: tuple[str, str]) -> bool:
        reasons = [e.reasons for e in self.project.events if isinstance(e, ItemStarted) and (e.stage, e.item) == item]
        return any(reason.startswith("output missing") for one in reasons for reason in one)

    @rule()
    def run(self) -> None:
        self.project.run()
        self.clean_since_kill = True
        assert self.project.started() == [], "a second run redid something"
        assert self.project.runner().plan().fresh

    @rule(only=NAMES)
    def run_a_part(self, only: str) -> None:
        self.project.run(RunRequest(only=only))

    @rule()
    def look(self) -> None:
        before = contents(self.project.root)
        self.project.runner().status()
        assert contents(self.project.root).keys() >= {p for p in before if p.startswith("sources/")}

    @invariant()
    def nothing_half_written_is_seen(self) -> None:
        for path in self.outputs():
            assert not path.endswith(".tmp")

    def teardown(self) -> None:
        try:
            self.run()
            self.compare()
        finally:
            checkpoint.listener = None
            shutil.rmtree(self.folder, ignore_errors=True)

    def compare(self) -> None:
        clean = Project(self.folder / "clean")
        clean.settings, clean.dropped = self.project.settings, self.project.dropped
        for path in (self.project.root / "sources").iterdir():
            shutil.copy(path, clean.root / "sources" / path.name)
        clean.run()
        made: set[str] = set()
        while True:  # an edit of a line can bring pictures to life that were not there before it
            found = set(contents(clean.root))
            edited = [path for path in self.edits if path in found]
            for edit in edited:
                clean.edit(edit, self.edits[edit])
            clean.run()
            if made == set(edited):
                break
            made = set(edited)
        here, there = contents(self.project.root), contents(clean.root)
        kept_orphans = {path for path in here if path in self.edits and path not in there}
        assert {path: text for path, text in here.items() if path not in kept_orphans} == there
        state = self.project.root / ".bglora"
        assert not (state / "scratch").exists(), sorted(state.rglob("*"))


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=40,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)


def test_records_lines_are_json(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    (project.root / "sources" / "a.txt").write_text("one\ntwo")
    project.run()
    lines = [json.loads(line) for line in (project.root / "lines" / "split.jsonl").read_text().splitlines()]
    assert [line["picture"] for line in lines] == ["a/00", "a/01"]
    assert lines[0]["outputs"].keys() == {"lines/a/00.txt"}
