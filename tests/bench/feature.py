"""A feature film: ingest to caption at 1/40 and at 1/10 of its length, and what all of it costs.

    python -m tests.bench.feature [--only film,places,report] [--folder DIR] [--parts 40,10] [--table]

The film takes seven minutes of processor time for each 1/40. Stopped or killed, the same command goes on in the same
folder, where the figures so far are kept, too; `--table` writes the tables from those alone, whatever is missing yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

import bglora
from tests.bench.feature_cost import STAGES, cost
from tests.bench.feature_film import FRAMES, MINUTES, make_film
from tests.bench.feature_places import many_plates
from tests.bench.feature_report import long_report
from tests.bench.table import table, write_section

LOOK = 0.5
"""Seconds between looks at the processes of a stage."""


@dataclass
class Spent:
    """What a stage took, all runs of it together.

    Attributes:
        cpu_s, wall_s: seconds. peak_mb: resident memory of all its processes at once.
        bytes: how much the project folder grew.
        ended: its last event `stage-finished`, with `kept`, the frames that it began with.
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
    spent.ended["items"] += spent.ended["fresh"]  # those of runs that were stopped, too
    spent.ended["kept"] = len(list((root / "frames").glob("*/*.png")))


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


def tables(measured: dict[int, Measured]) -> None:
    """Writes what is measured of parts of the film, by denominator, side by side; and what the whole film costs."""
    minutes = {part: MINUTES / part for part in measured}
    rows = []
    for stage in STAGES:
        found = {part: one.stages.get(stage, Spent()) for part, one in measured.items()}
        whole = {part: spent for part, spent in found.items() if spent.ended}
        cells = [[_cell(whole.get(part), pick, minutes[part]) for part in measured] for _, pick in FIGURES]
        rows.append([stage, *(cell for row in cells for cell in row)])
    sums = {part: sum(s.cpu_s for s in one.stages.values()) for part, one in measured.items() if _whole(one)}
    rest = [f"**{sums[part] / minutes[part]:.1f}**" if part in sums else "" for part in measured]
    rows.append(["**together**", *[""] * len(measured), *rest, *[""] * (2 * len(measured))])
    head = ["stage", *(f"{name}, 1/{part}" for name, _ in FIGURES for part in measured)]
    write_section("A feature film", "python -m tests.bench.feature --only film", table(head, rows), _note(measured))
    base = next((part for part, one in sorted(measured.items()) if _whole(one)), None)
    if base is not None:
        shown, arithmetic = cost(measured[base].stages, base)
        title = "A feature film: what it costs"
        write_section(title, "python -m tests.bench.feature --only film", shown, f"From 1/{base}. {arithmetic}")


def _items(spent: Spent, minutes: float) -> str:
    return f"{spent.ended['items']:.0f}"


FIGURES: tuple[tuple[str, Callable[[Spent, float], str]], ...] = (
    ("items", _items),
    ("CPU s a film minute", lambda spent, minutes: f"{spent.cpu_s / minutes:.1f}"),
    ("peak MB", lambda spent, minutes: f"{spent.peak_mb:.0f}"),
    ("MB a film minute", lambda spent, minutes: f"{spent.bytes / 1e6 / minutes:.2f}"),
)


def _cell(spent: Spent | None, pick: Callable[[Spent, float], str], minutes: float) -> str:
    return "–" if spent is None else pick(spent, minutes)


def _whole(measured: Measured) -> bool:
    return all(measured.stages.get(stage, Spent()).ended for stage in STAGES)


def _note(measured: dict[int, Measured]) -> str:
    lengths = " and ".join(f"{FRAMES // part:,} frames ({MINUTES / part:.1f} minutes, 1/{part})" for part in measured)
    missing = [f"{stage} of 1/{part}" for part, one in measured.items() for stage in STAGES
               if not one.stages.get(stage, Spent()).ended]  # fmt: skip
    left = f" Not measured to its end: {', '.join(missing)}." if missing else ""
    return f"""\
{lengths} of a made film: the sample film's shots and the real clips cut anew, graded, framed, mirrored and played at
other speeds (tests/bench/feature_film.py, seed 0), 512 x 288, preset cpu as `init` writes it, one process. Peak:
resident memory, libraries included. MB: what the project folder grew by.{left}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="film,places,report")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bglora-feature")
    parser.add_argument("--parts", default="40,10", help="which parts of the length, by their denominators")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="of the film: write the tables and run nothing")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if "film" in chosen:
        given.folder.mkdir(parents=True, exist_ok=True)
        parts = [int(part) for part in given.parts.split(",")]
        if not given.table:
            for part in parts:
                measure(given.folder, part, given.jobs, given.stages.split(","))
        tables({part: Measured(given.folder / f"film-{part}.json") for part in parts})
    if "places" in chosen:
        many_plates()
    if "report" in chosen:
        long_report()


if __name__ == "__main__":
    main()
