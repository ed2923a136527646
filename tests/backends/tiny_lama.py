"""A LaMa of a few thousand weights in the published file formats."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from bglora.nets import ffc


def generator(seed: int = 1, width: int = 4, blocks: int = 2, **options: object) -> ffc.Generator:
    """Random weights, and batch norms that fit them, so that every layer's values have a spread of about 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ffc.Generator(ffc.published(width, blocks, **options))  # type: ignore[arg-type]
        for part in made.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 1.0
                torch.nn.init.normal_(part.weight, 1.0, 0.2)
                torch.nn.init.normal_(part.bias, 0.0, 0.2)
        with torch.no_grad():
            made.train()(torch.rand(1, 4, 64, 96))
    return made.eval().requires_grad_(False)


def checkpoint(path: Path, seed: int = 1, prefix: str = "generator.", **options: object) -> Path:
    """Writes one as .safetensors, or as torch.save does for any other ending."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in generator(seed, **options).state_dict().items()}  # type: ignore[arg-type]
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors, "epoch": 1}, path)
    return path
