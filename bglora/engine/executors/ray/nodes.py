"""What the nodes of a cluster have, and how many workers of a stage each has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from bglora.engine.executors import CONTEXT_GB
from bglora.errors import MachineError


@dataclass(frozen=True)
class WorkerNeeds:
    """What one worker of a stage takes.

    Attributes:
        memory_gb: of the machine's memory.
        gpu_gb: of a graphics card's memory; 0 if it needs none.
        gpus: cards that one item of a stage that isn't `parallel` works on together.
        cpus: cores of a worker of a stage that is `parallel`.
        beside: files and folders outside the project that it reads.
    """

    memory_gb: float = 0.5
    gpu_gb: float = 0.0
    gpus: int = 1
    cpus: float = 1.0
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's name for it. name: for people: the host's name.
        cpus, gpus, memory_gb: what it lends to Ray.
        card_gb: memory of its smallest graphics card; 0: unknown.
    """

    id: str
    name: str
    cpus: float
    gpus: float
    memory_gb: float
    card_gb: float = 0.0


@dataclass(frozen=True)
class Claim:
    """What a worker claims of its node.

    Attributes:
        alone: it has cards or a node to itself, and its libraries may use all its cores; else one thread each.
    """

    cpus: float
    gpus: float
    memory_gb: float
    alone: bool = False

    def options(self) -> dict[str, Any]:
        """As Ray takes it."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": int(self.memory_gb * 2**30)}


@dataclass(frozen=True)
class Room:
    """How many workers of a stage fit on a node, and what each claims."""

    claim: Claim
    workers: int


def alive(listed: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes that can work, from what `ray.nodes()` says; a head node that lends nothing is none."""
    found = []
    for one in listed:
        has = one.get("Resources", {})
        node = Node(
            str(one["NodeID"]),
            str(one.get("NodeManagerHostname") or one.get("NodeManagerAddress")),
            float(has.get("CPU", 0.0)),
            float(has.get("GPU", 0.0)),
            float(has.get("memory", 0.0)) / 2**30,
        )
        if one.get("Alive") and (node.cpus or node.gpus):
            found.append(node)
    return found


def rooms(nodes: Iterable[Node], needs: WorkerNeeds, parallel: bool) -> dict[str, Room]:
    """Node id to the room that it has for workers of a stage; nodes without any are left out.

    A stage that uses graphics cards works on them alone if the cluster has any: a processor's results differ in their
    last bits. Workers of a `parallel` stage share a node's cores and the memory of its cards; other stages' items each
    have cards to themselves, or a node without cards.
    """
    nodes = list(nodes)
    on_cards = bool(needs.gpu_gb or not parallel) and any(node.gpus >= 1 for node in nodes)
    shared = _on_cards if on_cards else _on_cores
    found = {node.id: shared(node, needs) if parallel else _alone(node, needs, on_cards) for node in nodes}
    return {name: room for name, room in found.items() if room.workers}


def _on_cores(node: Node, needs: WorkerNeeds) -> Room:
    fit = floor(node.cpus / needs.cpus + 1e-6)
    return Room(Claim(needs.cpus, 0.0, needs.memory_gb), min(fit, _by_memory(node, needs)))


def _on_cards(node: Node, needs: WorkerNeeds) -> Room:
    each = max(1, floor(node.card_gb / (needs.gpu_gb + CONTEXT_GB)))  # one at least: it may halve its batches
    fit = min(each * floor(node.gpus), _by_memory(node, needs), max(1, floor(node.cpus)) if node.cpus else 0)
    if not fit:
        return Room(Claim(0.0, 0.0, 0.0), 0)
    each = min(each, -(-fit // floor(node.gpus)))  # few workers: each takes the larger part of a card
    return Room(Claim(min(1.0, node.cpus / fit), floor(1e4 / each) / 1e4, needs.memory_gb), fit)


def _alone(node: Node, needs: WorkerNeeds, on_cards: bool) -> Room:
    fit = floor(node.gpus / needs.gpus) if on_cards else int(node.cpus > 0)
    fit = min(fit, _by_memory(node, needs))
    if not fit:
        return Room(Claim(0.0, 0.0, 0.0), 0)
    cpus = node.cpus / fit
    return Room(Claim(floor(cpus) if cpus > 1 else cpus, needs.gpus if on_cards else 0, needs.memory_gb, True), fit)


def _by_memory(node: Node, needs: WorkerNeeds) -> int:
    return floor(node.memory_gb / needs.memory_gb) if needs.memory_gb else 1_000_000


def no_room(stage: str, nodes: Iterable[Node], needs: WorkerNeeds) -> MachineError:
    """The error where no node has room for a worker."""
    told = [
        f"{one.name}: {one.cpus:g} cores, {one.gpus:g} graphics cards, {one.memory_gb:.1f} GB memory" for one in nodes
    ]
    cards = f", {needs.gpus} graphics cards" if needs.gpus > 1 else ""
    return MachineError(
        f"No node of the cluster has room for a worker of {stage}: it takes {needs.memory_gb:.1f} GB of memory{cards}.",
        where="; ".join(told) or "no node lends cores or graphics cards",
        cure="Add a node that is large enough, or choose a smaller backend or fewer processes in project.toml.",
    )
