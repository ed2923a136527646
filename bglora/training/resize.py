"""What a LoRA changes, layer by layer, and the same change at a lower rank."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def change(down: Tensor, up: Tensor, scale: float) -> Tensor:
    """up x down x scale in the shape of the layer's weight: (out, in), or (out, in, k, k) of a convolution."""
    return (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:]) * scale


@torch.no_grad()
def resized(
    weights: Mapping[str, Tensor], alphas: Mapping[str, float], rank: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The nearest LoRA of at most a rank: each layer's change cut to its largest singular values.

    The values are found in rank x rank matrices, of two orthogonal bases; the change itself is never made. The new
    alphas are the new ranks, so that the branch is scaled by 1.

    Returns:
        The new matrices and alphas; layers of this rank or less stay as they are, and so do a DoRA's magnitudes.
    """
    found = {name: value for name, value in weights.items() if name.endswith(".dora_scale")}
    scales = dict(alphas)
    for name, alpha in alphas.items():
        down, up = weights[f"{name}.lora_down.weight"], weights[f"{name}.lora_up.weight"]
        if down.shape[0] > rank:
            down, up = _cut(down, up, alpha / down.shape[0], rank)
            scales[name] = float(rank)
        found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = down, up
    return found, scales


def _cut(down: Tensor, up: Tensor, scale: float, rank: int) -> tuple[Tensor, Tensor]:
    left, inner_left = torch.linalg.qr(up.flatten(1).double())
    right, inner_right = torch.linalg.qr(down.flatten(1).double().T)
    u, values, v = torch.linalg.svd(inner_left @ inner_right.T * scale)
    root = values[:rank].sqrt()
    new_up = (left @ u[:, :rank]) * root
    new_down = root[:, None] * (v[:rank] @ right.T)
    ends = up.shape[2:]
    return new_down.view(-1, *down.shape[1:]).to(down.dtype), new_up.view(up.shape[0], -1, *ends).to(up.dtype)
