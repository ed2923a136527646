"""Work on a Ray cluster: what one worker of each stage takes there, and what every node must see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.engine.executors.ray import RayExecutor, WorkerNeeds
    from bglora.engine.runner import Runner
    from bglora.engine.stage import Stage
    from bglora.settings import Settings

SILENCE = 1800.0
"""Seconds after which a worker without any progress is lost, where nothing else is said."""
RETRIES = 2


def executor(runner: Runner, jobs: int, address: str, retries: int, silence: float) -> RayExecutor:
    """Who makes a project's items on a cluster.

    Raises:
        UserError: no worker could keep these limits. MachineError: Ray is not installed.
    """
    from bglora.engine.executors.ray import Limits, RayExecutor, WorkerNeeds

    if silence <= 0 or retries < 0:
        raise UserError(
            f"A worker can't be lost after {silence:g} s, or its item be made {retries} times more.",
            where="--worker-timeout, --retries",
            cure="A time is more than 0, 30m if nothing is said; retries are 0 or more.",
        )
    known = worker_needs(runner.root, runner.stages, runner.settings)
    limits = Limits(jobs, retries, silence)
    return RayExecutor(address, lambda stage: known.get(stage, WorkerNeeds()), limits, runner.listener)


def worker_needs(root: Path, stages: Sequence[Stage], settings: Settings) -> dict[str, WorkerNeeds]:
    """What one worker of each stage takes with the backends that the settings name.

    `train.processes` train one LoRA together, each on its card: a worker of that stage takes as many.
    """
    from bglora.engine.executors.ray import WorkerNeeds
    from bglora.project.memory import needs

    return {
        name: WorkerNeeds(
            need.memory_gb,
            need.gpu_gb,
            gpus=settings.train.processes if name == "train" else 1,
            beside=tuple(_beside(root, settings, name)),
        )
        for name, need in needs(stages, settings, jobs=1).items()
    }


def _beside(root: Path, settings: Settings, stage: str) -> set[Path]:
    """Films and weights that a stage reads and that the settings name by paths outside the project."""
    from bglora.stages.foresight import demands

    sources = settings.sources
    names = (*sources.films, *sources.layers) if stage == "ingest" else ()
    named = {root / name for name in names} | {
        Path(one.name)
        for one in demands(root, settings, (stage,))
        if one.weights is None and Path(one.name).is_absolute()
    }
    return {path for path in named if path.exists() and not path.resolve().is_relative_to(root.resolve())}
