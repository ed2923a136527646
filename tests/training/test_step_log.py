"""What a person watches while it trains: TensorBoard's events and step times, which change nothing of the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bglora.backends.train.native import LOGS
from bglora.training.job import Paused
from bglora.training.step_log import StepClock, StepLog
from tests.training.tiny_job import Watcher, tiny_job, train


def events(folder: Path) -> list[Any]:
    """All events of a folder's files, in the order in which they were begun (TFRecord: length, its sum, data, sum)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def curve(told: list[Any], tag: str) -> list[tuple[int, float]]:
    return [(one.step, value.simple_value) for one in told for value in one.summary.value if value.tag == tag]


def test_events_tell_the_curve_of_the_record_and_resuming_goes_on_in_the_same_place(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, checkpoint_every=100)
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path, 3))
    watcher = Watcher(tmp_path)
    record = train(job, watcher).record
    folder = watcher.root / LOGS / "scene-00" / "1"
    told = events(folder)
    assert len(list(folder.glob("events.*"))) == 2
    assert [one.step for one in told if one.HasField("session_log")] == [5]  # what the first had later is purged
    for place, tag in ((1, "loss"), (2, "validation"), (3, "learning_rate")):
        expected = [(point[0], pytest.approx(point[place])) for point in record["curve"] if point[place] is not None]
        assert curve(told, tag) == expected
    notes = [json.loads(line) for line in (folder / "steps.jsonl").read_text("utf-8").splitlines()]
    assert [note["step"] for note in notes] == [3, 4, 6]  # where losses were read: looks, and the stop
    assert all(note["seconds"] > 0 for note in notes)
    assert [step for step, _ in curve(told, "seconds")] == [3, 4, 6]


def test_a_training_that_starts_anew_leaves_the_logs_of_the_one_before(tmp_path: Path) -> None:
    for resumed, number in ((False, "1"), (True, "1"), (False, "2"), (True, "2")):
        log = StepLog(tmp_path, resumed=resumed, events=True)
        log.started(0)
        log.point(1, loss=0.5, validation=None)
        log.close()
        assert log.folder == tmp_path / number
        assert curve(events(tmp_path / number), "loss")[-1] == (1, 0.5)
    assert not (tmp_path / "1/steps.jsonl").exists()  # nobody measured


def test_without_the_library_it_says_so_and_keeps_the_step_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    log = StepLog(tmp_path, resumed=False, events=True)
    log.started(3)
    log.point(4, loss=0.5, seconds=0.1)
    log.close()
    assert "pip install tensorboardX" in log.lacking
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["steps.jsonl"]
    assert StepLog(tmp_path, resumed=True, events=False).lacking == ""


def test_steps_are_timed_without_what_comes_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 4.0, 100.0, 106.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = StepClock()
    clock.stepped(2)
    clock.go_on()
    clock.stepped(3)
    assert clock.mean() == 2.0
    assert clock.mean() is None
