"""DoRA for other tools, which read one file in different ways.

A DoRA's layer is m (W + dW) / |W + dW|, with one magnitude m and one norm for each row (output), as peft learns it:
- LyCORIS in sd-scripts (wd_on_output) reads `dora_scale` of kohya's format as m.
- ComfyUI and Forge divide by |W|, the norms before the change (comfy/weight_adapter/base.py), so their `dora_scale` is
  m |W| / |W + dW|.
- diffusers leaves `dora_scale` out (StableDiffusionXLLoraLoaderMixin.lora_state_dict) and takes magnitudes only under
  peft's names.
- A1111 has norms of columns alone, and cannot read a DoRA of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.training.base import Base
    from bglora.training.modules import Layer

MARK = ".dora_scale"
ROOTS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}


def is_dora(names: Any) -> bool:
    return any(name.endswith(MARK) for name in names)


def for_comfyui(tensors: Mapping[str, Tensor], base: Base) -> dict[str, Tensor]:
    """A DoRA in kohya's format with the magnitudes that ComfyUI and Forge come to the same weights with."""
    found = dict(tensors)
    for layer in _layers(tensors, base):
        name, weight = layer.name, layer.module.weight.detach().float().cpu().flatten(1)
        change = _up(tensors, name).flatten(1) @ tensors[f"{name}.lora_down.weight"].float().flatten(1)
        norms = weight.norm(dim=1) / (weight + change).norm(dim=1)
        scale = tensors[name + MARK]
        found[name + MARK] = (scale.float() * norms.view(-1, *[1] * (scale.ndim - 1))).to(scale.dtype)
    return found


def for_diffusers(tensors: Mapping[str, Tensor], base: Base) -> dict[str, Tensor]:
    """A DoRA in kohya's format under peft's names, alpha / rank in the up matrices, as diffusers reads it.

    Raises:
        UserError: a layer of it is none of the base's, or its magnitudes are those of columns.
    """
    found = {}
    for layer in _layers(tensors, base):
        name, place = layer.name, f"{ROOTS[layer.model]}.{layer.path}"
        scale, outputs = tensors[name + MARK], layer.module.weight.shape[0]
        if scale.shape[0] != outputs or scale.numel() != outputs:
            raise UserError(
                "The DoRA has a magnitude for each input of a layer, and diffusers knows those of outputs alone.",
                where=name + MARK,
                cure="Train it with wd_on_output = True, or use it in ComfyUI.",
            )
        down = tensors[f"{name}.lora_down.weight"]
        found[f"{place}.lora_A.weight"] = down
        found[f"{place}.lora_B.weight"] = _up(tensors, name).to(down.dtype)
        flat = scale.flatten().to(down.dtype)
        found[f"{place}.lora_magnitude_vector.weight"] = (
            flat if layer.module.weight.ndim == 2 else flat[None, :, None, None]
        )
    return found


def _up(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """The up matrix times alpha / rank, in float32."""
    up, alpha = tensors[f"{name}.lora_up.weight"].float(), tensors.get(f"{name}.alpha")
    return up if alpha is None else up * (float(alpha) / up.shape[1])


def _layers(tensors: Mapping[str, Tensor], base: Base) -> list[Layer]:
    """The base's layers that the file changes.

    Raises:
        UserError: a layer of the file is none of the base's.
    """
    from bglora.training.modules import text_layers, unet_layers

    first, second = base.encoders
    every = [*unet_layers(base.unet, True), *text_layers(first, "te1"), *text_layers(second, "te2")]
    known = {layer.name: layer for layer in every}
    names = sorted(name.removesuffix(MARK) for name in tensors if name.endswith(MARK))
    strangers = [name for name in names if name not in known]
    if strangers:
        raise UserError(
            f"The LoRA changes a layer that the base model has not: {strangers[0]}.",
            where=f"train.base = {base.name}",
            cure="Take a LoRA that was trained on this base; or `bglora set train.base` to the LoRA's own.",
        )
    return [known[name] for name in names]
