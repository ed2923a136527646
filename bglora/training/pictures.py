"""Training pictures: read, cut to their bucket, and weighed by provenance at the resolution of the latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bglora.errors import UserError
from bglora.training.buckets import Cut


def read_picture(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))  # its own memory: torch warns of arrays that it may not write to
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(
            f"A training picture cannot be read: {error}",
            where=str(path),
            cure="Repair it or delete it; a deleted one is made again by: bglora caption --overwrite-edits",
        ) from error


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) without decoding."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return read_picture(path).shape[:2]  # says what is wrong in three lines


def cut_pixels(picture: np.ndarray, cut: Cut) -> np.ndarray:
    """Scales and crops uint8 (H, W, 3) to the bucket: area average when both sides shrink, else Lanczos."""
    import cv2

    height, width = cut.resized
    if cut.resized == cut.original:
        resized = picture
    elif height < cut.original[0] and width < cut.original[1]:
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    else:
        resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    top, left = cut.offset
    return resized[top : top + cut.bucket[0], left : left + cut.bucket[1]]


def latent_weights(provenance: Path | None, cut: Cut, factor: int, weights: Sequence[float] | None) -> np.ndarray:
    """Loss weight of every latent cell, float32 (bucket height / factor, bucket width / factor).

    A cell counts as much as the least trusted plate pixel that goes into it, so that nothing of a guess leaks into the
    weight of a cell beside it. `weights` are those of provenance values 0 to 3.
    """
    rows, columns = cut.bucket[0] // factor, cut.bucket[1] // factor
    if provenance is None or weights is None:
        return np.ones((rows, columns), np.float32)
    with Image.open(provenance) as picture:
        values = np.asarray(picture)
    table = np.ones(256, np.float32)
    table[:4] = weights
    trusted = table[values]
    for axis, cells in ((0, rows), (1, columns)):
        # a retouched picture may have another size than its plate: the cell's place is a share of the side
        scale = values.shape[axis] / cut.resized[axis]
        trusted = _least_of_cells(trusted, axis, cells, cut.offset[axis], factor, scale)
    return trusted


def _least_of_cells(values: np.ndarray, axis: int, cells: int, offset: int, factor: int, scale: float) -> np.ndarray:
    edges = (np.arange(cells + 1) * factor + offset) * scale
    first = np.floor(edges[:-1]).astype(int)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    moved = np.moveaxis(values, axis, 0)
    least = np.stack([moved[a : min(b, len(moved))].min(axis=0) for a, b in zip(first, last, strict=True)])
    return np.moveaxis(least, 0, axis)


def alpha_weights(path: Path, cut: Cut, factor: int) -> np.ndarray:
    """Loss weights from a picture's transparency, 1 where opaque: float32 (bucket height, width), both / factor."""
    with Image.open(path) as picture:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    return area_weights(cut_pixels(alpha, cut) / 255.0, cut.bucket[0] // factor, cut.bucket[1] // factor)


def area_weights(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The mean of a mask's pixels (H, W), 0 to 1, in each of rows x columns cells: how sd-scripts reduces masks."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
    return torch.nn.functional.interpolate(values, size=(rows, columns), mode="area")[0, 0].numpy()
