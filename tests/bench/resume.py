"""A training that is killed twice with SIGKILL and gone on with, beside one that is left alone.

    python -m tests.bench.resume [--steps N] [--seed N]

The town of the sample film (its first three shots), trained at dim 8 on mini by `bglora train`. The killed one dies at
two seeded steps; each time the same command goes on. Every file that it leaves has to equal the other's byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bglora
from tests.bench.kills import contents, short_film
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.resume"
SETTINGS = ("train.dim=8", "train.keep_checkpoints=2")
STEP = re.compile(r"step (\d+) of \d+")


@dataclass(frozen=True)
class Life:
    """One command from its start to its end or to its death: the first and the last step that it told, seconds."""

    first: int
    last: int
    seconds: float


def start(root: Path, steps: int) -> subprocess.Popen[str]:
    given = [part for one in (*SETTINGS, f"train.max_steps={steps}") for part in ("--set", one)]
    words = [sys.executable, "-m", "bglora", "-C", str(root), "train", "--json", *given]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def told_steps(process: subprocess.Popen[str]) -> Iterator[int]:
    """Optimizer steps as the command tells that they are done."""
    assert process.stdout is not None
    for line in process.stdout:
        found = STEP.search(str(json.loads(line).get("text", ""))) if line.endswith("}\n") else None
        if found:
            yield int(found[1])


def live(root: Path, steps: int, dies_at: int = 0) -> Life:
    """Runs the command to its end, or until it has told a step: then it is killed."""
    began, process, told = time.perf_counter(), start(root, steps), []
    for step in told_steps(process):
        told.append(step)
        if dies_at and step >= dies_at:
            process.send_signal(signal.SIGKILL)
            break
    errors = process.communicate()[1]
    if not dies_at and process.returncode:
        raise SystemExit(f"training ended with {process.returncode}: {errors[-2000:]}")
    return Life(told[0], told[-1], time.perf_counter() - began)


def prepared(folder: Path) -> Path:
    """A project with the town's dataset."""
    root = bglora.init(folder / "town", films=[short_film(folder / "harbor.mp4")], preset="cpu").root
    result = bglora.open(root).run(to="caption")
    assert result.exit_code == 0, result.failures
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="about five minutes on two cores that are idle")
    parser.add_argument("--seed", type=int, default=10)
    options = parser.parse_args()
    chance, steps = random.Random(options.seed), options.steps
    deaths = [chance.randrange(steps // 10, steps // 2), chance.randrange(steps // 2, steps * 9 // 10)]
    folder = Path(tempfile.mkdtemp(prefix="bglora-resume-"))
    try:
        whole, killed = prepared(folder), folder / "killed"
        shutil.copytree(whole, killed)
        alone = live(whole, steps)
        lives = [live(killed, steps, death) for death in (*deaths, 0)]
        clean, found = contents(whole), contents(killed)
        pictures = len(list(whole.glob("datasets/*/*/*.png")))
        different = sorted(name for name in clean.keys() | found.keys() if clean.get(name) != found.get(name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    loras = sum(name.endswith(".safetensors") for name in clean)
    rows = [
        ["left alone", f"1 to {alone.last}", f"{alone.seconds:.0f}", "", ""],
        [
            "killed twice",
            ", ".join(f"{life.first} to {life.last}" for life in lives),
            f"{sum(life.seconds for life in lives):.0f}",
            f"{len(clean)}, {loras} of them LoRAs",
            f"{len(different)}",
        ],
    ]
    note = f"""\
`bglora train` at dim 8 on mini, {steps} optimizer steps, {pictures} plates of the sample film's town. The second
training got SIGKILL as soon as it had told steps {deaths[0]} and {deaths[1]} (drawn by seed {options.seed}); each time
the same command went on from the last saved state. Compared is every file of the two projects but `.bglora` and the
report."""
    head = ["", "steps", "s", "files compared", "files that differ"]
    write_section("A training killed twice", COMMAND, table(head, rows), note)
    if different:
        raise SystemExit(f"a killed training did not end as the other: {different}")


if __name__ == "__main__":
    main()
