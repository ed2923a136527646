"""The command, its server and its runs, as processes: decided in the page, run from it, found in the dataset."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import psutil
import pytest

import bglora
from bglora.errors import UserError
from bglora.review.running import LAST_WORDS, Listeners, Running, _last_words
from tests.shell.conftest import ROOT

PATIENCE = 120
"""Seconds for what takes some three on an idle machine."""


class Served:
    """`bglora review` in a process of its own, and a browser tab that listens."""

    def __init__(self, root: Path) -> None:
        self.root = root
        words = [sys.executable, "-m", "bglora", "-C", str(root), "--json", "--jobs", "1", "review", "--no-open"]
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.url = told["url"]
        self.base = self.url.partition("/?")[0]
        self.client = httpx.Client(timeout=PATIENCE)
        assert self.client.get(self.url).status_code == 303
        self.events: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self.heard("hello")["running"] is None

    def _listen(self) -> None:
        with (
            suppress(httpx.TransportError),
            self.client.stream("GET", f"{self.base}/api/events", timeout=None) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.events.put(json.loads(line[6:]))
        self.events.put({"event": "closed"})

    def heard(self, kind: str) -> dict[str, Any]:
        """The next event of a kind."""
        while True:
            event = self.events.get(timeout=PATIENCE)
            if event["event"] == kind:
                return event

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"{self.base}/api/state").json()
        return found

    def post(self, path: str, **values: Any) -> httpx.Response:
        headers = {"Origin": self.base, "X-Bglora": "1"}
        return self.client.post(f"{self.base}{path}", json=values, headers=headers)

    def act(self, act: str, **values: Any) -> dict[str, Any]:
        answer = self.post("/api/act", act=act, revision=self.state["revision"], **values)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def served(made: Path, tmp_path: Path) -> Iterator[Served]:
    shutil.copytree(made, tmp_path / "project")
    page = Served(tmp_path / "project")
    try:
        yield page
    finally:
        page.process.kill()
        page.process.wait()


@pytest.mark.skipif(os.name == "nt", reason="interrupts another process by a signal")
def test_what_is_decided_and_run_in_the_page_is_found_in_the_dataset_and_ctrl_c_ends_all(served: Served) -> None:
    first, second = (scene["id"] for scene in served.state["scenes"][:2])
    told = {name: one for name, one in served.state["plates"].items() if one["dataset"]}
    captioned = next(name for name, one in told.items() if one["scene"] == second)
    dropped = next(name for name, one in told.items() if one["scene"] == first)
    served.act("caption", plate=captioned, text="a quay at dusk")
    served.act("drop", items=[dropped])
    answer = served.act("merge", scenes=[first, second])
    assert any(line.startswith("cluster ") for line in answer["stale"])

    assert served.post("/api/run", to="nowhere").status_code == 400
    assert served.post("/api/run", to="caption").status_code == 200
    served.heard("changed")
    assert "at work" in served.post("/api/run", to="caption").json()["what"]
    assert served.state["running"] is not None
    stages = [served.heard("stage-started")["stage"] for _ in range(5)]
    assert stages == ["ingest", "segment", "inpaint", "cluster", "caption"]
    assert served.heard("run-ended")["exit_code"] == 0
    served.heard("changed")
    state = served.state
    assert state["running"] is None and [scene["id"] for scene in state["scenes"]] == [first]
    assert state["plates"][dropped]["reason"] == "dropped by you"
    texts = list((served.root / f"datasets/{first}").rglob("*.txt"))
    trigger = state["scenes"][0]["trigger"]
    own = next(path for path in texts if path.stem == captioned.replace("/", "_"))
    assert own.read_text(encoding="utf-8") == f"{trigger}, a quay at dusk\n", "it went along into the other scene"
    assert not any(path.stem == dropped.replace("/", "_") for path in texts)
    assert not (served.root / f"datasets/{second}").exists()

    assert "Nothing runs" in served.post("/api/stop").json()["what"]
    served.post("/api/run", to="caption")
    assert served.post("/api/stop").json()["running"]["stopping"]
    served.heard("run-ended")
    assert bglora.open(served.root).status()[0].made == 12, "stopped at any moment, nothing is lost"

    served.post("/api/run", to="caption")
    child = psutil.Process(served.process.pid).children()
    assert child
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(PATIENCE) == 0, "Ctrl-C is how it is meant to end"
    served.heard("closed")
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in child)


def test_of_two_tabs_that_start_a_run_at_once_one_is_told_and_no_file_lying_about_is_run(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "project")
    (tmp_path / "typer.py").write_text("open('executed', 'w')")
    monkeypatch.chdir(tmp_path)

    async def both() -> tuple[list[Any], list[dict[str, Any]]]:
        listeners, heard = Listeners(), []
        queue = listeners.join()
        running = Running(bglora.open(tmp_path / "project", jobs=1), listeners, lambda: None)
        starts = (running.start("ingest", None) for _ in range(2))
        answers = await asyncio.gather(*starts, return_exceptions=True)
        while not heard or heard[-1]["event"] != "run-ended":
            heard.append(await asyncio.wait_for(queue.get(), PATIENCE))
        return answers, heard

    (first, second), heard = asyncio.run(both())
    assert first is None and isinstance(second, UserError) and "at work" in second.what
    assert heard[-1]["exit_code"] == 0 and not (tmp_path / "executed").exists()


def test_what_a_run_says_aside_without_ends_of_lines_is_read_on() -> None:
    async def last() -> bytes:
        stream = asyncio.StreamReader(limit=1000)
        stream.feed_data(b"\r 1 %" * 2000 + b"\r the end")
        stream.feed_eof()
        return await _last_words(stream)

    told = asyncio.run(last())
    assert told.endswith(b"the end") and len(told) == LAST_WORDS


def test_without_its_packages_the_command_says_what_to_install(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "project")
    code = "import sys; sys.modules['starlette'] = None; from bglora.cli import run; sys.exit(run(sys.argv[1:]))"
    answer = subprocess.run(
        [sys.executable, "-c", code, "-C", str(tmp_path / "project"), "review", "--no-open"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )
    assert answer.returncode == 3
    what, _, cure = answer.stderr.splitlines()
    assert "starlette" in what and "bglora[review]" in cure
