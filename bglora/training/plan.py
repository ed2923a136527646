"""How many steps a training takes, which pictures each sees, and at which learning rate: a function of the step number.

Nothing here has a state, so a training goes on from any step exactly as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bglora.training.job import Recipe


@dataclass(frozen=True)
class Draw:
    """One picture of a batch: its index, and whether it is mirrored."""

    picture: int
    flipped: bool


@dataclass(frozen=True)
class Plan:
    """Batches of a whole training.

    Attributes:
        buckets: bucket of each picture; a batch never mixes them.
        repeats: how often an epoch shows each picture.
        flip: pictures are mirrored in half of the cases.
    """

    buckets: Sequence[tuple[int, int]]
    repeats: int
    flip: bool
    recipe: Recipe

    @property
    def batches_per_epoch(self) -> int:
        counts = [list(self.buckets).count(bucket) for bucket in set(self.buckets)]
        return sum(math.ceil(count * self.repeats / self.recipe.batch_size) for count in counts)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps; the last one of an epoch may have fewer micro-batches."""
        return math.ceil(self.batches_per_epoch / self.recipe.accumulation)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        steps = self.recipe.epochs * self.steps_per_epoch
        return min(steps, self.recipe.max_steps) if self.recipe.max_steps else steps

    def batches(self, step: int) -> list[list[Draw]]:
        """Micro-batches of an optimizer step (from 0)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        first = within * self.recipe.accumulation
        return self._epoch(epoch)[first : first + self.recipe.accumulation]

    def _epoch(self, epoch: int) -> list[list[Draw]]:
        """Every picture `repeats` times, in an order of its own each epoch."""
        rng = np.random.default_rng([self.recipe.seed, epoch])
        batches = []
        for bucket in sorted(set(self.buckets)):
            members = [number for number, own in enumerate(self.buckets) if own == bucket] * self.repeats
            order = rng.permutation(members)
            flips = rng.random(len(order)) < (0.5 if self.flip else 0.0)
            draws = [Draw(int(number), bool(flipped)) for number, flipped in zip(order, flips, strict=True)]
            size = self.recipe.batch_size
            batches += [draws[start : start + size] for start in range(0, len(draws), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def pictures_seen(self, steps: int) -> int:
        """Pictures that the first `steps` optimizer steps have shown."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        seen = epochs * len(self.buckets) * self.repeats
        return seen + sum(
            len(batch) for step in range(epochs * self.steps_per_epoch, steps) for batch in self.batches(step)
        )

    def learning_rate(self, step: int) -> float:
        """Rate of an optimizer step (from 0): warm-up from 0, then constant or half a cosine down to 0."""
        recipe = self.recipe
        if step < recipe.warmup_steps:
            return recipe.learning_rate * step / recipe.warmup_steps
        if recipe.lr_scheduler == "constant":
            return recipe.learning_rate
        done = (step - recipe.warmup_steps) / max(1, self.steps - recipe.warmup_steps)
        return recipe.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
