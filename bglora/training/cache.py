"""What never changes during a training, computed once: latents of the pictures and embeddings of their captions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bglora.training.base import Base
from bglora.training.buckets import Cut, bucket_sizes, cut_picture
from bglora.training.job import Recipe, TrainPicture
from bglora.training.pictures import cut_pixels, latent_weights, picture_size, read_picture


@dataclass(frozen=True)
class Example:
    """One picture ready to be learned from, as it is and (if it may be flipped) mirrored; all tensors on the CPU.

    Attributes:
        name: the picture's name.
        latents: (4, h, w) per side, scaled as the U-Net sees them.
        time_ids: (6,) per side.
        weights: (1, h, w) per side, loss weights.
        caption: index into `Captions`.
        bucket: (height, width) in pixels.
    """

    name: str
    latents: tuple[Tensor, ...]
    time_ids: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    caption: int
    bucket: tuple[int, int]


@dataclass(frozen=True)
class Captions:
    """Embeddings of the distinct captions: states (n, 77, c) of both encoders joined, pooled (n, p) of the second."""

    states: Tensor
    pooled: Tensor


def cuts_of(pictures: Sequence[TrainPicture], recipe: Recipe) -> list[Cut]:
    buckets = bucket_sizes(recipe.resolution, recipe.bucket_step)
    return [cut_picture(picture_size(picture.image), buckets) for picture in pictures]


def encode_captions(base: Base, captions: Sequence[str]) -> tuple[Captions, dict[str, int]]:
    """Encodes the distinct captions whole, prefix and all, and says which row is whose."""
    unique = sorted(set(captions))
    states, pooled = [], []
    with torch.no_grad():
        for caption in unique:
            one, _, summary, _ = base.pipeline.encode_prompt(
                caption, device=base.device, do_classifier_free_guidance=False
            )
            states.append(one.cpu())
            pooled.append(summary.cpu())
    return Captions(torch.cat(states), torch.cat(pooled)), {caption: row for row, caption in enumerate(unique)}


def encode_examples(
    base: Base,
    pictures: Sequence[TrainPicture],
    captions: dict[str, int],
    recipe: Recipe,
    flip: bool,
    progress: Callable[[int, int], None],
) -> list[Example]:
    """Encodes every picture (and its mirror image) once."""
    examples = []
    for number, (picture, cut) in enumerate(zip(pictures, cuts_of(pictures, recipe), strict=True)):
        progress(number, len(pictures))
        pixels = cut_pixels(read_picture(picture.image), cut)
        weights = latent_weights(picture.provenance, cut, base.latent_factor, recipe.provenance_weights)
        sides = [(pixels, weights, False)]
        if flip:
            sides.append((pixels[:, ::-1], weights[:, ::-1], True))
        examples.append(
            Example(
                picture.name,
                tuple(_encode(base, side, f"{picture.name}/{flipped}") for side, _, flipped in sides),
                tuple(torch.tensor(cut.time_ids(flipped)) for _, _, flipped in sides),
                tuple(torch.from_numpy(weight.copy())[None] for _, weight, _ in sides),
                captions[picture.caption],
                cut.bucket,
            )
        )
    return examples


def _encode(base: Base, pixels: np.ndarray, name: str) -> Tensor:
    """uint8 (H, W, 3) to (4, h, w): drawn once from the VAE's distribution, as sd-scripts' caches are."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.no_grad():
        spread: Any = base.vae.encode(values.to(base.device)).latent_dist
        noise = torch.randn(spread.mean.shape, generator=seeded("latents", name))
        latents: Tensor = (spread.mean.cpu() + spread.std.cpu() * noise)[0] * base.vae.config.scaling_factor
    return latents.float()


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator that depends on these words and numbers alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
