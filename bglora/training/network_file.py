"""A LoRA file as a network: ranks, alphas, which parts of the base it changes, and starting from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.errors import UserError
from bglora.training.options import NetworkOptions

if TYPE_CHECKING:
    from bglora.training.adapter import Adapter

DOWN = ".lora_down.weight"
SHOWN = 3


def extent_of(tensors: Mapping[str, Any], where: str = "") -> NetworkOptions:
    """Size and extent of a LoRA in kohya's format.

    Args:
        tensors: by name, or what stands for them (`Header.stand_ins`).

    Raises:
        UserError: it has no matrices under kohya's names, or layers of one kind have different ranks or alphas.
    """
    sizes: dict[bool, set[tuple[int, float]]] = {False: set(), True: set()}
    names = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    for name in names:
        down = tensors[f"{name}{DOWN}"]
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
    dora = any(name.endswith(".dora_scale") for name in tensors)
    return NetworkOptions(dim, scale, conv_dim, conv_scale, text, unet, dora=dora)


def check_extent(tensors: Mapping[str, Any], wanted: NetworkOptions, where: str) -> None:
    """Whether a training of this size can start from a file.

    Raises:
        UserError: its ranks, alphas or kind are others, or it is no LoRA in kohya's format.
    """
    there = extent_of(tensors, where)
    if there.dora != wanted.dora:
        kinds = "a DoRA, and this training is none" if there.dora else "no DoRA, and this training is one"
        raise UserError(
            f"The LoRA to start from is {kinds}.", where=where, cure=f"bglora set train.dora {str(there.dora).lower()}"
        )
    pairs = [("dim", there.size(False), wanted.size(False)), ("conv_dim", there.size(True), wanted.size(True))]
    for key, (dim, alpha), (own, own_alpha) in pairs:
        if not dim or not own:  # that kind of layer starts anew, or is left aside
            continue
        scale = key.replace("dim", "alpha")
        if dim != own:
            raise UserError(
                f"The LoRA to start from has rank {dim}, and this training has {key} = {own}.",
                where=where,
                cure=f"bglora set train.{key} {dim}, and train.{scale} {alpha:g}; or take another LoRA.",
            )
        if alpha != own_alpha:
            raise UserError(
                f"The LoRA to start from has alpha {alpha:g}, and this training has {scale} = {own_alpha:g}: "
                "its weights would count otherwise than they were learned.",
                where=where,
                cure=f"bglora set train.{scale} {alpha:g}",
            )


@dataclass(frozen=True)
class Start:
    """What was taken from a LoRA file.

    Attributes:
        taken: layers that start from it. new: layers that it lacks. unknown: names in it that this training lacks.
    """

    taken: int
    new: int
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.taken} layers start from it"]
        if self.new:
            parts.append(f"{self.new} start anew")
        if self.unknown:
            named = ", ".join(self.unknown[:SHOWN]) + (", ..." if len(self.unknown) > SHOWN else "")
            parts.append(f"{len(self.unknown)} of its layers are not trained here ({named})")
        return "; ".join(parts)


def start_from(adapter: Adapter, path: Path, wanted: NetworkOptions) -> Start:
    """Puts a file's weights into the layers that have their names, as sd-scripts' network_weights does; others stay.

    U-Net layers may also be under diffusers' names (`lora_unet_down_blocks_1_attentions_0_proj_in`).

    Raises:
        UserError: its ranks, alphas or kind are others, or none of its layers is one of the adapter's.
    """
    from safetensors.torch import load_file

    where = f"train.network_weights = {path.name}"
    tensors = load_file(path)
    check_extent(tensors, wanted, where)
    own = adapter.parameters()
    layers = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
    known = {target.name: target.name for target in adapter.targets if target.name in layers}
    for target in adapter.targets:
        alias = "lora_unet_" + target.path.replace(".", "_")
        if target.name not in known and target.name.startswith("lora_unet_") and alias in layers:
            known[target.name] = alias
    if not known:
        raise UserError(
            "None of the LoRA's layers is one of this base model's.",
            where=where,
            cure="Name a LoRA that was trained on an SDXL-class base like train.base.",
        )
    values = dict(own)
    for name in own:
        layer, _, part = name.partition(".")
        if layer in known:
            values[name] = tensors[f"{known[layer]}.{part}"].to(own[name].dtype)
            if values[name].shape != own[name].shape:
                raise UserError(
                    f"The layer {layer} of the LoRA has another size than the base model's.",
                    where=where,
                    cure="Name a LoRA that was trained on an SDXL-class base like train.base.",
                )
    adapter.load(values)
    unknown = tuple(sorted(layers - set(known.values())))
    return Start(len(known), len(adapter.targets) - len(known), unknown)
