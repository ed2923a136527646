"""One optimizer step: gradients gathered over micro-batches, clipped, and taken. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bglora.training import network, optimizers
from bglora.training.adapter import Adapter
from bglora.training.averaging import average_of
from bglora.training.base import Base
from bglora.training.graphs import graphs_for
from bglora.training.job import Recipe
from bglora.training.loss import Batch, error
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.optimizer import clip
from bglora.training.processes import ALONE, Processes
from bglora.training.weight_norms import scale_weight_norms


class Learner:
    """A LoRA that learns from micro-batches.

    Attributes:
        adapter: the LoRA.
        optimizer: over the adapter's groups; a group's `ratio` is its learning rate's share of the recipe's.
        schedule: the noise schedule, on the base's device.
        average: of the weights, where the recipe asks for one.
        processes: who learns with it; their gradients are added up.
        graphs: replays micro-batches on a card; None: they run as they are, on a card for the reason `not_recorded`.
    """

    def __init__(self, base: Base, adapter: Adapter, recipe: Recipe, processes: Processes = ALONE) -> None:
        self.base, self.adapter, self.recipe, self.processes = base, adapter, recipe, processes
        self.optimizer = optimizers.create(adapter, recipe)
        self.average = average_of(self.weights, recipe)
        self.schedule = NoiseSchedule.of(base.noise, recipe.noise).on(base.device)
        self.graphs, self.not_recorded = graphs_for(adapter, recipe, self.accumulate, base.device)

    @property
    def weights(self) -> list[Tensor]:
        """What the optimizer steps through: a few flat tensors, as a rule."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def descend(self, batches: Iterable[Batch], rate: float) -> Tensor:
        """Takes one optimizer step at a learning rate. Returns the mean loss, which nobody has waited for.

        Among several processes: the mean over its own batches, 0 where it has none.
        """
        self.adapter.begin()
        if self.graphs is not None:
            self.graphs.begin()
        run = self.graphs or self.accumulate
        losses = [run(batch) for batch in batches]
        self.adapter.finish()
        self.processes.add(self.adapter.grads)
        with torch.profiler.record_function("optimizer"):
            self.update(rate)
        return torch.stack(losses).mean() if losses else torch.zeros((), device=self.base.device)

    def accumulate(self, batch: Batch) -> Tensor:
        """Adds the gradients of one micro-batch, divided by the step's `micro_batches`; returns its loss.

        An epoch's last group may be incomplete; it is divided by the same number, as in sd-scripts.
        """
        loss = error(self.base, batch, self.schedule, self.recipe.loss).mean()
        torch.autograd.backward(loss / self.recipe.micro_batches)
        return loss.detach()

    def update(self, rate: float) -> None:
        """The optimizer's part of a step, at this learning rate."""
        if self.recipe.max_grad_norm > 0:
            clip(self.adapter.grads, self.recipe.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["ratio"]
        self.optimizer.step()
        if self.recipe.scale_weight_norms:
            scale_weight_norms(self.adapter.parameters(), network.alphas(self.adapter), self.recipe.scale_weight_norms)
        if self.average is not None:
            self.average.update()
        self.adapter.refresh()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Weights as they are used: their average where there is one; schedule-free optimizers learn at another point
        than the one they find."""
        other_point = hasattr(self.optimizer, "train") and hasattr(self.optimizer, "eval")
        if self.average is None and not other_point:
            yield
            return
        current = list(self.adapter.parameters().values())
        before = [weights.clone() for weights in current]
        if other_point:
            self.optimizer.eval()
        if self.average is not None:
            self.average.put()
        self.adapter.refresh()
        try:
            yield
        finally:
            if other_point:
                self.optimizer.train()
            for weights, value in zip(current, before, strict=True):
                weights.copy_(value)  # the way there and back rounds
            self.adapter.refresh()
