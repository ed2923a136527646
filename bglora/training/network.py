"""The whole LoRA of one training: the U-Net's layers and, where asked, the convolutions' and the text encoders'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training.adapter import Adapter
from bglora.training.layers import LoraLayer, seed_of
from bglora.training.modules import Model, Target, text_targets, unet_targets
from bglora.training.options import NetworkOptions


class Network:
    """A LoRA on a base's U-Net and text encoders. Attached when made; `detach` gives the models their layers back.

    Attributes:
        alphas: name of a layer (`lora_unet_input_blocks_4_1_proj_in`) to its alpha.
    """

    def __init__(self, unet: Any, encoders: Sequence[Any], options: NetworkOptions, seed: int) -> None:
        self.options = options
        self._models: dict[Model, Any] = {"unet": unet}
        self._models |= dict(zip(("te1", "te2"), encoders, strict=False)) if options.text_encoders else {}
        targets = list(self._targets())
        self._fast = Adapter(unet, *options.size(False), seed) if options.unet and not options.dropout.any else None
        plain = [target for target in targets if not (self._fast and _transformer(target))]
        self._layers = {target.name: self._attach(target, seed) for target in plain}
        self._paths = {target.name: (target.model, target.path) for target in plain}
        self.alphas = {target.name: options.size(target.large_kernel)[1] for target in targets}
        self._order = [target.name for target in targets]

    def _targets(self) -> list[Target]:
        found = [text_targets(self._models[model], model) for model in ("te1", "te2") if model in self._models]  # type: ignore[arg-type,index]
        unet = unet_targets(self._models["unet"], self.options.conv_dim > 0) if self.options.unet else ()
        return list(chain(*found, unet))

    def _attach(self, target: Target, seed: int) -> LoraLayer:
        dim, alpha = self.options.size(target.large_kernel)
        layer = LoraLayer(target.module, dim, alpha, seed_of(target.name, seed), self.options.dropout)
        _replace(self._models[target.model], target.path, layer)
        return layer

    def learn(self, on: bool) -> None:
        """Switches dropout on or off."""
        for layer in self._layers.values():
            layer.learning = on

    def detach(self) -> None:
        if self._fast:
            self._fast.detach()
        for name, layer in self._layers.items():
            model, path = self._paths[name]
            _replace(self._models[model], path, layer.wrapped)

    def parameters(self) -> dict[str, nn.Parameter]:
        """`<name>.lora_down.weight` and `<name>.lora_up.weight` of every layer, the text encoders' first."""
        found = dict(self._fast.parameters()) if self._fast else {}
        for name, layer in self._layers.items():
            found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = layer.down, layer.up
        parts = ("lora_down.weight", "lora_up.weight")
        return {f"{name}.{part}": found[f"{name}.{part}"] for name in self._order for part in parts}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the values of `parameters()` as they were saved."""
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(tensors[name])


def _transformer(target: Target) -> bool:
    return target.model == "unet" and ".attentions." in f".{target.path}"


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
