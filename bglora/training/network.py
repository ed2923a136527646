"""The whole LoRA of one training: the U-Net's layers and, where asked, the convolutions' and the text encoders'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bglora.training.adapter import Adapter, Target
from bglora.training.dropout import attach
from bglora.training.groups import LearningRates, label_of
from bglora.training.modules import Layer, text_layers, unet_layers
from bglora.training.options import NetworkOptions


def create(unet: Any, encoders: Sequence[Any], options: NetworkOptions, rates: LearningRates, seed: int) -> Adapter:
    """Attaches a LoRA to a U-Net, and to the two text encoders if the options say so.

    Layers are in one group for each learning rate: `textencoder`, `unet`, or the U-Net's blocks.

    Raises:
        RuntimeError: the U-Net still holds LoRAs that something was painted with: what is learned beside them is of no
            use without them.
    """
    if getattr(unet, "peft_config", None):
        raise RuntimeError(f"the U-Net still holds LoRAs: {', '.join(unet.peft_config)}")
    models = {"unet": unet, **dict(zip(("te1", "te2"), encoders, strict=False))}
    targets = [
        Target(
            layer.name, models[layer.model], layer.path, *options.size(layer.large_kernel), label_of(layer.name, rates)
        )
        for layer in layers(unet, encoders, options)
    ]
    if options.dora:
        from bglora.training.dora import DoraAdapter

        return DoraAdapter(targets, seed)
    adapter = Adapter(unet, options.dim, options.alpha, seed, targets)
    if options.dropout.any:
        attach(adapter, options.dropout)
    return adapter


def layers(unet: Any, encoders: Sequence[Any], options: NetworkOptions) -> Iterator[Layer]:
    """The layers that get a LoRA, in sd-scripts' order."""
    if options.text_encoders:
        yield from text_layers(encoders[0], "te1")
        yield from text_layers(encoders[1], "te2")
    if options.unet:
        yield from unet_layers(unet, options.conv_dim > 0)


def alphas(adapter: Adapter) -> dict[str, float]:
    """Name of a layer (`lora_unet_input_blocks_4_1_proj_in`) to its alpha."""
    return {target.name: float(target.alpha) for target in adapter.targets}
