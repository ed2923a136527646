"""Twenty SIGKILLs at seeded moments in all stages of `bglora run --all`, each followed by the same command.

    python -m tests.bench.kills

The film is a short cut of harbor (three shots). Two projects are made; each is killed at a seeded moment of every
stage, of the long ones twice, then left to end. It has to equal, byte for byte, one that was never killed. Nothing
temporary may remain, and no item that was recorded may be made again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import bglora
from bglora.assets import asset
from bglora.engine.ledger import Ledger
from bglora.engine.opening import NAME, STATE
from bglora.stages import NAMES
from tests.bench.table import table, write_section

LIVES = 2
TARGETS = ("ingest", "segment", "segment", "inpaint", "cluster", "caption", "train", "train", "test", "compose")
"""Stages in which each project is killed, in this order."""
FRAMES = 74
"""The first three shots of harbor."""

FAST = {
    "train.max_steps": "12", "train.resolution": "64", "train.checkpoint_every": "3", "train.samples": "1",
    "train.sample_steps": "2", "test.seeds": "1", "test.steps": "2", "test.scales": "[0.0, 1.0]",
    "compose.pictures": "1", "compose.steps": "2", "ingest.fps": "4",
}  # fmt: skip
"""Settings with which training and painting take seconds."""

LEFT_BEHIND = {"ledger.sqlite", "lock", "logs", "cache"}
"""What may lie in .bglora after a run; in the cache, finished entries only."""


def short_film(path: Path, frames: int = FRAMES) -> Path:
    """The first frames of harbor as a film of its own."""
    import av

    with av.open(str(asset("harbor.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"crf": "14", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 512, 288, "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if number == frames:
                break
            frame.pts, frame.time_base = number, Fraction(1, 24)
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode(None))
    return path


def command(root: Path) -> list[str]:
    given = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "bglora", "-C", str(root), "run", "--all", "--json", "--jobs", "2", *given]


def start(root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )  # fmt: skip


def recorded(root: Path) -> dict[tuple[str, str], str]:
    """(stage, item) → fingerprint of what the ledger holds."""
    path = root / STATE / NAME
    if not path.exists():
        return {}
    ledger = Ledger(path)  # also takes in what the write-ahead log of the killed run holds
    try:
        return {(stage, name): row.fingerprint for stage in NAMES for name, row in ledger.items(stage).items()}
    finally:
        ledger.close()


def contents(root: Path) -> dict[str, bytes]:
    """Everything but .bglora and the report, by path."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file())
    inside = {path.relative_to(root): path for path in found}
    return {
        name.as_posix(): path.read_bytes() for name, path in inside.items() if name.parts[0] not in (STATE, "report")
    }


def ended(root: Path) -> tuple[float, list[dict[str, Any]]]:
    """Lets the command end; its seconds and its events."""
    began = time.perf_counter()
    process = start(root)
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return time.perf_counter() - began, [json.loads(line) for line in out.splitlines()]


def killed(root: Path, stage: str, delay: float) -> list[dict[str, Any]]:
    """Kills the command `delay` seconds after it begins to work on a stage; its events until then."""
    process = start(root)
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "stage-started" and events[-1]["stage"] == stage:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return events + [json.loads(line) for line in rest.splitlines() if line.endswith("}")]


def started(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(stage, item) of the items that were begun."""
    return [(one["stage"], one["item"]) for one in events if one["event"] == "item-started"]


@dataclass
class Life:
    """What the kills of one project showed."""

    kills: list[str]
    twice: list[tuple[str, str]]
    different: list[str]
    left: list[str]


def live(
    root: Path,
    chance: random.Random,
    seconds: Mapping[str, float],
    clean: Mapping[str, bytes],
    targets: Iterable[str] = TARGETS,
) -> Life:
    """Kills the command in each target stage, then lets it end and compares.

    Args:
        seconds: how long each stage takes when it is left alone.
        clean: what a run that was never killed made.
    """
    kills, twice = [], []
    for stage in targets:
        before, delay = recorded(root), chance.uniform(0.0, 0.9) * seconds[stage]
        events = killed(root, stage, delay)
        twice += repeated(before, recorded(root), events)
        kills.append(f"{stage} {delay:.1f} s")
    before = recorded(root)
    twice += repeated(before, recorded(root), ended(root)[1])
    here = contents(root)
    different = sorted(path for path in here.keys() | clean.keys() if here.get(path) != clean.get(path))
    left = [path.name for path in (root / STATE).iterdir() if path.name not in LEFT_BEHIND]
    left += [path.name for path in (root / STATE / "cache").rglob("*.safetensors.*")]
    return Life(kills, twice, different, sorted(left))


def repeated(
    before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str], events: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Items that were begun although they had been recorded with the same fingerprint."""
    return [one for one in started(events) if one in before and before[one] == after.get(one, before[one])]


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-kills-"))
    try:
        film = short_film(folder / "cut.mp4")
        first = bglora.init(folder / "cut", films=[film], preset="cpu").root
        lives = [folder / f"life-{k}" / "cut" for k in range(LIVES)]
        for root in lives:
            shutil.copytree(first, root)
        whole, events = ended(first)
        seconds = {one["stage"]: one["seconds"] for one in events if one["event"] == "stage-finished"}
        clean = contents(first)
        chance = random.Random(7)
        found = [live(root, chance, seconds, clean) for root in lives]
        rows = [
            [f"project {k + 1}", ", ".join(one.kills), *(str(len(v)) for v in (one.different, one.twice, one.left))]
            for k, one in enumerate(found)
        ]
        kills = sum(len(one.kills) for one in found)
        head = ["", "killed so long after a stage began", "files that differ", "items made twice", "left behind"]
        note = f"""\
{kills} kills of `bglora run --all --jobs 2` on the first {FRAMES} frames of the sample film ({len(clean)} files,
{whole:.0f} s when left alone, training of {FAST["train.max_steps"]} steps a scene included)."""
        write_section("Killed at any moment", "python -m tests.bench.kills", table(head, rows), note)
        if any(one.different or one.twice or one.left for one in found):
            raise SystemExit(f"a killed run did not end as one that was never killed: {found}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
