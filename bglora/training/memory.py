"""How much memory a training takes, counted on networks without weights before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bglora.errors import MachineError
from bglora.training import shapes
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.graphs import why_not
from bglora.training.job import Recipe
from bglora.training.shapes import Shape

GIB = float(1 << 30)
ROOM = 1.15  # allocator, kernels' workspaces and what the count cannot see
STATES = {"adamw": 8.0, "adamw8bit": 2 + 8 / 256, "prodigy": 16.0, "schedule_free": 8.0}
"""Bytes of an optimizer's state for each weight, in fp32; of 8-bit states with a scale for every 256."""
PASSING = {"adamw": 0.0, "adamw8bit": 0.0, "prodigy": 4.0, "schedule_free": 4.0}
"""And while it steps."""
ROOM_OF_ADAMW = 4.0
"""`FlatAdamW`, AdamW on a CPU, keeps room for its arithmetic."""


@dataclass(frozen=True)
class Memory:
    """Bytes of what a training holds, and at most needs beside it, phase by phase.

    Attributes:
        base: U-Net, VAE and text encoders as they are loaded.
        adapter: the LoRA with gradients and optimizer state.
        activations: beside both while a step goes forward and back.
        encoding: beside the base while pictures are encoded; there is no LoRA yet.
        painting: beside base and LoRA while a sample picture is painted; 0: none is.
        recorded: a step's memory is kept while others run (`bglora.training.graphs`).
    """

    base: int
    adapter: int
    activations: int
    encoding: int
    painting: int
    recorded: bool = False

    @property
    def beside(self) -> int:
        """What has to be free once the base is loaded."""
        steps = self.activations + self.painting if self.recorded else max(self.activations, self.painting)
        return int(max(self.adapter + steps, self.encoding) * ROOM)

    @property
    def total(self) -> int:
        return self.base + self.beside

    @property
    def record(self) -> dict[str, float]:
        """In GiB, for people."""
        names = ("base", "adapter", "activations", "encoding", "painting", "total")
        return {name: round(getattr(self, name) / GIB, 3) for name in names}


@dataclass(frozen=True)
class Leaner:
    """A change of settings by which a training fits.

    Attributes:
        settings: key, as after `bglora set`, to its value.
        need: what it takes then.
    """

    settings: tuple[tuple[str, str], ...]
    need: Memory

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(f"bglora set {key} {value}" for key, value in self.settings)


def estimate(base: Base, recipe: Recipe, bucket: Size) -> Memory:
    """Counts one step, an encoding and a sample picture on shapes; `base` may be loaded in another form."""
    return estimate_of(shapes.of(base, recipe, bucket), recipe)


def estimate_of(shape: Shape, recipe: Recipe) -> Memory:
    """The same for networks that are not loaded."""
    step = shapes.step(shape)
    adapter = adapter_bytes(step, recipe, shape.half)
    painting = 0
    if recipe.samples:
        painting = shapes.painting(shape, recipe.samples)
        if recipe.ema or recipe.optimizer == "schedule_free":
            painting += 4 * step.adapted  # the weights that it learns at lie by meanwhile
    recorded = shape.half and not why_not(recipe)
    return Memory(shapes.base_bytes(shape), adapter, step.peak, shapes.encoding(shape), painting, recorded)


def adapter_bytes(step: shapes.Step, recipe: Recipe, half: bool) -> int:
    """The LoRA with gradients, optimizer state and the average of its weights, where there is one."""
    per_weight = 8.0 + STATES[recipe.optimizer] + PASSING[recipe.optimizer]  # weights and gradients are fp32
    if recipe.optimizer == "adamw" and not half:
        per_weight += ROOM_OF_ADAMW
    if recipe.ema:
        per_weight += 4.0
    return int(step.adapted * per_weight) + step.copies


def check(base: Base, recipe: Recipe, bucket: Size, *, free: int, force: bool) -> dict[str, Any]:
    """Estimates; refuses what will not fit, naming the first settings that will.

    The base's weights are loaded already, so only the rest has to fit into `free` bytes: of the card, or of main
    memory where the CPU trains.

    Returns:
        A record: gib of base, adapter, activations, encoding, painting and total.
    """
    need = estimate(base, recipe, bucket)
    if need.beside <= free or force:
        return need.record
    found = fitting(base, recipe, bucket, need, free)
    raise MachineError(
        f"Training needs about {need.beside / GIB:.1f} GiB and {free / GIB:.1f} GiB are free: it would crawl or die.",
        where=f"train (resolution {recipe.resolution}, dim {recipe.dim}, batch_size {recipe.batch_size})",
        cure=f"{'; '.join(found.commands)}; or bglora set train.force true, should you know better."
        if found
        else "Train on a machine with more memory; nothing short of another base would fit here.",
    )


def fitting(base: Base, recipe: Recipe, bucket: Size, need: Memory, free: int) -> Leaner | None:
    """The least painful change of settings that fits into what is free, and what a smaller base gives back."""
    for settings, leaner in leaner_recipes(recipe):
        scale = leaner.resolution / recipe.resolution
        smaller = (_multiple(bucket[0] * scale), _multiple(bucket[1] * scale)) if scale != 1.0 else bucket
        found = estimate(base, leaner, smaller)
        if found.beside <= free + need.base - found.base:
            return Leaner(settings, found)
    return None


def _multiple(side: float) -> int:
    return max(64, int(side) // 64 * 64)


def leaner_recipes(recipe: Recipe) -> Iterator[tuple[tuple[tuple[str, str], ...], Recipe]]:
    """Leaner recipes with their settings, the least painful change first; each has those before it as well."""
    steps: list[dict[str, Any]] = [
        {"gradient_checkpointing": True},
        {"batch_size": 1},
        {"samples": 0},
        {"base_quantization": "int8" if recipe.base_quantization == "none" else recipe.base_quantization},
        {"base_quantization": "nf4"},
        {"dim": min(recipe.dim, 32)},
        {"dim": min(recipe.dim, 8)},
        {"resolution": min(recipe.resolution, 768)},
        {"resolution": min(recipe.resolution, 512)},
    ]
    settings: dict[str, str] = {}
    for change in steps:
        if recipe.dora and "base_quantization" in change:
            continue
        leaner = replace(recipe, **change)
        if leaner == recipe:
            continue
        if leaner.batch_size != recipe.batch_size:  # as many pictures to a step as before
            change = {**change, "accumulation": recipe.batch_size * recipe.accumulation}
        if leaner.dim != recipe.dim:  # the LoRA is scaled by alpha / dim, which is to stay
            change = {**change, "alpha": recipe.alpha * leaner.dim / recipe.dim}
        recipe = replace(recipe, **change)
        settings |= {f"train.{key}": _written(value) for key, value in change.items()}
        yield tuple(settings.items()), recipe


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
