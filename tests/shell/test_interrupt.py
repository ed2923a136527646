"""Ctrl-C in a real process: 130, three lines, everything done so far kept, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bglora
from tests.shell.conftest import ROOT, process

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole group of processes")


@pytest.fixture
def project(tmp_path: Path) -> bglora.Project:
    """Six shots in which a square walks; segmenting takes some seconds."""
    from PIL import Image

    random = np.random.default_rng(1)
    for shot in range(6):
        folder = tmp_path / "film" / f"walk{shot}"
        folder.mkdir(parents=True)
        ground = random.integers(40, 200, (18, 24, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
        for number in range(12):
            picture = ground.copy()
            picture[60:120, 10 + 15 * number : 50 + 15 * number] = (230, 30, 30)
            Image.fromarray(picture).save(folder / f"{number:03d}.png")
    return bglora.init(tmp_path / "project", films=[tmp_path / "film"])


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(project: bglora.Project) -> None:
    words = ["-C", str(project.root), "run", "--to", "segment", "--json", "--jobs", "1"]
    running = subprocess.Popen(
        [sys.executable, "-m", "bglora", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None and running.stderr is not None
    for line in running.stdout:
        event = json.loads(line)
        if event["event"] == "item-finished" and event["stage"] == "segment":
            running.send_signal(signal.SIGINT)
            break
    events = [json.loads(line) for line in running.stdout]
    told = running.stderr.read()
    assert running.wait(60) == 130, told
    assert (events[-1]["event"], events[-1]["exit_code"]) == ("error", 130)
    assert "Stopping after the items at hand" in told
    assert "kept" in told and "Traceback" not in told
    running.stdout.close()
    running.stderr.close()

    segment = next(one for one in project.status() if one.stage == "segment")
    assert segment.made > 0 and segment.items > 0
    again = process(*words, cwd=project.root)
    assert again.returncode == 0, again.stderr
    finished = [json.loads(line) for line in again.stdout.splitlines()]
    made = [one["item"] for one in finished if one["event"] == "item-finished" and one["stage"] == "segment"]
    assert len(made) == segment.items  # nothing that was done is done again
    assert not list((project.root / ".bglora").glob("scratch/*/*"))


def test_a_run_whose_time_is_up_ends_with_75(project: bglora.Project) -> None:
    words = ["-C", project.root, "run", "--to", "segment", "--jobs", "1"]
    first = process(*words, "--max-time", "0.1s", cwd=project.root)
    assert first.returncode == 75
    assert "--max-time" in first.stderr
    assert process(*words, cwd=project.root).returncode == 0
