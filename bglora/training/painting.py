"""Pictures from a base model with whatever adapters sit in it at the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bglora.training.base import Base

TILE = 64
PIXELS_AT_ONCE = {"cpu": 16 * 128 * 128, "cuda": 4 * 1024 * 1024}


@dataclass(frozen=True)
class Look:
    """How pictures are painted: size (height, width) in pixels, denoising steps, classifier-free guidance, negative."""

    size: tuple[int, int]
    steps: int
    guidance_scale: float
    negative_prompt: str = ""


def paint(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    look: Look,
    *,
    on_step: Callable[[int], None] | None = None,
    on_latents: Callable[[int, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[np.ndarray]:
    """One picture per prompt with the seed beside it, uint8 (H, W, 3); batched where memory allows.

    Noise is drawn on the CPU, so a seed starts from the same noise on every device. `on_step(i)` is called before
    denoising step i (from 0) of each batch; `on_latents(i, latents)` after it, and painting goes on with what it gives.
    """
    height, width = look.size
    size = max(1, PIXELS_AT_ONCE[torch.device(base.device).type] // (height * width))
    for start in range(0, len(prompts), size):
        chosen = list(prompts[start : start + size])
        yield from _paint_batch(base, chosen, list(seeds[start : start + size]), look, on_step, on_latents)


def _paint_batch(
    base: Base,
    prompts: list[str],
    seeds: list[int],
    look: Look,
    on_step: Callable[[int], None] | None,
    on_latents: Callable[[int, torch.Tensor], torch.Tensor] | None,
) -> Iterator[np.ndarray]:
    height, width = look.size
    factor = base.latent_factor
    shape = (base.unet.config.in_channels, height // factor, width // factor)
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def after(pipeline: Any, step: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None and step + 1 < look.steps:
            on_step(step + 1)
        return kwargs if on_latents is None else {**kwargs, "latents": on_latents(step, kwargs["latents"])}

    if on_step is not None:
        on_step(0)
    latents = base.pipeline(
        prompt=prompts,
        negative_prompt=[look.negative_prompt] * len(prompts) if look.negative_prompt else None,
        height=height,
        width=width,
        num_inference_steps=look.steps,
        guidance_scale=look.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],  # for schedulers that add noise on the way
        latents=noise.to(base.device, base.unet.dtype),
        output_type="latent",
        callback_on_step_end=after,
    ).images
    for latent in latents:
        yield _decode(base, latent)


@contextmanager
def in_tiles(base: Base) -> Iterator[None]:
    """On a card the VAE decodes in overlapping tiles meanwhile, which takes a quarter of the memory; on a CPU it is
    left as it is."""
    if base.device == "cpu":
        yield
        return
    before = base.vae.use_tiling, base.vae.tile_sample_min_size, base.vae.tile_latent_min_size
    tile(base.vae)
    try:
        yield
    finally:
        base.vae.use_tiling, base.vae.tile_sample_min_size, base.vae.tile_latent_min_size = before


def tile(vae: Any) -> None:
    """The VAE works in tiles of `TILE` latent cells from now on."""
    vae.enable_tiling()
    vae.tile_latent_min_size = TILE
    vae.tile_sample_min_size = TILE * 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def _decode(base: Base, latent: torch.Tensor) -> np.ndarray:
    """One picture at a time: the VAE takes more memory than the U-Net. uint8 (H, W, 3)."""
    values = base.vae.decode(latent[None].to(base.vae.dtype) / base.vae.config.scaling_factor).sample[0]
    pixels = ((values.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(pixels.permute(1, 2, 0).cpu())


@torch.no_grad()
def through_vae(base: Base, pictures: np.ndarray) -> np.ndarray:
    """Encodes (the distribution's mean) and decodes; uint8 (n, H, W, 3) both ways."""
    found = []
    for picture in pictures:
        values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        latent = base.vae.encode(values.to(base.device)).latent_dist.mean[0]
        found.append(_decode(base, latent * base.vae.config.scaling_factor))
    return np.stack(found)
