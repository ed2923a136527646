"""What a training will be, said before it begins: pictures, steps, memory, and time measured on a few steps of its own.

Nothing is kept of these steps: their files go to a folder that is deleted, their LoRA is taken off the base again.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bglora.training import memory
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.cache import cuts_of
from bglora.training.job import TrainJob
from bglora.training.loop import Training, Watch
from bglora.training.plan import Plan

STEPS = 3
"""Steps that are measured, after one that warms up."""
ENOUGH = 60.0
"""Seconds after which no further step is measured."""
CLASSIC_PICTURES, CLASSIC_REPEATS, CLASSIC_EPOCHS = 300, 5, 12
CLASSIC_SEEN = CLASSIC_PICTURES * CLASSIC_REPEATS * CLASSIC_EPOCHS
CARD_SECONDS = 1.2
"""Of the recipe's card for one picture at 1024 x 1024."""

Said = Callable[[str], None]


@dataclass(frozen=True)
class Counts:
    """What a training does.

    Attributes:
        buckets: size (height, width) to its pictures, the largest first.
        seen: pictures shown in all. steps: of the optimizer, each on `per_step` pictures at most.
    """

    scene: str
    title: str
    pictures: int
    held_out: int
    repeats: int
    epochs: int
    buckets: dict[Size, int]
    seen: int
    steps: int
    per_step: int

    @property
    def largest(self) -> Size:
        return next(iter(self.buckets))


@dataclass(frozen=True)
class Timing:
    """Seconds of a step on the largest bucket, of `steps` measured ones the middle one; and of encoding a picture."""

    step: float
    steps: int
    encoding: float


@dataclass(frozen=True)
class Forecast:
    """Attributes:
    need: GiB (see `memory.Memory.record`); None where another program trains, and all that follows as well.
    needed, free: GiB beside the base's weights, which lie there already.
    device: `cpu` or the card.
    forced: it would be started though it does not fit.
    leaner: commands after which it fits; empty where it does, or where nothing helps.
    timing: None where it was not measured, for it does not fit.
    """

    counts: Counts
    need: dict[str, float] | None = None
    needed: float = 0.0
    free: float = 0.0
    device: str = ""
    forced: bool = False
    leaner: tuple[str, ...] = ()
    timing: Timing | None = None

    @property
    def fits(self) -> bool:
        return self.needed <= self.free

    @property
    def picture_seconds(self) -> float | None:
        """Of one picture of the largest bucket."""
        return self.timing.step / self.counts.per_step if self.timing else None

    @property
    def seconds(self) -> float | None:
        """Of all steps, smaller buckets in proportion, and of encoding; without validation and sample pictures."""
        if self.timing is None:
            return None
        counts, (height, width) = self.counts, self.counts.largest
        share = sum(many * size[0] * size[1] for size, many in counts.buckets.items()) / (
            counts.pictures * height * width
        )
        return self.timing.step * counts.steps * share + self.timing.encoding * (counts.pictures + counts.held_out)

    @property
    def classic_seconds(self) -> float | None:
        """Of the classic settings on this device, with the same base and step."""
        return None if self.picture_seconds is None else CLASSIC_SEEN * self.picture_seconds

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        counts = asdict(self.counts) | {
            "buckets": [{"height": h, "width": w, "pictures": many} for (h, w), many in self.counts.buckets.items()]
        }
        return counts | {
            "memory_gib": self.need,
            "needed_gib": round(self.needed, 3),
            "free_gib": round(self.free, 3),
            "device": self.device,
            "fits": self.fits if self.need else None,
            "forced": self.forced,
            "settings_that_fit": list(self.leaner),
            "step_seconds": _rounded(self.timing.step if self.timing else None),
            "steps_measured": self.timing.steps if self.timing else 0,
            "seconds": _rounded(self.seconds),
            "classic": {
                "pictures": CLASSIC_PICTURES,
                "repeats": CLASSIC_REPEATS,
                "epochs": CLASSIC_EPOCHS,
                "seen": CLASSIC_SEEN,
                "seconds_here": _rounded(self.classic_seconds),
                "seconds_on_the_recipes_card": CLASSIC_SEEN * CARD_SECONDS,
            },
        }


def count(job: TrainJob) -> Counts:
    """The plan of a training; pictures are only asked for their size."""
    cuts = cuts_of(job.pictures, job.recipe)
    plan = Plan([cut.bucket for cut in cuts], job.repeats, job.flip, job.recipe)
    found = Counter(cut.bucket for cut in cuts)
    sizes = sorted(found, key=lambda size: (-size[0] * size[1], size))
    return Counts(
        scene=job.scene,
        title=job.title,
        pictures=len(job.pictures),
        held_out=len(job.held_out),
        repeats=job.repeats,
        epochs=min(job.recipe.epochs, math.ceil(plan.steps / plan.steps_per_epoch)),
        buckets={size: found[size] for size in sizes},
        seen=plan.pictures_seen(plan.steps),
        steps=plan.steps,
        per_step=job.recipe.batch_size * job.recipe.accumulation * job.recipe.processes,
    )


def forecast(job: TrainJob, base: Base, free: int, said: Said) -> Forecast:
    """Counts, estimates, and measures if it fits or `job.force` says so."""
    counts = count(job)
    said("counting memory")
    need = memory.estimate(base, job.recipe, counts.largest)
    known = Forecast(counts, need.record, need.beside / memory.GIB, free / memory.GIB, base.device, job.force)
    if not known.fits:
        said("looking for settings that fit")
        leaner = memory.fitting(base, job.recipe, counts.largest, need, free)
        known = replace(known, leaner=leaner.commands if leaner else ())
        if not job.force:
            return known
    return replace(known, timing=measured(job, base, counts.largest, said))


def measured(job: TrainJob, base: Base, bucket: Size, said: Said) -> Timing:
    """Takes a few steps on the job's own pictures of one bucket."""
    recipe = replace(job.recipe, processes=1, samples=0, epochs=1, max_steps=0)
    own = [
        picture
        for picture, cut in zip(job.pictures, cuts_of(job.pictures, job.recipe), strict=True)
        if cut.bucket == bucket
    ][: recipe.batch_size * recipe.accumulation]
    repeats = math.ceil((STEPS + 1) * recipe.batch_size * recipe.accumulation / len(own))
    few = replace(job, recipe=recipe, pictures=tuple(own), held_out=(), repeats=repeats)
    with TemporaryDirectory(prefix="bglora-forecast-") as folder:
        said("measuring a few steps")
        begun = time.perf_counter()
        watch = Watch(lambda done, total, text: None, lambda: False)
        training = Training(few, base, Path(folder) / "state", Path(folder) / "samples", watch)
        encoding = (time.perf_counter() - begun) / len(own)
        try:
            return _timed(training, base, encoding)
        finally:
            base.unet.eval()
            base.unet.disable_gradient_checkpointing()
            training.adapter.detach()


def _timed(training: Training, base: Base, encoding: float) -> Timing:
    if training.recipe.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        base.unet.train()
    taken: list[float] = []
    for number in range(STEPS + 1):
        begun = time.perf_counter()
        float(training.descend(number))  # waits for the device
        if number:
            taken.append(time.perf_counter() - begun)
            if sum(taken) > ENOUGH:
                break
    return Timing(sorted(taken)[len(taken) // 2], len(taken), encoding)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
