"""Twenty SIGKILLs at seeded moments of `bglora run --all`, each followed by the same command.

    python -m tests.bench.kills

The film is a short cut of harbor (three shots). Several projects are made, each is killed a few times and then left to
end; it has to be equal, byte for byte, to one that was never killed. Nothing temporary may remain, and no item that
was recorded may be made again.
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
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import bglora
from bglora.assets import asset
from bglora.engine.ledger import Ledger
from bglora.engine.opening import NAME, STATE
from bglora.stages import NAMES
from tests.bench.table import table, write_section

LIVES, KILLS = 5, 4
FRAMES = 74
"""The first three shots of harbor."""

FAST = {
    "train.max_steps": "12", "train.resolution": "64", "train.checkpoint_every": "3", "train.samples": "1",
    "train.sample_steps": "2", "test.seeds": "1", "test.steps": "2", "test.scales": "[0.0, 1.0]",
    "compose.pictures": "1", "compose.steps": "2", "ingest.fps": "4",
}  # fmt: skip
"""Settings with which training and painting take seconds."""

LEFT_BEHIND = {"ledger.sqlite", "lock", "logs"}
"""What may lie in .bglora after a run."""


def short_film(path: Path) -> Path:
    """The first frames of harbor as a film of its own."""
    import av

    with av.open(str(asset("harbor.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24, options={"crf": "14", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 512, 288, "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if number == FRAMES:
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


def ended(root: Path) -> tuple[float, list[tuple[str, str]]]:
    """Lets the command end; its seconds and the items that it made."""
    began = time.perf_counter()
    process = start(root)
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return time.perf_counter() - began, started(out)


def started(out: str) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in out.splitlines() if '"item-started"' in line]
    inner = [event.get("data", event) for event in events]
    return [(one["stage"], one["item"]) for one in inner]


@dataclass
class Killed:
    """What the kills of one project showed."""

    kills: int
    stages: list[str]
    twice: list[tuple[str, str]]
    different: list[str]
    left: list[str]


def live(root: Path, chance: random.Random, whole: float, clean: dict[str, bytes]) -> Killed:
    """Kills the command some times, then lets it end and compares."""
    kills, stages, twice = 0, [], []
    while kills < KILLS:
        before = recorded(root)
        process = start(root)
        try:
            process.wait(timeout=chance.uniform(0.05, 1.6 / KILLS) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        after = recorded(root)
        twice += [one for one in started(out) if one in before and before[one] == after.get(one)]
        stages.append(next((name for name in reversed(NAMES) if any(stage == name for stage, _ in after)), "start"))
        if process.returncode == 0:
            break
        kills += 1
    before = recorded(root)
    _, made = ended(root)
    after = recorded(root)
    twice += [one for one in made if one in before and before[one] == after.get(one)]
    here = contents(root)
    different = sorted(path for path in here.keys() | clean.keys() if here.get(path) != clean.get(path))
    left = sorted(path.name for path in (root / STATE).iterdir() if path.name not in LEFT_BEHIND)
    return Killed(kills, stages, twice, different, left)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-kills-"))
    try:
        film = short_film(folder / "cut.mp4")
        first = bglora.init(folder / "cut", films=[film], preset="cpu").root
        lives = [folder / f"life-{k}" / "cut" for k in range(LIVES)]
        for root in lives:
            shutil.copytree(first, root)
        whole, _ = ended(first)
        clean = contents(first)
        chance = random.Random(7)
        rows = []
        found = []
        for number, root in enumerate(lives):
            one = live(root, chance, whole, clean)
            found.append(one)
            rows.append([f"project {number + 1}", str(one.kills), " ".join(one.stages), str(len(one.different)),
                         str(len(one.twice)), str(len(one.left))])  # fmt: skip
            print(rows[-1], one.different[:5], one.twice[:5], one.left, flush=True)
        kills = sum(one.kills for one in found)
        head = ["", "kills", "last recorded stage at each kill", "files that differ", "items made twice", "left behind"]
        note = f"""\
{kills} kills of `bglora run --all --jobs 2` on the first {FRAMES} frames of the sample film ({len(clean)} files,
{whole:.0f} s when left alone, training of {FAST["train.max_steps"]} steps a scene included)."""
        write_section("Killed at any moment", "python -m tests.bench.kills", table(head, rows), note)
        if any(one.different or one.twice or one.left for one in found):
            raise SystemExit("a killed run did not end as one that was never killed")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
