"""One optimizer step: gradients gathered over micro-batches, clipped, and taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bglora.training import optimizers
from bglora.training.base import Base
from bglora.training.groups import parameter_groups
from bglora.training.job import Recipe
from bglora.training.loss import Batch, error
from bglora.training.network import Network
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.weight_norms import scale_weight_norms


class Learner:
    """A LoRA that learns from micro-batches.

    Attributes:
        network: the LoRA. parameters: its matrices by name.
        optimizer: over the groups of matrices; each group's full rate is its `base`.
        schedule: the noise schedule, on the base's device.
    """

    def __init__(self, base: Base, network: Network, recipe: Recipe) -> None:
        self.base, self.network, self.recipe = base, network, recipe
        self.parameters = network.parameters()
        groups = parameter_groups(self.parameters, recipe.learning_rates)
        self.optimizer = optimizers.create(self.parameters, groups, recipe.optimizer_options)
        self.schedule = NoiseSchedule.of(base.noise, recipe.noise).on(base.device)
        self._learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def descend(self, batches: Iterable[Batch], rate: Callable[[float], float]) -> Tensor:
        """Takes one optimizer step; `rate` gives a group's rate now, of its full one. Returns the mean loss.

        Nothing here waits for the device.
        """
        losses = [self.accumulate(batch) for batch in batches]
        self.update(rate)
        return torch.stack(losses).mean()

    def accumulate(self, batch: Batch) -> Tensor:
        """Adds the gradients of one micro-batch, an `accumulation`-th each; returns its loss.

        An epoch's last group may be incomplete; it is divided by the same number, as in sd-scripts.
        """
        self.network.learn(True)
        try:
            loss = error(self.base, batch, self.schedule, self.recipe.loss).mean()
            torch.autograd.backward(loss / self.recipe.accumulation)
        finally:
            self.network.learn(False)
        return loss.detach()

    def update(self, rate: Callable[[float], float]) -> None:
        """Clips and takes the gathered gradients."""
        if self.recipe.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._learned, self.recipe.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(group["base"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.recipe.scale_weight_norms:
            scale_weight_norms(self.parameters, self.network.alphas, self.recipe.scale_weight_norms)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Weights as they are used: schedule-free optimizers learn at another point than the one they find."""
        switches = hasattr(self.optimizer, "train") and hasattr(self.optimizer, "eval")
        if switches:
            self.optimizer.eval()
        try:
            yield
        finally:
            if switches:
                self.optimizer.train()
