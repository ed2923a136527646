"""How much memory a stage takes, and whether it is there, before the stage starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

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
        gpu_gb: memory on the graphics card; 0 if it needs none.
        processes: how many work side by side.
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
