"""LoRA on a U-Net's transformers: y = W x + up(down(x)) * alpha / dim (Hu et al. 2021), with sd-scripts' names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training.modules import lora_name


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank branch beside it."""

    def __init__(self, linear: nn.Linear, dim: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.linear = linear
        self.scale = alpha / dim
        device = linear.weight.device
        bound = linear.in_features**-0.5  # kaiming_uniform with a = sqrt(5), sd-scripts' choice
        start = torch.rand((dim, linear.in_features), generator=torch.Generator().manual_seed(seed))
        self.down = nn.Parameter((start * (2 * bound) - bound).to(device))
        self.up = nn.Parameter(torch.zeros((linear.out_features, dim), device=device))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = self.linear(x)
        if not (x.is_cuda and torch.is_autocast_enabled("cuda")):  # which casts weights to the input's format itself
            x = x.to(self.down.dtype)
        branch = nn.functional.linear(nn.functional.linear(x, self.down) * self.scale, self.up)
        return torch.add(plain, branch.to(plain.dtype))


class Adapter:
    """All LoRA layers of one U-Net. Attached when made; `detach` gives the U-Net its own layers back.

    Attributes:
        layers: sd-scripts' name (`lora_unet_input_blocks_4_1_proj_in`) to layer.
    """

    def __init__(self, unet: Any, dim: int, alpha: float, seed: int) -> None:
        self.unet, self.dim, self.alpha = unet, dim, alpha
        self.layers: dict[str, LoraLinear] = {}
        self._paths: dict[str, str] = {}
        for path, linear in adapted_linears(unet).items():
            name = lora_name(path, unet.config.layers_per_block)
            layer = LoraLinear(linear, dim, alpha, _seed_of(name, seed))
            _replace(unet, path, layer)
            self.layers[name], self._paths[name] = layer, path

    def detach(self) -> None:
        for name, layer in self.layers.items():
            _replace(self.unet, self._paths[name], layer.linear)

    def parameters(self) -> dict[str, nn.Parameter]:
        """`<name>.lora_down.weight` (dim, in) and `<name>.lora_up.weight` (out, dim) of every layer."""
        found = {}
        for name, layer in self.layers.items():
            found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = layer.down, layer.up
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the values of `parameters()` as they were saved."""
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(tensors[name])


def adapted_linears(unet: nn.Module) -> dict[str, nn.Linear]:
    """Path to every Linear inside the U-Net's Transformer2DModels, in the order of the modules (722 in SDXL)."""
    found = {}
    for path, block in unet.named_modules():
        if type(block).__name__ == "Transformer2DModel":
            for inner, module in block.named_modules():
                if isinstance(module, nn.Linear):
                    found[f"{path}.{inner}"] = module
    return found


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _seed_of(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/init/{name}".encode()).digest()[:7], "big")
