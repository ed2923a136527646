"""The grain of a film: measured where a frame is flat, and put back where a plate is smoother than its surroundings.

As in film grain synthesis of AV1 (Norkin and Birkbeck 2018) the grain is learned from flat blocks, here as a power
spectrum per channel of YCrCb, which holds strength and correlation alike (compressed grain is correlated over some
pixels). Noise of that spectrum is white noise filtered by its square root.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool

BLOCK = 16
STEP = 8
COARSE = 4
"""Blocks are judged flat after a mean of so many pixels: grain is averaged away there, structure is not."""
FLAT_SHARE, ALIKE = 0.1, 1.6
"""Blocks are measured whose structure is at most so many times that of the flattest tenth: grain is some structure,
too, and the flattest blocks alone would have less of it than the film."""
FEWEST_BLOCKS = 12
FLAT_LEVELS = 3.0
"""Structure (grey levels) above which no block counts as flat, however few are left."""
DARKEST, BRIGHTEST = 12, 243
"""Means of blocks (grey levels) that may be clipped, or the bars of a letterbox: no grain can be seen there."""


@dataclass(frozen=True)
class Grain:
    """Power spectra of the grain, float32 (3, BLOCK, BLOCK), channels of YCrCb; their mean is the variance."""

    spectra: F32

    @property
    def deviation(self) -> F32:
        """Standard deviation per channel of YCrCb, grey levels, float32 (3,)."""
        return np.asarray(np.sqrt(self.spectra.mean((1, 2))), np.float32)


def measure_grain(picture: U8, where: Bool) -> Grain | None:
    """The grain of an RGB picture (H, W, 3) in the blocks that lie within `where`; None where too few are flat."""
    channels = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    blocks = _blocks(channels, where)
    light = blocks[..., 0].mean((1, 2)) if len(blocks) else np.zeros(0)
    blocks = blocks[(light > DARKEST) & (light < BRIGHTEST)]
    if len(blocks) < FEWEST_BLOCKS:
        return None
    rest = _without_slope(blocks)
    structure = _structure(rest)
    take = structure <= min(ALIKE * float(np.quantile(structure, FLAT_SHARE)), FLAT_LEVELS)
    if take.sum() < FEWEST_BLOCKS:
        return None
    power = np.abs(np.fft.fft2(rest[take], axes=(1, 2))) ** 2 / BLOCK**2
    return Grain(np.moveaxis(power.mean(0), 2, 0).astype(np.float32))


def add_grain(picture: U8, where: Bool, grain: Grain, seed: int) -> U8:
    """The RGB picture (H, W, 3) with grain in `where` (bool (H, W)), as much as it lacks there of `grain`.

    What was averaged from many frames has little grain left, what was copied from the frame itself has all of it.
    The same seed gives the same grain.
    """
    if not where.any():
        return picture
    present = measure_grain(picture, where)
    spectra = grain.spectra if present is None else np.maximum(grain.spectra - present.spectra, 0)
    ys, xs = np.nonzero(where)
    box = (slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1))
    inside = where[box]
    noise = np.stack([_noise(inside.shape, power, seed + c) for c, power in enumerate(spectra)], 2)
    channels = cv2.cvtColor(picture[box], cv2.COLOR_RGB2YCrCb).astype(np.float32) + noise
    grainy = cv2.cvtColor(np.clip(np.rint(channels), 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)
    out = picture.copy()
    out[box][inside] = grainy[inside]
    return out


def _blocks(channels: F32, where: Bool) -> F32:
    """All blocks (N, BLOCK, BLOCK, 3) of a grid that lie within `where`."""
    whole = cv2.erode(
        where.astype(np.uint8), np.ones((BLOCK, BLOCK), np.uint8), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    height, width = where.shape
    ys, xs = np.nonzero(whole[: height - BLOCK + 1 : STEP, : width - BLOCK + 1 : STEP])
    views = np.lib.stride_tricks.sliding_window_view(channels, (BLOCK, BLOCK), axis=(0, 1))
    return np.moveaxis(views[ys * STEP, xs * STEP], 1, 3)


def _without_slope(blocks: F32) -> F32:
    """The blocks less the plane that fits each best."""
    axis = np.linspace(-1, 1, BLOCK, dtype=np.float32)
    rest = blocks - blocks.mean((1, 2), keepdims=True)
    for plane in (axis[:, None], axis[None, :]):
        plane = np.broadcast_to(plane, (BLOCK, BLOCK))[None, ..., None]
        rest = rest - plane * ((rest * plane).sum((1, 2), keepdims=True) / (plane**2).sum())
    return np.asarray(rest, np.float32)


def _structure(rest: F32) -> F32:
    """Standard deviation of each block's coarse means, the largest channel: float32 (N,)."""
    size = BLOCK // COARSE
    coarse = rest.reshape(len(rest), size, COARSE, size, COARSE, 3).mean((2, 4))
    return np.asarray(coarse.std((1, 2)).max(1), np.float32)


def _noise(shape: tuple[int, ...], power: F32, seed: int) -> F32:
    """Gaussian noise of a power spectrum, float32 of that shape."""
    white = np.random.default_rng(seed).standard_normal(shape, np.float32)
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real).astype(np.float32)
    return np.asarray(cv2.filter2D(white, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT), np.float32)
