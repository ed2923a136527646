"""How much memory a stage takes, and whether it is there, before the stage starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bglora.engine.executors import CONTEXT_GB
from bglora.errors import MachineError

if TYPE_CHECKING:
    from bglora.engine.stage import Stage
    from bglora.settings import Settings

INGEST_GB = 0.5


@dataclass(frozen=True)
class Need:
    """What a stage takes while it works.

    Attributes:
        memory_gb: memory of all its processes together.
        gpu_gb: memory of one process on the graphics card; 0 if it needs none.
        processes: how many work side by side, if there is room for their models on the card.
    """

    memory_gb: float
    gpu_gb: float = 0.0
    processes: int = 1

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def needs(stages: Sequence[Stage], settings: Settings, jobs: int) -> dict[str, Need]:
    """What each stage takes with the backends that the settings name.

    Args:
        jobs: processes of stages that can work side by side; 0 means as many as there are cores.
    """
    from bglora.backends import TABLES
    from bglora.backends import needs as needs_of
    from bglora.engine.executors.local import cores
    from bglora.stages.foresight import backends_of

    chosen = backends_of(settings)
    found = {}
    for stage in stages:
        named = chosen.get(stage.name, [])
        used = [needs_of(role, name, getattr(settings, TABLES[role])) for role, name in named]
        processes = (jobs or cores()) if stage.parallel else 1
        memory = sum(one.memory_gb for one in used) if used else INGEST_GB
        found[stage.name] = Need(memory * processes, sum((one.gpu_gb for one in used), 0.0), processes)
    return found


def fitting(gpu_gb: float, free_gb: float | None) -> int | None:
    """How many processes with models of `gpu_gb` each a card has room for; one at least, which may halve its batches.

    Args:
        free_gb: free memory of the card; None without one.
    Returns:
        None where no card is used.
    """
    if free_gb is None or not gpu_gb:
        return None
    return max(1, int(free_gb / (gpu_gb + CONTEXT_GB)))


def room_on_card(needs: Mapping[str, Need]) -> Callable[[str], int | None]:
    """By a stage's name how many of its processes fit on the card; None for a stage that uses none.

    The card is looked at when the first stage that uses one asks: what other programs hold of it counts, models of
    earlier stages don't.
    """
    from bglora.backends.resident import free_on_card_gb

    free = cache(free_on_card_gb)

    def room(stage: str) -> int | None:
        gpu_gb = needs[stage].gpu_gb if stage in needs else 0.0
        return fitting(gpu_gb, free()) if gpu_gb else None

    return room


def short_of(wanted: Mapping[str, Need]) -> list[str]:
    """Stages for which too little memory is free now."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return [stage for stage, need in wanted.items() if need.memory_gb > free]


def refuse(stages: Iterable[str], wanted: Mapping[str, Need]) -> None:
    """Stops before a stage starts that would not fit."""
    import psutil

    for stage in stages:
        need, free = wanted[stage], psutil.virtual_memory().available / 2**30
        fewer = f"Use --jobs {max(int(free / need.memory_gb * need.processes), 1)}, or " if need.processes > 1 else ""
        raise MachineError(
            f"{stage} takes about {need.memory_gb:.1f} GB of memory; {free:.1f} GB are free.",
            where=stage,
            cure=f"{fewer}close other programs." if fewer else "Close other programs.",
        )
