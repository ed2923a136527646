"""How much of a diffusion pipeline lies on the graphics card at a time."""

from __future__ import annotations

from typing import Any, Literal

import torch

Memory = Literal["full", "offload", "tiled", "sequential"]
"""full: all of it. offload: the part that is at work; the same pictures. tiled: also, the VAE works in tiles, whose
seams are blended. sequential: the layer that is at work, in tiles; very slow."""
LEAST_GB: dict[Memory, float] = {"full": 12.0, "offload": 8.0, "tiled": 6.0, "sequential": 0.0}
"""Memory of a card from which SDXL paints 1024 x 1024 pixels that way."""


def chosen(wanted: str, where: torch.device, card_gb: float) -> Memory:
    """What `auto` stands for, by the card's memory. On a CPU there is nothing to save but the tiles' part."""
    if wanted == "auto":
        if where.type == "cpu":
            return "full"
        return next(how for how, least in LEAST_GB.items() if card_gb >= least - 0.5)  # cards tell a bit less
    if where.type == "cpu":
        return "tiled" if wanted in ("tiled", "sequential") else "full"
    found: Memory = next(how for how in LEAST_GB if how == wanted)
    return found


def hooked(pipeline: Any, where: torch.device, how: Memory) -> None:
    """Lets a pipeline that lies in main memory bring to the device what is at work (accelerate's hooks)."""
    if how == "sequential":
        pipeline.enable_sequential_cpu_offload(device=where)
    else:
        pipeline.enable_model_cpu_offload(device=where)


def in_tiles(vae: Any, yes: bool) -> None:
    """Whether the VAE works in tiles of half the side that it was made for: a quarter of the memory."""
    if not yes:
        vae.disable_tiling()
        return
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_latent_min_size = max(2, int(vae.config.sample_size) // factor // 2)
    vae.tile_sample_min_size = vae.tile_latent_min_size * factor
