"""Stages whose workers come to grief, and a cluster of several nodes on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from bglora.engine.stage import Item, Outcome, Tools
from tests.engine.projects import Slow
from tests.engine.toys import Double
from tests.ray_processes import MARK, left

ROOT = Path(__file__).parents[2]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


class Meeting(Double):
    """Ends no item before workers on two nodes have one."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        import ray

        places = tools.root.parent / "places"
        (places / ray.get_runtime_context().get_node_id()).mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + 120
        while len(list(places.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        return super().make(item, tools)


class SideBySide(Slow):
    """As Slow, but it shares its node."""

    parallel = True


class DeadlyOnce(Double):
    """The first worker that makes `b` is killed, as by the system when memory runs out, with half of it written."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        if item.name == "b" and _first(tools, "killed"):
            half = tools.scratch / "doubled" / "half.txt"
            half.parent.mkdir(parents=True)
            half.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().make(item, tools)


class Hanging(Double):
    """Whoever makes `b` never comes back."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        while item.name == "b":
            time.sleep(0.1)
        return super().make(item, tools)


class Doomed(Double):
    """Tells the node on which it works, and doesn't end on the one that the file `doomed` names; others wait for it."""

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        tools.progress(0, 1, node)
        begun = tools.root.parent / "begun"
        if node == (tools.root.parent / "doomed").read_text():
            begun.touch()
            time.sleep(600)
        until = time.monotonic() + 120
        while not begun.exists() and time.monotonic() < until:
            time.sleep(0.1)
        return super().make(item, tools)


def _first(tools: Tools, name: str) -> bool:
    try:
        (tools.root.parent / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextmanager
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with a core each, which this process has joined; all gone afterwards."""
    import ray
    from ray.cluster_utils import Cluster

    made = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's workers give way to whatever else runs on the machine
        "PYTHONPATH": str(ROOT),
        MARK: str(os.getpid()),
    }
    before = {name: os.environ.get(name) for name in made}
    os.environ.update(made)
    nodes = None
    try:
        nodes = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
        nodes.add_node(**NODE)
        ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
    finally:
        ray.shutdown()
        if nodes is not None:
            nodes.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    found = left(str(os.getpid()), "ray", patience=20.0)
    assert not found, f"processes of Ray are left: {found}"


def remove(nodes: Any, node: Any) -> None:
    """Takes a node away with all that runs on it, as when a machine loses its power."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    there = raylet.children(recursive=True)
    nodes.remove_node(node, allow_graceful=False)
    for one in there:
        with suppress(psutil.NoSuchProcess):
            one.kill()
