"""Keeps each layer's change from growing beyond a norm: sd-scripts' scale_weight_norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norms:
    """What was scaled: how many layers, and the mean and largest norm afterwards; all on the device."""

    scaled: Tensor
    mean: Tensor
    largest: Tensor


@torch.no_grad()
def scale_weight_norms(parameters: Mapping[str, Tensor], alphas: Mapping[str, float], most: float) -> Norms:
    """Scales down and up of each layer by the same factor until the norm of up x down x alpha / dim is at most `most`.

    The Frobenius norm comes from two rank x rank products; the change itself, as large as the layer, is never made.
    """
    norms, factors = [], []
    for name, alpha in alphas.items():
        down, up = parameters[f"{name}.lora_down.weight"], parameters[f"{name}.lora_up.weight"]
        norm = product_norm(down, up) * (alpha / down.shape[0])
        factor = torch.where(norm > most, most / norm, torch.ones_like(norm))
        root = factor.sqrt().to(down.dtype)
        down.mul_(root)
        up.mul_(root)
        norms.append(norm * factor)
        factors.append(factor)
    after, ratios = torch.stack(norms), torch.stack(factors)
    return Norms((ratios != 1).sum(), after.mean(), after.max())


def product_norm(down: Tensor, up: Tensor) -> Tensor:
    """Frobenius norm of up x down, in fp64: sqrt of the trace of (up^T up)(down down^T)."""
    rows, columns = down.flatten(1).double(), up.flatten(1).double()
    return ((columns.T @ columns) * (rows @ rows.T)).sum().clamp(min=0).sqrt()
