"""The embedded `embed` backend: tells places apart by color and texture. No weights, nothing learned.

    picture ─► 64 x 64 ─┬─► joint histogram of lightness and color (5 x 11 x 11, CIELAB, soft bins)   80 %
                        └─► histogram of edge strength and direction at three scales (3 x 4 x 4)       20 %

The square root of each histogram is taken (Hellinger's kernel: Arandjelovic and Zisserman 2012, "Three things
everyone should know to improve object retrieval"), so that a large sky doesn't outweigh the small things that
tell places apart; edges count more than flat areas for the same reason. Bins are softened by their own width:
a change of exposure or white balance moves weight to the neighboring bin, not to another place of the vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

IDENTITY = "descriptor/2"

SIDE = 64
LIGHTNESS = np.linspace(15, 85, 5)
CHROMA = np.arange(-50.0, 51.0, 10.0)
SOFT_LIGHTNESS, SOFT_CHROMA = 7.0, 6.5
EDGE_STEPS = np.array([0.01, 0.03, 0.08, 0.2])
TEXTURE_SHARE = 0.2
UNRELATED, STEEP = 0.5, 2.73
"""Cosines of unlike places lie about UNRELATED; see `likeness`."""
AT_ONCE = 32
FINE, SHAPE = 4.0, (25, 30, 30)
"""Pixels are counted in steps of FINE (CIELAB units) before bins are softened: ten times as fast as pixel by pixel."""

F32 = NDArray[np.float32]


def _soft(values: np.ndarray, centers: np.ndarray, width: float) -> np.ndarray:
    """Each value's share in every bin, (N,) to (N, bins); rows sum to 1."""
    shares = np.exp(-0.5 * ((values[:, None] - centers[None]) / width) ** 2) + 1e-12
    return np.asarray(shares / shares.sum(1, keepdims=True))


SOFT_L = _soft((np.arange(SHAPE[0]) + 0.5) * FINE, LIGHTNESS, SOFT_LIGHTNESS)
SOFT_AB = _soft((np.arange(SHAPE[1]) + 0.5) * FINE - 60, CHROMA, SOFT_CHROMA)


def create(settings: Any) -> Descriptor:
    """The backend; it has no settings."""
    return Descriptor()


class Descriptor:
    """The `embed` role without a model."""

    sees_light = True
    """Exposure and white balance change its vectors, so pictures are compared in each other's light, too."""

    def embed(self, pictures: Iterable[np.ndarray]) -> F32:
        """Describes pictures.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes; taken a few at a time, so a generator keeps memory small.

        Returns:
            float32 (N, 653), each row of length 1.
        """
        rows: list[F32] = []
        with ThreadPoolExecutor() as pool:
            for batch in _batches(iter(pictures)):
                rows += pool.map(describe, batch)
        return np.stack(rows) if rows else np.zeros((0, CHROMA.size**2 * LIGHTNESS.size + 48), np.float32)

    def likeness(self, cosines: np.ndarray) -> np.ndarray:
        """Cosines as likeness: 0 unrelated, 0.75 (a cosine of 0.95) the border of one place and the next, 1 the same.

        The border was found on stills of many built places, several cameras in each.
        """
        return np.clip((cosines - UNRELATED) / (1 - UNRELATED), 0.0, 1.0) ** STEEP


def describe(picture: np.ndarray) -> F32:
    """One uint8 RGB picture (H, W, 3) as float32 (653,) of length 1."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    color, texture = _color(lab), _texture(lab[..., 0])
    return np.concatenate([color * (1 - TEXTURE_SHARE) ** 0.5, texture * TEXTURE_SHARE**0.5]).astype(np.float32)


def _color(lab: F32) -> np.ndarray:
    smooth = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.5)
    edges = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    fine = _fine_histogram(lab.reshape(-1, 3), np.sqrt(edges + 3).ravel())
    soft = np.einsum("lab,li,aj,bk->ijk", fine, SOFT_L, SOFT_AB, SOFT_AB, optimize=True)
    return _unit(np.sqrt(np.maximum(soft, 0)).ravel())  # [605]


def _fine_histogram(lab: F32, weight: np.ndarray) -> np.ndarray:
    """Weighted histogram of Lab values (N, 3) in FINE steps, (25, 30, 30), sums to 1."""
    at = np.floor(np.stack([lab[:, 0], lab[:, 1] + 60, lab[:, 2] + 60], 1) / FINE).astype(int)
    at = np.clip(at, 0, np.array(SHAPE) - 1)
    flat = (at[:, 0] * SHAPE[1] + at[:, 1]) * SHAPE[2] + at[:, 2]
    counts = np.bincount(flat, weight, minlength=int(np.prod(SHAPE)))
    return np.asarray((counts / weight.sum()).reshape(SHAPE))


def _texture(lightness: F32) -> np.ndarray:
    level, found = np.log(lightness + 15), []
    for _ in range(3):
        across, down = cv2.Sobel(level, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(level, cv2.CV_32F, 0, 1) / 8
        direction = np.round((np.arctan2(down, across) % np.pi) / np.pi * 4).astype(int) % 4
        strength = np.digitize(np.hypot(across, down), EDGE_STEPS)
        counts = np.bincount((strength * 4 + direction).ravel(), minlength=20)[4:]  # flat pixels have no direction
        found.append(counts / level.size)
        level = cv2.pyrDown(level)
    return _unit(np.sqrt(np.concatenate(found)))


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / (np.linalg.norm(vector) + 1e-9))


def _batches(pictures: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while batch := list(islice(pictures, AT_ONCE)):
        yield batch
