"""How many steps a training takes, which pictures each sees, and at which learning rate: a function of the step number.

Nothing here has a state, so a training goes on from any step exactly as if it had never stopped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bglora.training import rates
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
        repeats: how often an epoch shows each picture: all the same number, or each its own.
        flip: pictures are mirrored in half of the cases.
    """

    buckets: Sequence[tuple[int, int]]
    repeats: int | Sequence[int]
    flip: bool
    recipe: Recipe

    def __post_init__(self) -> None:
        rates.checked(self.recipe.rates)

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """How often an epoch shows each picture."""
        same = isinstance(self.repeats, int)
        return (self.repeats,) * len(self.buckets) if same else tuple(self.repeats)  # type: ignore[return-value,arg-type]

    @cached_property
    def batches_per_epoch(self) -> int:
        counts: dict[tuple[int, int], int] = defaultdict(int)
        for bucket, times in zip(self.buckets, self.shown, strict=True):
            counts[bucket] += times
        return sum(math.ceil(count / self.recipe.batch_size) for count in counts.values())

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps; the last one of an epoch may have fewer micro-batches."""
        return optimizer_steps(self.batches_per_epoch, self.recipe.accumulation, self.recipe.processes)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        steps = self.recipe.epochs * self.steps_per_epoch
        return min(steps, self.recipe.max_steps) if self.recipe.max_steps else steps

    def batches(self, step: int) -> list[list[Draw]]:
        """Micro-batches of an optimizer step (from 0), of all processes."""
        epoch, within = divmod(step, self.steps_per_epoch)
        first = within * self.recipe.micro_batches
        if epoch not in self._drawn:
            self._drawn.clear()  # one is in use at a time
            self._drawn[epoch] = self._epoch(epoch)
        return self._drawn[epoch][first : first + self.recipe.micro_batches]

    @cached_property
    def _drawn(self) -> dict[int, list[list[Draw]]]:
        return {}

    def _epoch(self, epoch: int) -> list[list[Draw]]:
        """Every picture `repeats` times, in an order of its own each epoch."""
        rng = np.random.default_rng([self.recipe.seed, epoch])
        batches = []
        for bucket in sorted(set(self.buckets)):
            own = [number for number, theirs in enumerate(self.buckets) if theirs == bucket]
            rounds = max(self.shown[number] for number in own)
            members = [number for time in range(rounds) for number in own if time < self.shown[number]]
            order = rng.permutation(members)
            flips = rng.random(len(order)) < (0.5 if self.flip else 0.0)
            draws = [Draw(int(number), bool(flipped)) for number, flipped in zip(order, flips, strict=True)]
            size = self.recipe.batch_size
            batches += [draws[start : start + size] for start in range(0, len(draws), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def pictures_seen(self, steps: int) -> int:
        """Pictures that the first `steps` optimizer steps have shown."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        seen = epochs * sum(self.shown)
        return seen + sum(
            len(batch) for step in range(epochs * self.steps_per_epoch, steps) for batch in self.batches(step)
        )

    def learning_rate(self, step: int) -> float:
        """Rate of an optimizer step (from 0) at the recipe's full rate; a schedule-free optimizer needs no other."""
        base = self.recipe.learning_rate
        if self.recipe.optimizer == "schedule_free":
            return base
        return base * rates.factor(step, self.steps, base, self.recipe.rates)


def optimizer_steps(batches: int, accumulation: int, processes: int = 1) -> int:
    """Optimizer steps of an epoch of so many micro-batches, each process taking its share of them."""
    return math.ceil(math.ceil(batches / processes) / accumulation)
