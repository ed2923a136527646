"""A moving average of the weights beside them: what the LoRA is used with, while training goes on from the newest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.training.job import Recipe


class Average:
    """Exponential moving average (Polyak and Juditsky 1992). Early steps, which are far from where the weights end,
    count less: the n-th step's decay is at most (1 + n) / (10 + n), as in diffusers' EMAModel.

    Attributes:
        values: the averages, one tensor for each of the weights.
        taken: steps that are in them.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        self.weights, self.decay = list(weights), decay
        self.values = [weight.detach().clone() for weight in self.weights]
        self.taken = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are after one more step. Nothing waits for the device."""
        self.taken += 1
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken))
        torch._foreach_lerp_(self.values, self.weights, 1 - decay)

    @torch.no_grad()
    def put(self) -> None:
        """Makes the weights what they are on average."""
        torch._foreach_copy_(self.weights, self.values)


def average_of(weights: Sequence[Tensor], recipe: Recipe) -> Average | None:
    """The average that a recipe asks for.

    Raises:
        UserError: its optimizer averages by itself.
    """
    if not recipe.ema:
        return None
    if recipe.optimizer == "schedule_free":
        raise UserError(
            "A schedule-free optimizer averages the weights by itself.",
            where=f"train.ema = {recipe.ema:g}, train.optimizer = schedule_free",
            cure="bglora set train.ema 0; or another train.optimizer",
        )
    return Average(weights, recipe.ema)
