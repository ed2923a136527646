"""What is made again, what is not, and what is said about it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bglora.engine.runner import RunRequest
from tests.engine.projects import Project
from tests.engine.toys import Split, contents


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "p")
    made.source("a", "one", "two")
    made.source("b", "three")
    made.run()
    return made


def test_a_second_run_makes_nothing_and_changes_no_byte(project: Project) -> None:
    before = contents(project.root)
    assert project.started() == []
    assert project.runner().plan().fresh
    assert contents(project.root) == before


def test_a_changed_setting_is_named_with_both_values(project: Project) -> None:
    project.settings["double.times"] = 3
    assert project.why("double") == {name: ["settings changed: double.times 2 → 3"] for name in "ab"}
    assert project.started() == [("double", "a"), ("double", "b"), ("join", "all")]


def test_a_setting_that_an_item_does_not_read_changes_nothing(project: Project) -> None:
    project.settings["train.steps"] = 99
    assert project.started() == []


def test_an_input_that_changed_is_named(project: Project) -> None:
    project.source("a", "one", "zwei")
    assert project.why("split") == {"a": ["input changed: sources/a.txt"]}
    assert project.plan("double").waits_for == ("split",)
    assert project.started() == [("split", "a"), ("double", "a"), ("join", "all")]


def test_the_same_content_made_again_stops_there(project: Project) -> None:
    project.source("b", "three\n")
    assert project.started() == [("split", "b")]


def test_newer_code_is_named(project: Project) -> None:
    class Newer(Split):
        version = 2

    project.stages = [Newer(), *project.stages[1:]]
    assert project.why("split") == {name: ["code changed (split 1 → 2)"] for name in "ab"}


def test_an_edit_is_kept_said_and_seen_by_what_follows(project: Project) -> None:
    project.edit("lines/a/00.txt", "mine")
    assert project.plan("split").edited == ("lines/a/00.txt",)
    assert project.runner().status()[0].edited == ("lines/a/00.txt",)
    assert project.started() == [("double", "a"), ("join", "all")]
    assert "edited by you and kept lines/a/00.txt" in project.notices()
    assert project.read("doubled/a/00.txt") == "minemine"
    project.settings["split.upper"] = True
    project.run()
    assert project.read("lines/a/00.txt") == "mine"
    assert project.read("lines/a/01.txt") == "TWO"


def test_an_edit_taken_back_is_no_edit(project: Project) -> None:
    project.edit("lines/a/00.txt", "mine")
    project.edit("lines/a/00.txt", "one")
    assert project.plan("split").edited == ()
    assert project.started() == []


def test_overwrite_edits_makes_the_output_again(project: Project) -> None:
    project.edit("lines/a/00.txt", "mine")
    project.run(RunRequest(overwrite_edits=True))
    assert project.read("lines/a/00.txt") == "one"
    assert project.plan("split").edited == ()


def test_an_edited_summary_is_kept(project: Project) -> None:
    project.edit("lines/all.json", "[]")
    project.source("c", "new")
    project.run()
    assert project.read("lines/all.json") == "[]"
    assert "lines/all.json" in project.notices()
    project.run(RunRequest(overwrite_edits=True))
    assert "c/00" in project.read("lines/all.json")


def test_a_deleted_output_is_made_again(project: Project) -> None:
    (project.root / "lines/a/01.txt").unlink()
    assert project.why("split") == {"a": ["output missing: lines/a/01.txt"]}
    assert project.started() == [("split", "a")]


def test_an_output_emptied_by_a_power_failure_is_no_edit(project: Project) -> None:
    project.edit("lines/a/01.txt", "")
    assert project.started() == [("split", "a")]
    assert project.read("lines/a/01.txt") == "two"


def test_orphans_are_moved_away_but_edited_ones_stay(project: Project) -> None:
    project.edit("doubled/b/00.txt", "mine")
    (project.root / "sources/b.txt").unlink()
    assert project.plan("split").orphans == ("b",)
    project.run()
    assert not (project.root / "lines/b").exists()
    assert (project.root / ".bglora/orphans/lines/b/00.txt").read_text() == "three"
    assert project.read("doubled/b/00.txt") == "mine"
    assert project.read("joined/all.txt") == "oneone+twotwo"


def test_a_picture_that_is_no_longer_made_takes_its_output_away(project: Project) -> None:
    project.dropped.add("a/01")
    project.run()
    assert not (project.root / "doubled/a/01.txt").exists()
    assert project.plan("double").drops == {"dropped by you": 1}


def test_a_decision_is_a_reason(project: Project) -> None:
    project.dropped.add("a/01")
    assert project.why("double") == {"a": ["decision changed: a/01"]}


def test_a_failed_picture_is_tried_again_only_when_asked_or_changed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("a", "one", "bad")
    assert project.run().exit_code == 1
    assert project.started() == []
    assert project.run().exit_code == 1
    project.retries["a/*"] = 1
    assert project.why("double") == {"a": ["retry"]}
    assert project.started() == [("double", "a")]
    assert project.started() == []
    project.retries["a/*"] = 2
    assert project.started() == [("double", "a")]
    assert ("double", "a") in project.started(RunRequest(retry=True))
    project.source("a", "one", "good")
    assert project.run().exit_code == 0


def test_one_crash_fails_its_item_alone_and_leaves_a_traceback(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source("a", "boom")
    project.source("b", "fine")
    result = project.run()
    assert [(one.picture, one.reason.split(" (")[0]) for one in result.failures] == [
        ("a/00", "Making it crashed: RuntimeError: the line says boom")
    ]
    assert project.read("joined/all.txt") == "finefine"
    logs = list((tmp_path / ".bglora/logs").iterdir())
    assert len(logs) == 1 and "Traceback" in logs[0].read_text()


def test_without_a_ledger_the_work_is_found_by_content(project: Project) -> None:
    project.edit("lines/a/00.txt", "mine")
    project.run()
    before = contents(project.root)
    shutil.rmtree(project.root / ".bglora")
    assert project.plan("split").edited == ("lines/a/00.txt",)
    assert not (project.root / ".bglora").exists()
    assert project.started(RunRequest(stages=("split",))) == []
    assert project.started() == []
    assert contents(project.root) == before
    project.settings["double.times"] = 3
    assert project.why("double")["a"] == ["settings changed: double.times 2 → 3"]


def test_without_a_ledger_a_change_is_noticed_though_not_which(project: Project) -> None:
    shutil.rmtree(project.root / ".bglora")
    project.settings["double.times"] = 3
    assert project.why("double")["a"] == ["changed since the ledger was lost"]


def test_a_project_copied_whole_stays_fresh(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.root, tmp_path / "q", copy_function=shutil.copyfile)
    assert Project(tmp_path / "q").started() == []


def test_only_and_limit_leave_the_rest_as_it_is(project: Project) -> None:
    project.settings["double.times"] = 3
    project.source("c", "new")
    (project.root / "sources/b.txt").unlink()
    assert project.started(RunRequest(only="a/*")) == [("double", "a")]
    assert project.plan("double", RunRequest(only="a/*")).skipped == 0
    assert (project.root / "lines/b/00.txt").exists()
    assert not (project.root / "lines/c").exists()
    project.run(RunRequest(limit=1))
    assert (project.root / "lines/b/00.txt").exists()


def test_status_counts_pictures_and_time(project: Project) -> None:
    project.source("a", "one", "two", "", "bad")
    project.run()
    double = project.runner().status()[1]
    assert (double.made, double.dropped, double.failed, double.todo) == (3, 1, 1, 0)
    assert double.drops == {"empty": 1} and double.failures == {"a bad line": 1}
    assert double.seconds_spent > 0
    project.settings["double.times"] = 9
    double = project.runner().status()[1]
    assert double.todo == 5 and double.seconds_left is not None and double.seconds_left > 0


def test_a_missing_input_fails_its_item_until_it_is_back(project: Project) -> None:
    text = project.read("lines/a/00.txt")
    (project.root / "lines/a/00.txt").unlink()
    result = project.run(RunRequest(stages=("double",)))
    assert {one.reason for one in result.failures} == {"An input is missing. (lines/a/00.txt)"}
    project.edit("lines/a/00.txt", text)
    assert project.run(RunRequest(stages=("double",))).exit_code == 0


def test_a_large_project_status_still_sees_files_that_came_or_went(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bglora.engine.runner.MANY", 0)
    assert [one.todo for one in project.runner().status()] == [0, 0, 0]
    (project.root / "lines/a/01.txt").unlink()
    assert project.runner().status()[0].todo == 1
    project.run()
    replacement = project.root / "lines/a/new"
    replacement.write_text("mine")
    replacement.replace(project.root / "lines/a/01.txt")
    assert project.runner().status()[0].edited == ("lines/a/01.txt",)
