"""LoRA files with random weights for the tiny base: nothing is trained for them."""

from __future__ import annotations

from pathlib import Path

import torch

from bglora.training import tensor_file
from bglora.training.base import load_base
from bglora.training.modules import branch_shapes, unet_layers
from tests.training.tiny_base import tiny_base


def write_lora(
    path: Path, seed: int, *, convolutions: bool = False, strength: float = 0.3, trigger: str = "", dora: bool = False
) -> Path:
    """A LoRA of rank 4 on every layer of the tiny base's transformers, and on its resnets if asked for."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in unet_layers(load_base(str(tiny_base())).unet, convolutions):
        down, up = branch_shapes(layer.module, 4)
        tensors[f"{layer.name}.lora_down.weight"] = torch.randn(down, generator=generator) * 0.3
        tensors[f"{layer.name}.lora_up.weight"] = torch.randn(up, generator=generator) * strength
        tensors[f"{layer.name}.alpha"] = torch.tensor(4.0)
        if dora:
            tensors[f"{layer.name}.dora_scale"] = layer.module.weight.detach().norm(dim=1, keepdim=True)
    tensor_file.write(path, tensors, {"modelspec.trigger_phrase": trigger} if trigger else {})
    return path
