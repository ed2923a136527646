"""A Ray cluster of two nodes on this machine: what an item costs beside its work, how busy 64 workers are kept, and
the sample film byte for byte as on one machine.

    python -m tests.bench.ray_cluster            # all of it
    python -m tests.bench.ray_cluster --quick    # without the sample film

64 workers take some 4 GB. What is measured beside other work on the same cores says little: `chrt -r 2` before the
command lets it go first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

import bglora
from bglora.engine.events import Event, ItemFinished, WorkerChanged
from bglora.engine.executors import Executor
from bglora.engine.executors.local import LocalExecutor
from bglora.engine.executors.pool import Pool
from bglora.engine.executors.ray import Limits, RayExecutor, WorkerNeeds
from bglora.engine.runner import Runner
from bglora.engine.stage import Item, Outcome, Stage, Tools, View
from tests.bench.table import table, write_section
from tests.engine.cluster_toys import cluster
from tests.engine.toys import contents

WORKERS, ITEMS, SECONDS = 64, 2_000, 2.0
TRIFLES = 1_000
"""Items that take no time, for what one costs beside its work."""
SHARE = WorkerNeeds(memory_gb=0.05, cpus=0.01)


class Asleep(Stage):
    """Items that sleep and write a few bytes."""

    name, home = "asleep", "asleep"

    def items(self, view: View) -> Iterable[Item]:
        for number in range(view.settings["items"]):
            yield Item(f"{number:05d}", hints={"seconds": view.settings["seconds"]})

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        time.sleep(item.hints["seconds"])
        target = tools.scratch / "asleep" / f"{item.name}.txt"
        target.parent.mkdir(parents=True)
        target.write_text(item.name)
        return [Outcome(item.name, outputs=(f"asleep/{item.name}.txt",))]


class Heard:
    """Events with the moment at which each came."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []

    def __call__(self, event: Event) -> None:
        self.events.append((time.perf_counter(), event))

    def of(self, kind: type) -> list[tuple[float, Any]]:
        return [(moment, event) for moment, event in self.events if isinstance(event, kind)]


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="bglora-ray-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def slept(executor: Executor, items: int, seconds: float, heard: Heard) -> None:
    """Runs the sleepers with an executor."""
    with folder() as root:
        settings = {"items": items, "seconds": seconds}
        assert Runner(root, [Asleep()], settings, None, executor, heard).run().items == items


class OneProcess(LocalExecutor):
    """A pool of one process on this machine, as `--jobs` has several."""

    def run(self, *given: Any) -> Iterator[Any]:
        self._pool = self._pool or Pool(1)
        return self._pool.run(*given)


def cost(executor: Executor) -> tuple[float, float]:
    """Milliseconds an item beside its own work: wall time between two of them, and CPU of the driver."""
    heard = Heard()
    before = time.process_time()
    slept(executor, TRIFLES, 0.0, heard)
    spent = time.process_time() - before
    ended = heard.of(ItemFinished)
    wall = (ended[-1][0] - ended[0][0]) / (len(ended) - 1)
    return 1e3 * (wall - statistics.mean(event.seconds for _, event in ended)), 1e3 * spent / TRIFLES


def costs() -> list[list[str]]:
    kinds: dict[str, Callable[[], Executor]] = {
        "one worker of a cluster": lambda: RayExecutor(needs=lambda stage: SHARE, limits=Limits(jobs=1)),
        "one process of this machine's pool": OneProcess,
        "no worker at all (--jobs 1)": lambda: LocalExecutor(1),
    }
    rows = []
    for name, make in kinds.items():
        executor = make()
        wall, cpu = cost(executor)
        executor.close()
        rows.append([f"{name}: an item beside its work", f"{wall:.1f} ms", f"{cpu:.1f} ms of the driver's CPU"])
    return rows


def busy() -> list[list[str]]:
    """Share of their time, from the first item on, in which the workers work."""
    heard = Heard()
    executor = RayExecutor(needs=lambda stage: SHARE, limits=Limits(jobs=WORKERS), listener=heard)
    before, began = time.process_time(), time.perf_counter()
    most: list[int] = []
    counted: Counter[type] = Counter()

    def watch(event: Event) -> None:
        heard(event)
        counted[type(event)] += 1
        if isinstance(event, ItemFinished) and counted[ItemFinished] == ITEMS // 2:
            most.append(memory())

    with folder() as root:
        runner = Runner(root, [Asleep()], {"items": ITEMS, "seconds": SECONDS}, None, executor, watch)
        assert runner.run().items == ITEMS
    executor.close()
    spent = time.process_time() - before
    ended = heard.of(ItemFinished)
    first: dict[str, float] = {}
    for moment, event in heard.of(WorkerChanged):
        if event.state == "working":
            first.setdefault(event.worker, moment)
    assert len(first) == WORKERS, f"{len(first)} workers had work"
    end = ended[-1][0]
    worked = sum(event.seconds for _, event in ended)
    there = sum(end - moment for moment in first.values())
    started = max(first.values())
    all_there = sum(min(event.seconds, max(moment - started, 0.0)) for moment, event in ended)
    left = (end - started) * WORKERS
    name = f"{WORKERS} workers, {ITEMS:,} items of {SECONDS:g} s"
    return [
        [
            f"{name}: busy, each from its first item on",
            f"{worked / there:.1%}",
            f"{there:.0f} worker-seconds",
        ],
        [f"{name}: busy, once all had started", f"{all_there / left:.1%}", f"{left:.0f} worker-seconds"],
        [f"{name}: all had started after", f"{started - began:.0f} s", f"{end - began:.0f} s in all"],
        [
            f"{name}: the driver's CPU",
            f"{1e3 * spent / ITEMS:.1f} ms an item",
            f"{max(most, default=0) / 2**20:.0f} MB a worker",
        ],
    ]


def memory() -> int:
    """Bytes of memory of one worker, what it shares with others in equal parts."""
    sizes = []
    for one in psutil.process_iter(["name", "cmdline"]):
        if "ray::Hands" in " ".join(one.info["cmdline"] or ()):
            try:
                sizes.append(one.memory_full_info().pss)
            except psutil.Error:
                continue
    return int(statistics.mean(sizes)) if sizes else 0


def harbor(finished: Path | None, place: Path | None) -> list[list[str]]:
    """The sample film, from film to LoRA, on the cluster and on this machine.

    Args:
        finished: a project that `bglora demo` has made on this machine; None makes one.
        place: where the cluster's project is made, or gone on with, and stays; None: in a folder that goes.
    """
    with folder() as root:
        began = time.perf_counter()
        project = bglora.demo((place or root / "ray") / "bglora-demo")
        assert project.run(executor="ray").exit_code == 0
        seconds = time.perf_counter() - began
        if finished is None:
            assert bglora.demo(root / "bglora-demo", jobs=2).run().exit_code == 0
        local = without_report(finished or root / "bglora-demo")
        ours = without_report(project.root)
    differ = sorted(path for path in local.keys() | ours.keys() if local.get(path) != ours.get(path))
    assert not differ, differ[:20]
    told = "gone on with" if place else f"{seconds:.0f} s on the cluster"
    return [["sample film, all stages: files, of which differ", f"{len(local)}", f"{len(differ)} ({told})"]]


def without_report(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in contents(root).items() if not path.startswith("report/")}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--quick", action="store_true")
    asked.add_argument("--harbor", action="store_true", help="the sample film alone; nothing is written")
    asked.add_argument("--local", type=Path, help="a finished `bglora demo` of this machine, to compare with")
    asked.add_argument("--folder", type=Path, help="where the cluster's project is made, or gone on with")
    given = asked.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with cluster():
        import_module("ray._private.worker")._worker_logs_enabled = False
        if given.harbor:
            print(harbor(given.local, given.folder))
            return
        rows = [*costs(), *busy(), *([] if given.quick else harbor(given.local, given.folder))]
    command = "python -m tests.bench.ray_cluster" + (" --quick" if given.quick else "")
    note = (
        "Two nodes on one machine, so the cluster has no core more than the machine: the sample film says that the "
        "bytes are the same, not that it is faster. Workers are declared at a hundredth of a core."
    )
    write_section("Work on a cluster", command, table(["", "", ""], rows), note)


if __name__ == "__main__":
    main()
