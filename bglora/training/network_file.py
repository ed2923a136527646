"""What a LoRA file says of its network: ranks, alphas, and which parts of the base it changes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bglora.errors import UserError
from bglora.training.options import NetworkOptions


def extent_of(tensors: Mapping[str, Tensor], where: str = "") -> NetworkOptions:
    """Size and extent of a LoRA in kohya's format.

    Raises:
        UserError: it has no matrices under kohya's names, or layers of one kind have different ranks or alphas.
    """
    sizes: dict[bool, set[tuple[int, float]]] = {False: set(), True: set()}
    names = [name.removesuffix(".lora_down.weight") for name in tensors if name.endswith(".lora_down.weight")]
    for name in names:
        down = tensors[f"{name}.lora_down.weight"]
        alpha = tensors.get(f"{name}.alpha")
        size = len(down), float(len(down)) if alpha is None else float(alpha)
        sizes[down.ndim == 4 and down.shape[-1] > 1].add(size)
    if not names or not all(name.startswith("lora_") for name in names):
        raise UserError("The file has no LoRA under kohya's names.", where=where, cure="Name a LoRA in kohya's format.")
    if max(len(found) for found in sizes.values()) > 1:
        raise UserError(
            "The LoRA's layers have different ranks or alphas, which can't be gone on from.",
            where=where,
            cure="Name a LoRA that was trained with one rank, not a resized or merged one.",
        )
    (dim, scale), (conv_dim, conv_scale) = (next(iter(sizes[kind]), (0, 1.0)) for kind in (False, True))
    text, unet = (any(name.startswith(prefix) for name in names) for prefix in ("lora_te", "lora_unet_"))
    return NetworkOptions(dim, scale, conv_dim, conv_scale, text, unet)
