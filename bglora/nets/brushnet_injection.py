"""BrushNet's features, added to a stock UNet of diffusers by hooks. The UNet itself is not changed.

Where they go (down features, mid, up features, in the order in which the UNet meets the places):

    entry of the first down block      not the output of conv_in: the first skip keeps that without the addition
    each resnet, after its attention   the sum goes on and is the skip
    each down- and upsampler
    the middle block

diffusers' own arguments for additions (ControlNet's, T2I-Adapter's) reach too few of these places.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bglora.errors import UserError
from bglora.nets.brushnet import BrushNet, Features


def places(unet: nn.Module) -> list[tuple[nn.Module, int]]:
    """Modules whose output gets a feature, with its channels, in the order of `Features.all`.

    The first one is `down_blocks[0]`, which gets it at its entry.
    """
    net: Any = unet
    found: list[tuple[nn.Module, int]] = [(net.down_blocks[0], int(net.conv_in.out_channels))]
    for block in net.down_blocks:
        found += _of_layers(block)
        if block.downsamplers is not None:
            found.append((block.downsamplers[0], int(block.resnets[-1].out_channels)))
    found.append((net.mid_block, int(net.mid_block.resnets[-1].out_channels)))
    for block in net.up_blocks:
        found += _of_layers(block)
        if block.upsamplers is not None:
            found.append((block.upsamplers[0], int(block.resnets[-1].out_channels)))
    return found


def _of_layers(block: Any) -> list[tuple[nn.Module, int]]:
    last = block.attentions if getattr(block, "has_cross_attention", False) else block.resnets
    return [(module, int(resnet.out_channels)) for module, resnet in zip(last, block.resnets, strict=True)]


def check_fit(unet: nn.Module, brushnet: BrushNet, where: str) -> None:
    """Refuses a BrushNet that was made for another UNet, by number and channels of the features.

    Raises:
        UserError: they don't fit.
    """
    wanted = tuple(channels for _, channels in places(unet))
    entry = int(unet.conv_in.in_channels)  # type: ignore[union-attr, arg-type]
    if brushnet.widths == wanted and entry == brushnet.config.in_channels:
        return
    config: Any = unet.config
    own = "SDXL" if config.addition_embed_type == "text_time" else "Stable Diffusion 1.5"
    if own != brushnet.config.family:
        what = f"This BrushNet is for {brushnet.config.family}; the base model is {own}."
    elif entry != brushnet.config.in_channels:
        what = f"The base model takes {entry} channels; BrushNet wants an ordinary one with 4, not an inpainting model."
    else:
        what = (
            f"This BrushNet has {len(brushnet.widths)} features, the base model {len(wanted)} places of other widths."
        )
    cure = f"bglora set inpaint.brushnet_base NAME of a {brushnet.config.family} model, or take the other BrushNet"
    raise UserError(what, where=where, cure=cure)


class Slots:
    """The features of the step that runs. Empty: the UNet computes as if nothing were attached."""

    def __init__(self) -> None:
        self._values: tuple[Tensor, ...] = ()

    def put(self, features: Features) -> None:
        """Features for the UNet's next call. With fewer rows than its batch they serve each part of it alike."""
        self._values = features.all

    def clear(self) -> None:
        """Nothing is added from now on."""
        self._values = ()

    def plus(self, place: int, hidden: Tensor) -> Tensor:
        """The UNet's activation (n, c, h, w) with its feature, which has n / k rows."""
        if not self._values:
            return hidden
        feature = self._values[place].to(hidden.dtype)
        if len(feature) == len(hidden):
            return hidden + feature
        return (hidden.unflatten(0, (-1, len(feature))) + feature).flatten(0, 1)


@contextmanager
def injected(unet: nn.Module) -> Iterator[Slots]:
    """Attaches hooks to a stock `UNet2DConditionModel`; on leaving they are gone, whatever happened."""
    slots = Slots()
    handles = []

    def at_entry(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if "hidden_states" in named:
            return arguments, named | {"hidden_states": slots.plus(0, named["hidden_states"])}
        return (slots.plus(0, arguments[0]), *arguments[1:]), named

    def after(place: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (slots.plus(place, output[0]), *output[1:])
            return slots.plus(place, output)

        return hook

    try:
        for place, (module, _) in enumerate(places(unet)):
            if place == 0:
                handles.append(module.register_forward_pre_hook(at_entry, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(after(place)))
        yield slots
    finally:
        for handle in handles:
            handle.remove()
        slots.clear()


def with_zeros(features: Features, rows: int) -> Features:
    """The features (n rows each) after `rows` rows of zeros: nothing is added to the first rows of the batch."""

    def padded(value: Tensor) -> Tensor:
        return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])

    return Features(tuple(map(padded, features.down)), padded(features.mid), tuple(map(padded, features.up)))
