"""The optimizer's step on the adapter's flat buffers: some twenty operations whatever the network's size, none of which
waits for a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class FlatAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW computes it, for a few large parameters.

    torch's own reads its step counters back from tensors on a CPU. The state's names are torch's; `step` is a number.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._room: dict[torch.Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                self._step(parameter, group)

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        if parameter not in self._room:
            self._room[parameter] = torch.empty_like(parameter)  # kept: fresh memory costs more than the arithmetic
        (first, second), rate = group["betas"], group["lr"]
        mean, square, grad = state["exp_avg"], state["exp_avg_sq"], parameter.grad
        mean.lerp_(grad, 1 - first)
        square.mul_(second).addcmul_(grad, grad, value=1 - second)
        # rate / (1 - first^t) * mean / (sqrt(square / (1 - second^t)) + eps), both sides times sqrt(1 - second^t)
        correction = math.sqrt(1 - second ** state["step"])
        below = torch.sqrt(square, out=self._room[parameter]).add_(group["eps"] * correction)
        if group["weight_decay"]:
            parameter.mul_(1 - rate * group["weight_decay"])
        parameter.addcdiv_(mean, below, value=-rate * correction / (1 - first ** state["step"]))


def adamw(params: Any, rate: float, **options: Any) -> torch.optim.Optimizer:
    """AdamW in the form that waits for nothing: torch's fused kernel on a GPU, flat operations on a CPU."""
    if all(parameter.is_cuda for group in params for parameter in group["params"]):
        return torch.optim.AdamW(params, lr=rate, **options, fused=True)
    return FlatAdamW(params, rate, **options)


@torch.no_grad()
def clip(grads: Sequence[Tensor], longest: float) -> None:
    """Shortens gradients to the norm `longest` where all of them together are longer, as torch's clip_grad_norm_."""
    norms = [torch.linalg.vector_norm(grad) for grad in grads]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    factor = norm.add_(1e-6).reciprocal_().mul_(longest).clamp_(max=1.0)
    for grad in grads:
        grad.mul_(factor)
