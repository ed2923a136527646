"""What never changes during a training, computed once: latents of the pictures, their sizes and weights.

Latents are kept on disk for the next training, of this scene or of another that shows the same pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bglora.training.base import Base
from bglora.training.buckets import Cut
from bglora.training.job import Recipe, TrainPicture
from bglora.training.pictures import alpha_weights, cut_pixels, latent_weights, picture_size, read_picture
from bglora.training.store import Store

VERSION = 1
"""Raised when the same picture or caption is encoded otherwise."""


@dataclass(frozen=True)
class Example:
    """One picture ready to be learned from, as it is and (if it may be flipped) mirrored; all tensors on the CPU.

    Attributes:
        name: the picture's name.
        latents: (4, h, w) per side, scaled as the U-Net sees them.
        time_ids: (6,) per side.
        weights: (1, h, w) per side, loss weights.
        caption: the whole caption, as it stands in its file.
        bucket: (height, width) in pixels.
    """

    name: str
    latents: tuple[Tensor, ...]
    time_ids: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    caption: str
    bucket: tuple[int, int]


def cuts_of(pictures: Sequence[TrainPicture], recipe: Recipe) -> list[Cut]:
    """How each picture is scaled and cropped."""
    return recipe.bucketing.cuts([picture_size(picture.image) for picture in pictures])


def encode_examples(
    base: Base,
    pictures: Sequence[TrainPicture],
    recipe: Recipe,
    flip: bool | Sequence[bool],
    progress: Callable[[int, int], None],
    store: Store | None = None,
) -> list[Example]:
    """Encodes every picture (and its mirror image) once; `store` has the latents of earlier trainings."""
    kept = store or Store()
    examples = []
    flips = [flip] * len(pictures) if isinstance(flip, bool) else flip
    for number, (picture, cut, mirrored) in enumerate(zip(pictures, cuts_of(pictures, recipe), flips, strict=True)):
        progress(number, len(pictures))
        pixels = cut_pixels(read_picture(picture.image), cut)
        weights = latent_weights(picture.provenance, cut, base.latent_factor, recipe.provenance_weights)
        if recipe.alpha_mask:
            weights = np.minimum(weights, alpha_weights(picture.image, cut, base.latent_factor))
        sides = [(pixels, weights, False)]
        if mirrored:
            sides.append((pixels[:, ::-1], weights[:, ::-1], True))
        examples.append(
            Example(
                picture.name,
                tuple(_latents(base, kept, side, f"{picture.name}/{flipped}") for side, _, flipped in sides),
                tuple(torch.tensor(cut.whole if base.fills else cut.time_ids(flipped)) for _, _, flipped in sides),
                tuple(torch.from_numpy(weight.copy())[None] for _, weight, _ in sides),
                picture.caption,
                cut.bucket,
            )
        )
    kept.trim()
    return examples


def store_of(base: Base, folder: Path, identity: str, recipe: Recipe) -> Store:
    """The store in a folder for what a base gives on this device with these threads, bit by bit; a base in fewer bits
    has the VAE and the text encoders of the whole one."""
    import diffusers
    import transformers

    libraries = [library.__version__ for library in (torch, diffusers, transformers)]
    arithmetic = [base.device, recipe.threads, *libraries, torch.backends.cpu.get_cpu_capability()]
    return Store(folder, " ".join(map(str, [VERSION, identity, *arithmetic])))


def _latents(base: Base, store: Store, pixels: np.ndarray, name: str) -> Tensor:
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    key = ("latents", name, content, *pixels.shape)
    return store.get(key, lambda: {"latents": _encode(base, pixels, name)})["latents"]


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
