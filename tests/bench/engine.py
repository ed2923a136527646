"""What a run costs that has nothing to do: bglora beside a floor, GNU make, DVC and Snakemake; and a large project.

    python -m tests.bench.engine

Tools that are not on PATH (nor in the folder named by BGLORA_BENCH_TOOLS) are left out, and the table says so.
"""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bglora.engine.events import Event, ItemFinished
from bglora.engine.runner import Runner
from bglora.engine.stage import Item, Outcome, Stage, Tools, View
from tests.bench import engine_large
from tests.bench.table import table, write_section

ITEMS = 10_000
FEW = 100
SLOW_ITEMS = 5_000
"""Items for tools that need minutes for more; their cost an item is measured on these."""
ROUNDS = 3


SNAKEMAKE = f"Snakemake (of {SLOW_ITEMS:,} items)"


class Take(Stage):
    """The items that there are, so that `Copy` has rows to list from: one item with a row for each file of in/."""

    name, home, parallel = "take", "taken", False

    def items(self, view: View) -> Iterable[Item]:
        yield Item("all", payload={"files": sorted(os.listdir(view.root / "in"))})

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        return [Outcome(name) for name in item.payload["files"]]


class Copy(Stage):
    """One input, one output an item."""

    name, home, reads, parallel = "copy", "copied", ("take",), False

    def items(self, view: View) -> Iterable[Item]:
        for row in view.rows("take"):
            yield Item(row.picture, (row.picture,), (f"in/{row.picture}",), {"copy.upper": True}, backend="bench/1")

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        target = tools.scratch / "out" / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tools.root / item.files[0]).read_bytes().upper())
        return [Outcome(item.name, outputs=(f"out/{item.name}",))]


class Listed(Copy):
    """The same, but listed anew every time, as after a change of settings."""

    def surroundings(self, view: View) -> str:
        return str(time.perf_counter_ns())


def make_inputs(root: Path, count: int) -> None:
    (root / "in").mkdir(parents=True)
    for number in range(count):
        (root / "in" / f"{number:06d}.txt").write_text(f"item {number}\n")


def cpu_and_wall(work: Callable[[], object]) -> tuple[float, float]:
    """Medians over the rounds: seconds of CPU (children included) and of wall time."""
    cpu, wall = [], []
    for _ in range(ROUNDS):
        before, started = _cpu(), time.perf_counter()
        work()
        cpu.append(_cpu() - before)
        wall.append(time.perf_counter() - started)
    return statistics.median(cpu), statistics.median(wall)


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def floor(root: Path) -> Callable[[], object]:
    """The least that any such tool has to do: read one SQLite table, ask for the state of every file."""
    path = root / "floor.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE items(name TEXT PRIMARY KEY, digest TEXT, source TEXT, target TEXT, size INT, at INT)")
        names = sorted(os.listdir(root / "in"))
        db.executemany(
            "INSERT INTO items VALUES(?,?,?,?,?,?)", ((n, "0" * 32, f"in/{n}", f"out/{n}", 8, 1) for n in names)
        )

    def work() -> int:
        count = 0
        with sqlite3.connect(path) as found:
            for _, _, source, target, _, _ in found.execute("SELECT * FROM items"):
                count += os.stat(f"{root}/{source}").st_size > 0 and os.stat(f"{root}/{target}").st_size > 0
        return count

    return work


def bglora(root: Path, copy: Stage) -> Callable[[], object]:
    runner = Runner(root, [Take(), copy], {}, None, jobs=1)

    def work() -> None:
        assert runner.run().items == 0, "something was made again"

    return work


def command(root: Path, *words: str) -> Callable[[], object]:
    def work() -> None:
        subprocess.run(words, cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return work


def prepare_make(root: Path) -> Callable[[], object] | None:
    if not _tool("make"):
        return None
    names = sorted(os.listdir(root / "in"))
    rules = "\n".join(f"made/{name}: in/{name}\n\tcp in/{name} made/{name}" for name in names)
    (root / "made").mkdir()
    (root / "Makefile").write_text(f"all: {' '.join(f'made/{name}' for name in names)}\n{rules}\n")
    command(root, _tool("make"), "-s", "-j2")()
    return command(root, _tool("make"), "-s")


def prepare_dvc(root: Path) -> Callable[[], object] | None:
    dvc = _tool("dvc")
    if not dvc:
        return None
    copy = f"{sys.executable} -c \"import shutil; shutil.copytree('in', 'kept', dirs_exist_ok=True)\""
    (root / "dvc.yaml").write_text(f"stages:\n  copy:\n    cmd: {copy}\n    deps: [in]\n    outs: [kept]\n")
    command(root, dvc, "init", "--no-scm", "-q")()
    command(root, dvc, "repro", "-q")()
    return command(root, dvc, "repro", "-q")


def prepare_snakemake(root: Path) -> Callable[[], object] | None:
    snakemake = _tool("snakemake")
    if not snakemake:
        return None
    names = sorted(os.listdir(root / "in"))[:SLOW_ITEMS]
    (root / "names.txt").write_text("\n".join(names))
    (root / "snaked").mkdir()
    (root / "Snakefile").write_text(
        "NAMES = open('names.txt').read().split()\n"
        "rule all:\n    input: expand('snaked/{n}', n=NAMES)\n"
        "rule copy:\n    input: 'in/{n}'\n    output: 'snaked/{n}'\n    shell: 'cp {input} {output}'\n"
    )
    for name in names:  # not by Snakemake, which would need minutes
        shutil.copyfile(root / "in" / name, root / "snaked" / name)
    return command(root, snakemake, "-q", "-c1", "--rerun-triggers", "mtime")


def _tool(name: str) -> str:
    return (
        shutil.which(name, path=os.pathsep.join([os.environ.get("BGLORA_BENCH_TOOLS", ""), os.environ["PATH"]])) or ""
    )


def compare(folder: Path) -> None:
    """Writes the table of no-op runs."""
    timed: dict[str, list[tuple[float, float]]] = {}
    making = 0.0
    for count in (FEW, ITEMS):
        root = folder / str(count)
        make_inputs(root, count)
        making = _make_all(root)
        tools: dict[str, Callable[[], object] | None] = {
            "floor: one SQLite table, `stat` of every file": floor(root),
            "bglora, nothing changed": bglora(root, Copy()),
            "bglora, items listed anew": bglora(root, Listed()),
            "GNU make": prepare_make(root),
            "DVC (two folders)": prepare_dvc(root),
            SNAKEMAKE: prepare_snakemake(root),
        }
        for name, work in tools.items():
            if work is not None:
                work()
                timed.setdefault(name, []).append(cpu_and_wall(work))
            else:
                timed.setdefault(name, [])
    rows = []
    per_item: dict[str, float] = {}
    for name, found in timed.items():
        if len(found) < 2:
            rows.append([name, "not installed", "", "", ""])
            continue
        (few_cpu, _), (cpu, wall) = found
        count = SLOW_ITEMS if name == SNAKEMAKE else ITEMS
        per_item[name] = (cpu - few_cpu) / (count - FEW) * 1e6
        least = next(iter(per_item.values()))
        rows.append([name, f"{per_item[name]:.0f}", f"{per_item[name] / least:.1f}", f"{cpu:.2f}", f"{wall:.2f}"])
    head = [
        f"{ITEMS:,} items of one input and one output, all fresh",
        "µs of CPU an item",
        "× floor",
        "CPU s",
        "wall s",
    ]
    note = f"""\
µs an item: the CPU time for {ITEMS:,} items less that for {FEW}, so starting a program does not count. "Nothing
changed": the stage's settings, decisions and earlier rows are the same, so that its items need not be listed again.
Making an item (in one process, a file of a few bytes) cost bglora {making * 1e3:.2f} ms beyond the making itself."""
    write_section("Doing nothing, quickly", "python -m tests.bench.engine", table(head, rows), note)


def _make_all(root: Path) -> float:
    """Makes everything once; returns the engine's own seconds of wall time an item."""
    seconds: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, ItemFinished):
            seconds.append(event.seconds)

    started = time.perf_counter()
    Runner(root, [Take(), Copy()], {}, None, jobs=1, listener=hear).run()
    return (time.perf_counter() - started - sum(seconds)) / len(seconds)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-bench-"))
    try:
        compare(folder)
        engine_large.large(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
