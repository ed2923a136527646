"""A LoRA branch beside any frozen Linear or Conv2d, with sd-scripts' three kinds of dropout.

The U-Net's transformers have a faster form (`adapter`); this one serves text encoders, convolutions and dropout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bglora.training.options import DropoutOptions

NO_DROPOUT = DropoutOptions()


@dataclass(frozen=True)
class Masks:
    """What one layer leaves out in one micro-batch.

    Attributes:
        skipped: the whole branch.
        neurons: factors of the activations between down and up, 0 or 1 / (1 - rate); None: all 1.
        ranks: (b, dim), true where a rank stays; None: all stay.
    """

    skipped: bool = False
    neurons: Tensor | None = None
    ranks: Tensor | None = None


def draw_masks(options: DropoutOptions, activations: Tensor) -> Masks:
    """Draws from torch's global generators, which gradient checkpointing restores when it computes again.

    `activations` have a rank's values on axis 1 (convolutions, and vectors) or on the last axis.
    """
    neurons = ranks = None
    if options.network_dropout:
        neurons = functional.dropout(torch.ones_like(activations), options.network_dropout)
    if options.rank_dropout:
        rank = activations.shape[-1 if activations.ndim <= 3 else 1]
        ranks = torch.rand((len(activations), rank), device=activations.device) > options.rank_dropout
    return Masks(False, neurons, ranks)


class LoraLayer(nn.Module):
    """y = W x + up(down(x)) * alpha / dim.

    Attributes:
        wrapped: the frozen layer.
        down: (dim, in) or (dim, in, k, k); up: (out, dim) or (out, dim, 1, 1).
        learning: dropout is on.
    """

    def __init__(
        self, wrapped: nn.Linear | nn.Conv2d, dim: int, alpha: float, seed: int, dropout: DropoutOptions = NO_DROPOUT
    ) -> None:
        super().__init__()
        self.wrapped, self.scale, self.dropout, self.learning = wrapped, alpha / dim, dropout, False
        weight = wrapped.weight
        down, up = branch_shapes(weight.shape, dim)
        bound = weight[0].numel() ** -0.5  # kaiming_uniform with a = sqrt(5), sd-scripts' choice
        start = torch.rand(down, generator=torch.Generator().manual_seed(seed))
        self.down = nn.Parameter((start * (2 * bound) - bound).to(weight.device))
        self.up = nn.Parameter(torch.zeros(up, device=weight.device))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = self.wrapped(x)
        if self.learning and self.dropout.module_dropout and float(torch.rand(1)) < self.dropout.module_dropout:
            return plain
        if not (x.is_cuda and torch.is_autocast_enabled("cuda")):  # which casts weights to the input's format itself
            x = x.to(self.down.dtype)
        inner = self.lowered(x)
        masks = draw_masks(self.dropout, inner) if self.learning and self.dropout.any else Masks()
        return torch.add(plain, self.raised(inner, masks).to(plain.dtype))

    def lowered(self, x: Tensor) -> Tensor:
        """The activations between down and up."""
        return self._apply(x, self.down, outer=False)

    def raised(self, inner: Tensor, masks: Masks) -> Tensor:
        """The branch's output, of the activations between down and up."""
        scale = self.scale
        if masks.neurons is not None:
            inner = inner * masks.neurons
        if masks.ranks is not None:
            inner = inner * masks.ranks.view(_aligned(masks.ranks, inner))
            scale /= 1 - self.dropout.rank_dropout
        return self._apply(inner, self.up, outer=True) * scale

    def _apply(self, x: Tensor, weight: Tensor, *, outer: bool) -> Tensor:
        if isinstance(self.wrapped, nn.Linear):
            return functional.linear(x, weight)
        if outer:
            return functional.conv2d(x, weight)
        conv: Any = self.wrapped
        return functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation)


def branch_shapes(weight: Sequence[int], dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of down and up beside a weight (out, in) or (out, in, k, k)."""
    return (dim, *weight[1:]), (weight[0], dim, *[1] * (len(weight) - 2))


def _aligned(ranks: Tensor, inner: Tensor) -> tuple[int, ...]:
    batch, rank = ranks.shape
    if inner.ndim == 4:
        return batch, rank, 1, 1
    return (batch, *[1] * (inner.ndim - 2), rank)


def seed_of(name: str, seed: int) -> int:
    """Seed of a layer's first weights, which depend on its name alone, not on how many layers there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/init/{name}".encode()).digest()[:7], "big")
