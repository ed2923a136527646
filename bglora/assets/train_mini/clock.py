"""Training by wall clock: a time budget that survives being stopped, its learning rate, and checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SAVE_SECONDS = 180.0
CHECK_SECONDS = 600.0


class Budget:
    """Minutes of training, counted over all runs that share a checkpoint."""

    def __init__(self, minutes: float, spent: float = 0.0) -> None:
        self._seconds = minutes * 60.0
        self._begin = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return time.monotonic() - self._begin

    @property
    def part(self) -> float:
        """How much of the budget is spent, 0..1."""
        return min(1.0, self.spent / self._seconds)


def learning_rate(part: float, peak: float, warmup: float = 0.01, floor: float = 0.03) -> float:
    """Linear warm-up, then a cosine from `peak` to `floor` times `peak`; `part` is the spent share of the budget."""
    if part < warmup:
        return peak * max(part / warmup, 0.01)
    cosine = 0.5 * (1.0 + math.cos(math.pi * (part - warmup) / (1.0 - warmup)))
    return peak * (floor + (1.0 - floor) * cosine)


class Average:
    """Exponential moving average of parameters; young averages follow faster (min(decay, (1 + n) / (10 + n)))."""

    def __init__(self, parameters: Iterable[Any], decay: float = 0.999) -> None:
        self.live = list(parameters)
        self.mean = [value.detach().clone() for value in self.live]
        self.decay = decay
        self.count = 0

    def update(self) -> None:
        import torch

        self.count += 1
        rate = 1.0 - min(self.decay, (1.0 + self.count) / (10.0 + self.count))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.live, rate)

    def swap(self) -> None:
        """Exchange live and averaged values (call twice to come back)."""
        import torch

        with torch.no_grad():
            for live, mean in zip(self.live, self.mean, strict=True):
                kept = live.clone()
                live.copy_(mean)
                mean.copy_(kept)


class State:
    """What a checkpoint holds: live and averaged parameters, the optimizer, the step, the seconds spent."""

    def __init__(
        self,
        path: Path,
        parameters: Iterable[Any],
        peak_rate: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        import torch

        self.path = path
        self.average = Average(parameters)
        self.optimizer = torch.optim.AdamW(
            self.average.live, lr=peak_rate, betas=betas, weight_decay=weight_decay, fused=True
        )
        self.peak_rate = peak_rate
        self.step = 0

    def begin(self) -> None:
        """Let the average start at the live values, after these were set from elsewhere."""
        for mean, live in zip(self.average.mean, self.average.live, strict=True):
            mean.copy_(live.detach())

    def load(self) -> float:
        """Take up the checkpoint where there is one; returns the seconds of training spent so far."""
        import torch

        if not self.path.exists():
            return 0.0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for ours, kept in ((self.average.live, state["live"]), (self.average.mean, state["mean"])):
                for value, stored in zip(ours, kept, strict=True):
                    value.copy_(stored)
        self.average.count = self.step = state["step"]
        self.optimizer.load_state_dict(state["optimizer"])
        return float(state["spent"])

    def save(self, spent: float) -> None:
        """Write the checkpoint so that a kill leaves either the old one or the new one."""
        import torch

        state = {
            "live": [value.detach() for value in self.average.live],
            "mean": self.average.mean,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent": spent,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".part")
        torch.save(state, scratch)
        os.replace(scratch, self.path)

    def descend(self, loss: Any, part: float) -> None:
        """One step of the optimizer at the learning rate of this part of the budget."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(part, self.peak_rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.average.live, 1.0)
        self.optimizer.step()
        self.average.update()
        self.step += 1


def train(
    state: State,
    minutes: float,
    step: Callable[[float], float],
    check: Callable[[], str],
    report: Callable[[str], None],
    save_more: Callable[[], None] = lambda: None,
) -> None:
    """Call `step(part of the budget)` until the budget is spent; save and report on the way.

    `step` returns its loss, `check` a line about pictures that are not trained on (seen by the averaged weights), and
    `save_more` keeps what the state does not hold.
    """
    budget = Budget(minutes, state.load())
    saved = checked = budget.spent
    losses: list[float] = []
    while budget.part < 1.0:
        losses.append(step(budget.part))
        if budget.spent - saved > SAVE_SECONDS:
            saved = budget.spent
            state.save(saved)
            save_more()
            report(f"{saved / 60:.1f} min, step {state.step}, loss {sum(losses) / len(losses):.4f}")
            losses.clear()
        if budget.spent - checked > CHECK_SECONDS:
            checked = budget.spent
            report(_checked(state, check))
    state.save(budget.spent)
    save_more()
    report(f"done: step {state.step}; {_checked(state, check)}")


def _checked(state: State, check: Callable[[], str]) -> str:
    import torch

    state.average.swap()
    with torch.no_grad():
        line = check()
    state.average.swap()
    return line
