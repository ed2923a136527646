"""A feature film: ingest to caption at 1/40 and at 1/10 of its length, and what all of it costs.

    python -m tests.bench.feature [--folder DIR] [--parts 40,10] [--table]

It takes an hour of processor time for each 1/40. Stopped or killed, the same command goes on in the same folder, where
the figures so far are kept, too; `--table` writes the table from those alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

import bglora
from tests.bench.feature_film import FRAMES, make_film

STAGES = ("ingest", "segment", "inpaint", "cluster", "caption")
LOOK = 0.5
"""Seconds between looks at the processes of a stage."""


@dataclass
class Spent:
    """What a stage took, all runs of it together.

    Attributes:
        cpu_s, wall_s: seconds. peak_mb: resident memory of all its processes at once.
        bytes: how much the project folder grew.
        ended: its last event `stage-finished`.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    bytes: int = 0
    ended: dict[str, Any] = field(default_factory=dict)


class Measured:
    """Figures of one project, kept beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        told = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.stages = {name: Spent(**values) for name, values in told.items()}

    def keep(self) -> None:
        """Writes them down."""
        text = json.dumps({name: asdict(spent) for name, spent in self.stages.items()}, indent=1)
        self.path.with_suffix(".part").write_text(text, "utf-8")
        os.replace(self.path.with_suffix(".part"), self.path)


def measure(folder: Path, part: int, jobs: int, stages: Sequence[str] = STAGES) -> Measured:
    """Runs what is not done of a film of 1/part of the length, a stage at a time."""
    root = folder / f"film-{part}"
    film = folder / f"film-{part}.mp4"
    if not film.exists():
        os.replace(make_film(folder / f"part-{part}.mp4", FRAMES // part), film)
    if not (root / "project.toml").exists():
        bglora.init(root, films=[film], preset="cpu")
    measured = Measured(folder / f"film-{part}.json")
    for stage in stages:
        spent = measured.stages.setdefault(stage, Spent())
        if not spent.ended:
            before = _bytes(root)
            _run(root, stage, jobs, spent, measured)
            spent.bytes = _bytes(root) - before
            measured.keep()
    return measured


def _run(root: Path, stage: str, jobs: int, spent: Spent, measured: Measured) -> None:
    words = [sys.executable, "-m", "bglora", "-C", str(root), "--jobs", str(jobs), "--json", stage]
    cpu, wall, began = spent.cpu_s, spent.wall_s, time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        process = subprocess.Popen(words, stdout=told)
        kept = began
        while process.poll() is None:
            time.sleep(LOOK)
            seconds, peak = _tree(process.pid)
            spent.cpu_s, spent.wall_s = max(spent.cpu_s, cpu + seconds), wall + time.perf_counter() - began
            spent.peak_mb = max(spent.peak_mb, peak)
            if time.perf_counter() - kept > 10:
                kept = time.perf_counter()
                measured.keep()
        told.seek(0)
        events = [json.loads(line) for line in told]
    if process.returncode not in (0, 1):
        raise SystemExit(f"{stage} ended with {process.returncode}: {events[-1:]}")
    spent.ended = next(event for event in reversed(events) if event["event"] == "stage-finished")


def _tree(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MB of a process and its descendants, those that ended included in the seconds."""
    seconds, size = 0.0, 0.0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            size += process.memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
        if process.pid == pid:
            seconds += times.children_user + times.children_system
    return seconds, size


def _bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bglora-feature")
    parser.add_argument("--parts", default="40,10", help="which parts of the length, by their denominators")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for part in given.parts.split(","):
        measured = measure(given.folder, int(part), given.jobs, given.stages.split(","))
        print(json.dumps({name: asdict(spent) for name, spent in measured.stages.items()}, indent=1))


if __name__ == "__main__":
    main()
