"""What is printed: JSON lines by their schema, bars on a terminal, plain lines elsewhere, nothing that paints over."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bglora
from bglora.console.progress import WORKERS, Bars, Lines, StageState
from bglora.console.tables import plan_lines
from bglora.console.words import counted, duration, listed, number, safe, size
from bglora.engine.events import ItemFinished, ItemProgress, ItemStarted, StageFinished, StageStarted, WorkerChanged
from bglora.engine.plan import Plan, StagePlan, Verdict
from bglora.engine.stage import Item
from bglora.engine.status import by_kind
from bglora.project.memory import Need
from tests.shell.conftest import ROOT, Answer, process

Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def schema() -> Any:
    import jsonschema

    text = (Path(bglora.__file__).parent / "schema" / "events.json").read_text(encoding="utf-8")
    found = jsonschema.Draft202012Validator(json.loads(text))
    found.check_schema(found.schema)
    return found


def test_every_json_line_follows_the_schema(command: Command, frames: Path, schema: Any) -> None:
    answers = [
        command("--json", "init", "film", "--film", frames),
        *(
            command("-C", "film", "--json", *words)
            for words in (
                ["ingest", "--dry"],
                ["ingest", "--verbose"],
                ["ingest"],
                ["status"],
                ["plan"],
                ["get", "ingest"],
                ["set", "ingest.fps", "1"],
                ["settings", "train"],
                ["drop", "walk-s000/000000"],
                ["keep", "walk-s000/000000"],
                ["retry"],
                ["rename", "scene-00", "x"],
                ["merge", "scene-00", "scene-01"],
                ["split", "scene-00", "a"],
                ["clean"],
                ["doctor"],
                ["models"],
                ["set", "ingest.fps", "-1"],
                ["get", "ingest.fsp"],
                ["status", "--set", "a.b=1", "--set", "c.d=2"],
                ["--foo"],
                ["ingest", "--max-time", "x"],
            )
        ),
    ]
    kinds = set()
    for answer in answers:
        assert answer.out
        for line in answer.lines:
            schema.validate(line)
            kinds.add(line["event"])
    assert {"stage-started", "item-finished", "stage-finished", "result", "plan", "status", "error", "check"} <= kinds


def test_with_json_people_read_stderr(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    answer = command("-C", "film", "ingest", "--json")
    assert "Kept" in answer.err
    assert all(line.startswith("{") for line in answer.out.splitlines())
    failed = command("-C", "film", "get", "nothing", "--json")
    assert failed.lines[0]["exit_code"] == failed.code == 2
    assert failed.told[0] == failed.lines[0]["what"]
    wrong = command("-C", "film", "status", "--json", "--set", "a.b=1", "--set", "ingest.fps=-1")
    assert [one["key"] for one in wrong.lines[0]["mistakes"]] == ["a", "ingest.fps"]


def test_quiet_says_results_and_errors_alone(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    assert command("-C", "film", "ingest", "--quiet").out == ""
    told = command("-C", "film", "status", "--quiet").out
    assert all(what in told for what in ("frames", "masks", "sorted plates", "captions", "LoRAs", "grids", "pictures"))
    assert command("-C", "film", "foo", "--quiet").code == 2


def test_verbose_says_every_item_and_why(command: Command, frames: Path) -> None:
    command("init", "film", "--film", frames)
    assert "ingest: walk: new" in command("-C", "film", "ingest", "--verbose").out


def test_names_cannot_paint_the_terminal() -> None:
    assert safe("a\x1b[31mb\r\u202ec\x00") == "a\\x1b[31mb\\x0d\\u202ec\\x00"
    assert safe("漢字 [red]x[/red]\nnext") == "漢字 [red]x[/red]\nnext"


def test_markup_in_a_name_is_printed_as_it_is(command: Command) -> None:
    answer = command("-C", "[red]no[/red]\x1b[2J", "status")
    assert "[red]no[/red]\\x1b[2J" in answer.told[1]


def test_numbers_as_people_read_them() -> None:
    assert [duration(s) for s in (None, 0.04, 9.96, 59.4, 65, 3599.6, 7800)] == [
        "?", "0.0 s", "10 s", "59 s", "1 min 05 s", "1 h 00 min", "2 h 10 min",
    ]  # fmt: skip
    assert [size(b) for b in (3, 4200, 12e6, 3.42e9)] == ["3 B", "4.2 kB", "12 MB", "3.4 GB"]
    assert (number(5130), counted(1, "shot"), counted(2, "shot")) == ("5 130", "1 shot", "2 shots")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("nothing", "a", "a, b and c")


def test_a_plan_tells_stages_that_never_ran_from_those_that_may_have_more_to_do() -> None:
    work = Verdict(Item("all", pictures=("a-s000/000000",)), "", "", "", ("decision changed: a-s000/000000",))
    cluster = StagePlan("cluster", todo=(work,), seconds=4.0, bytes=0)
    caption = StagePlan("caption", fresh=4, waits_for=("cluster",))
    train = StagePlan("train", waits_for=("cluster", "caption"), note="There are no scenes.")
    need = Need(memory_gb=2.0, gpu_gb=0.0)

    def said(*stages: StagePlan) -> str:
        return "\n".join(
            str(line) for line in plan_lines(Plan(stages), dict.fromkeys(("cluster", "caption", "train"), need))
        )

    assert "All together: about 4.0 s, and whatever changes with it in caption." in said(cluster, caption)
    told = "about 4.0 s, and 1 stage without an earlier run to go by, and whatever changes with it in caption."
    assert told in said(cluster, caption, train)


def test_reasons_that_differ_in_names_and_figures_are_shown_as_one() -> None:
    copies = {f"near copy of a-s000/{number:06d}": 30 - number for number in range(12)}
    shares = {"a-s001 has given its share: 8 plates": 12, "a-s004 has given its share: 11 plates": 9}
    found = by_kind({"held out for validation": 4, **shares, **copies})
    assert found == {
        "near copy of a-s000/000000, and the like": sum(copies.values()),
        "a-s001 has given its share: 8 plates, and the like": 21,
        "held out for validation": 4,
    }
    assert list(found)[0].startswith("near copy")


def test_a_log_gets_a_line_now_and_then() -> None:
    clock = [0.0]
    said: list[str] = []
    lines = Lines(said.append, now=lambda: clock[0])
    started = StageStarted("segment", items=4, pictures=40, fresh=2, seconds_left=80)
    lines.started(started)
    state = StageState(started, now=lambda: clock[0])
    for item in range(4):
        state.item(ItemStarted("segment", f"harbor-s{item:03d}"))
        for part in range(100):
            clock[0] += 0.2
            state.item(ItemProgress("segment", f"harbor-s{item:03d}", part, 100))
            lines.moved(state)
        state.item(ItemFinished("segment", f"harbor-s{item:03d}", seconds_left=None))
    lines.finished(StageFinished("segment", 4, 2, 30, 9, 1, 80.0))
    assert said[0] == "segment: 4 shots to do, 2 fresh, about 1 min 20 s"
    assert said[-1] == "segment: 30 made, 9 dropped, 1 failed, 2 shots fresh (1 min 20 s)"
    assert len(said) == 2 + 5  # after a minute less often
    assert said[4].startswith("segment: 50%, 2 of 4 shots, about 40 s left (harbor-s00")
    assert all(len(line) <= 80 for line in said)


def test_time_left_is_known_from_earlier_runs_until_this_one_has_a_pace() -> None:
    clock = [0.0]
    state = StageState(StageStarted("train", 1, 1, 0, seconds_left=100.0), now=lambda: clock[0])
    assert state.left == 100.0
    clock[0] = 10.0
    assert state.left == 90.0
    state.item(ItemProgress("train", "scene-00", 50, 100))
    assert state.left == pytest.approx(10.0)
    assert state.pace == "3.0/min"


def terminal(words: list[str], cwd: Path, columns: int = 80, **environment: str) -> str:
    """Runs a command on a pseudo terminal and returns everything that it wrote."""
    pty = pytest.importorskip("pty", reason="no pseudo terminals here")
    import subprocess
    import sys

    mother, child = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "CI")}
    env |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    running = subprocess.Popen(
        [sys.executable, "-m", "bglora", *words], cwd=cwd, env=env, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    written = b""
    while True:
        try:
            part = os.read(mother, 65536)
        except OSError:  # Linux's way to say that the other end was closed
            break
        if not part:
            break
        written += part
    os.close(mother)
    assert running.wait(60) == 0, written.decode()
    return written.decode()


def test_a_terminal_shows_bars_and_clears_them(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    shown = terminal(["-C", "film", "ingest"], tmp_path)
    assert "\x1b[?25l" in shown and "\x1b[?25h" in shown  # the cursor is hidden and comes back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"✓ ingest +\d+ made +\d", plain)
    assert all(len(line.rstrip("\r")) <= 80 for line in re.split(r"[\r\n]+", plain))
    assert "Kept" in plain


def test_no_color_is_respected(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    command("-C", "film", "ingest")
    colors = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert not colors.search(terminal(["-C", "film", "status"], tmp_path, NO_COLOR="1"))
    assert colors.search(terminal(["-C", "film", "status"], tmp_path))


def test_a_pipe_gets_no_control_characters(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    answer = process("-C", "film", "ingest", cwd=tmp_path)
    assert answer.returncode == 0
    assert "\x1b" not in answer.stdout + answer.stderr and "\r" not in answer.stdout


def test_a_terminal_that_knows_no_unicode_gets_ascii(command: Command, frames: Path, tmp_path: Path) -> None:
    command("init", "film", "--film", frames)
    answer = process("-C", "film", "status", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert answer.returncode == 0, answer.stderr
    answer = process("-C", "film", "get", "project", "--json", cwd=tmp_path, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert json.loads(answer.stdout)["value"]["name"] == "film"


def cluster_at_work(count: int) -> StageState:
    state = StageState(StageStarted("train", 20, 20, 0))
    for rank in range(1, count + 1):
        item = f"scene-{rank:02d}"
        state.worker(WorkerChanged("train", f"gpu01 {rank}", "starting"))
        state.item(ItemStarted("train", item))
        state.worker(WorkerChanged("train", f"gpu01 {rank}", "working", item))
    state.item(ItemProgress("train", "scene-02", 40, 100, "step 40"))
    return state


def test_progress_shows_each_worker_of_a_cluster() -> None:
    state = cluster_at_work(2)
    state.worker(WorkerChanged("train", "gpu02 1", "starting"))
    assert state.hands() == ["gpu01 1: scene-01", "gpu01 2: scene-02 40% step 40", "1 starting"]
    state.worker(WorkerChanged("train", "gpu01 1", "lost", "scene-01", "its process died"))
    state.worker(WorkerChanged("train", "gpu02 1", "idle"))
    assert state.hands() == ["gpu01 2: scene-02 40% step 40"]
    many = cluster_at_work(12).hands()
    assert len(many) == WORKERS and many[-1] == "and 5 more"
    assert [line.partition(":")[0] for line in many[:3]] == ["gpu01 1", "gpu01 2", "gpu01 3"], "9 comes before 10"
    said: list[str] = []
    clock = [0.0]
    lines = Lines(said.append, now=lambda: clock[0])
    clock[0] = 1e3
    lines.moved(cluster_at_work(2))
    assert said == ["train: 2%, 0 of 20 scenes (gpu01 1: scene-01; gpu01 2: scene-02 40% step 40)"]


def test_bars_have_a_line_for_each_worker() -> None:
    import io

    from rich.console import Console as RichConsole

    out = io.StringIO()
    bars = Bars(RichConsole(file=out, force_terminal=True, width=100, color_system=None))
    bars.started(StageStarted("train", 20, 20, 0))
    bars.moved(cluster_at_work(2))
    bars._progress.refresh()  # type: ignore[union-attr]
    bars.close()
    assert "gpu01 1: scene-01" in out.getvalue() and "gpu01 2: scene-02 40% step 40" in out.getvalue()


def test_what_a_worker_does_follows_the_schema(schema: Any) -> None:
    for state in ("starting", "working", "idle", "lost"):
        schema.validate({"bglora": 1, **WorkerChanged("train", "gpu01 1", state).to_json()})
