"""`bglora --help` beside an empty app of typer and rich with as many commands: in turn, in the same run.

python -m tests.bench.help [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.table import write_section

ROOT = Path(__file__).parents[2]
LIMIT = 1.5

EMPTY = """\
import typer
app = typer.Typer()
def command():
    "Do it."
for number in range({count}):
    app.command(f"command-{{number}}")(command)
app()
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one start, interpreter included."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    from bglora.cli.app import GROUPS

    count = sum(len(commands) for commands in GROUPS.values())
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY.format(count=count), encoding="utf-8")
        commands = {
            f"empty app of typer and rich, {count} commands": [sys.executable, str(empty), "--help"],
            f"bglora, {count} commands": [sys.executable, "-m", "bglora", "--help"],
        }
        for command in commands.values():
            measure(command)  # compiles bytecode
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(measure(command))
    rows = {name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in times.items()}
    floor, ours = rows.values()
    lines = ["| `--help` of | wall, median | CPU, median |", "|---|---:|---:|"]
    lines += [f"| {name} | {wall * 1000:.0f} ms | {cpu * 1000:.0f} ms |" for name, (wall, cpu) in rows.items()]
    ratio = ours[1] / floor[1]
    lines += ["", f"Ratio {ratio:.2f} in CPU, {ours[0] / floor[0]:.2f} in wall time; at most {LIMIT} is asked."]
    write_section("Help", f"python -m tests.bench.help --rounds {rounds}", "\n".join(lines))
    sys.stdout.write("\n".join(lines) + "\n")
    if ratio > LIMIT:
        raise SystemExit(f"--help takes {ratio:.2f} times the empty app; at most {LIMIT} is asked")


if __name__ == "__main__":
    main()
