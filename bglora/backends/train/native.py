"""Training by bglora itself, in this process or in several: a LoRA on any SDXL-class base."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bglora.backends import Needs, weights
from bglora.backends.train import base as bases
from bglora.backends.train.crew import Crew, refuse_other_launchers
from bglora.training.job import Diverged, TrainJob, TrainResult

ALGORITHM = "native/4"
LOGS = ".bglora/logs/train"
"""Where a scene's logs lie in the project, see `training/step_log.py`; no outputs, for they tell times."""
CACHE = ".bglora/cache"
"""Encoded pictures and captions, shared by all scenes; see `training/store.py`."""
BASE_GB = {"none": 6.6, "int8": 4.6, "nf4": 3.7}
DIM_GB, CHECKPOINTED_GB, KEPT_GB, ENCODING_GB, ROOM = 0.0446, 0.77, 8.4, 2.5, 1.15
"""On SDXL, counted (`python -m tests.bench.gpu --memory`): the base by its form, each dimension, a step, encoding."""


def identity(settings: Any) -> str:
    """`native/4 mini@…`: changes with the algorithm and with the base's files."""
    return f"{ALGORITHM} {weights.identity(settings.base)}"


def names_of_weights(settings: Any) -> dict[str, tuple[str, ...]]:
    """See `bglora.backends`."""
    return bases.names_of_weights(settings.base)


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`: about, at 1024 x 1024; before it trains the stage counts for its own pictures."""
    step = CHECKPOINTED_GB if settings.gradient_checkpointing else KEPT_GB * settings.batch_size
    beside = max(DIM_GB * settings.dim + step, ENCODING_GB) * ROOM
    return bases.needs(settings.base, round(BASE_GB[settings.base_quantization] + beside, 1))


def check(settings: Any, root: Path) -> None:
    """See `bglora.backends.check`."""
    bases.check(settings.base)


def create(settings: Any) -> Native:
    return Native()


class Native:
    """The `train` role; several processes, once started, stay for the trainings that follow."""

    def __init__(self) -> None:
        self.crew: Crew | None = None

    def train(self, job: TrainJob, tools: Any) -> TrainResult:
        """Trains one LoRA into `tools.scratch`; goes on from the state that lies there.

        Raises:
            Paused: `tools.stopping()` said so; the state is saved.
            ProcessDied: one of several processes did.
            UserError: a picture cannot be read, the base is not SDXL-class; the loss is not a number and nothing good
                had been saved before.
            MachineError: not enough memory.
        """
        refuse_other_launchers()
        if job.recipe.processes == 1:
            return train_here(job, tools)
        if self.crew is None or self.crew.closed or self.crew.size != job.recipe.processes:
            self.crew = Crew(job.recipe.processes, job.recipe.threads)
        return self.crew.train(job, tools)

    def foresee(self, job: TrainJob, said: Callable[[str], None]) -> Any:
        """What `train` would do with a job, what it takes of memory and time: a `bglora.training.forecast.Forecast`.

        Nothing is written. `said` hears what is being done.

        Raises:
            UserError, MachineError: as `train`, but not for too little memory.
        """
        from bglora.training import forecast
        from bglora.training.base import exact

        base = base_of(job)
        with exact(job.recipe.threads):
            return forecast.forecast(job, base, free_for(base, job.recipe.processes), said)


def base_of(job: TrainJob) -> Any:
    """A job's base in the form that its recipe asks for."""
    if job.recipe.dora:
        from bglora.training.dora import refuse

        refuse(job.recipe)
    return bases.load(job.base, job.recipe.base_quantization)


def free_for(base: Any, processes: int) -> int:
    """Bytes that one of so many processes may take beside the base: of its card, or its share of main memory."""
    from bglora.nets.device import free_bytes

    return free_bytes(base.unet.device) // (processes if base.unet.device.type == "cpu" else 1)


def train_here(job: TrainJob, tools: Any, processes: Any = None) -> TrainResult:
    """Trains in this process, alone or as one of several; only the first of them writes files."""
    from bglora.training.base import exact
    from bglora.training.processes import ALONE

    base = base_of(job)
    with exact(job.recipe.threads):
        return _train(job, tools, base, processes or ALONE)


def _train(job: TrainJob, tools: Any, base: Any, processes: Any) -> TrainResult:
    from bglora.training import memory
    from bglora.training.cache import cuts_of, store_of
    from bglora.training.loop import Training, Watch

    largest = max((cut.bucket for cut in cuts_of(job.pictures, job.recipe)), key=lambda size: size[0] * size[1])
    needed = memory.check(base, job.recipe, largest, free=free_for(base, processes.count), force=job.force)
    home = f"loras/{job.scene}"
    state = Path(tools.scratch) / "state" / job.scene
    watch = Watch(tools.progress, tools.stopping, Path(tools.root) / LOGS / job.scene)
    store = store_of(base, Path(tools.root) / CACHE, weights.identity(job.base), job.recipe)
    training = Training(job, base, state, Path(tools.scratch) / home / "samples", watch, processes, store)
    diverged = None
    try:
        try:
            training.run()
        except Diverged as error:
            if not training.go_back():
                raise
            diverged = error
        if not processes.first:
            return TrainResult(())
        result = _write(job, training, Path(tools.scratch), home, needed, diverged)
    finally:
        training.adapter.detach()
    if not job.recipe.dora or diverged is not None:
        return result
    return replace(result, outputs=(*result.outputs, *_for_other_tools(Path(tools.scratch), home, base)))


def _write(
    job: TrainJob,
    training: Any,
    scratch: Path,
    home: str,
    memory: dict[str, Any],
    diverged: Diverged | None = None,
) -> TrainResult:
    """The files and the record of a training that ended; of one that diverged its last good weights, as a checkpoint,
    so that a LoRA of an earlier training stays where it is."""
    plan, progress, rank = training.plan, training.progress, job.recipe.resize_rank
    last = _checkpoint(home, training.kept_step) if diverged else f"{home}.safetensors"
    _write_lora(job, training, scratch / last, training.kept_step, training.final())
    files = {last: training.kept_step}
    for step in training.kept_along:
        files[_checkpoint(home, step)] = step
        _write_lora(job, training, scratch / _checkpoint(home, step), step, training.kept(step))
    dim, alpha = (rank, float(rank)) if 0 < rank < job.recipe.dim else (job.recipe.dim, job.recipe.alpha)
    record = {
        "trigger": job.trigger,
        "base": job.base,
        "dim": dim,
        "alpha": alpha,
        "steps": progress.step,
        "kept_step": training.kept_step,
        "pictures_seen": plan.pictures_seen(progress.step),
        "pictures": len(job.pictures),
        "held_out": len(job.held_out),
        "loss": progress.curve[-1][1],
        "validation": training.validation,
        "validation_before": progress.curve[0][2],
        "curve": [list(point) for point in progress.curve],
        "checkpoints": sorted(set(files.values())),
        "remarks": [*training.remarks(), *_not_recorded(training.learner.graphs)],
        "memory_gib": memory,
    }
    if training.start is not None and job.network_weights is not None:
        record["starts_from"] = f"started from {job.network_weights.name}: {training.start}"
    lines = [dict(zip(("step", "loss", "validation", "learning_rate"), point, strict=True)) for point in progress.curve]
    _text(scratch / home / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    samples = sorted(f"{home}/samples/{file.name}" for file in training.samples.glob("*.png"))
    undone = f"{diverged.what} {diverged.cure} The last good weights are kept: {last}" if diverged else ""
    return TrainResult((*files, f"{home}/log.jsonl", *samples), record, undone)


def _checkpoint(home: str, step: int) -> str:
    return f"{home}/checkpoints/step-{step:06d}.safetensors"


def _write_lora(job: TrainJob, training: Any, path: Path, step: int, weights: dict[str, Any]) -> None:
    from bglora.training import lora_file, network, resize

    alphas, rank = network.alphas(training.adapter), job.recipe.resize_rank
    if 0 < rank < job.recipe.dim:
        weights, alphas = resize.resized(weights, alphas, rank)
        job = replace(job, recipe=replace(job.recipe, dim=rank, alpha=float(rank)))
    metadata = lora_file.describe(job, training.plan, training.base, step, training.cuts)
    lora_file.write_lora(path, weights, alphas, metadata, job.recipe.save_precision)


def _not_recorded(graphs: Any) -> list[str]:
    """What a person should know of steps on a card that were to be recorded."""
    return [f"not all steps were recorded: {graphs.reason}"] if graphs is not None and graphs.reason else []


def _for_other_tools(scratch: Path, home: str, base: Any) -> tuple[str, str]:
    """A DoRA as diffusers, and as ComfyUI and Forge read it."""
    from safetensors.torch import load_file

    from bglora.training import dora_files, lora_file, tensor_file

    written = scratch / f"{home}.safetensors"
    tensors, told = load_file(written), lora_file.read_metadata(written)
    told = {key: text for key, text in told.items() if not key.startswith("sshs_")}
    names = f"{home}/diffusers.safetensors", f"{home}/comfyui.safetensors"
    for name, convert in zip(names, (dora_files.for_diffusers, dora_files.for_comfyui), strict=True):
        tensor_file.write(scratch / name, convert(tensors, base), told)
    return names


def _text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8", newline="\n")
