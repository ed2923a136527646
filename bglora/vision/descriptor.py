"""What tells places apart in a picture: colors, layout and texture, measured for the backend `descriptor`.

Its docstring draws what is measured. Histograms are softened, so that a small change of light moves no pixel from one
bin to the next at once.
"""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32

SIDE, FINE_SIDE = 64, 192
LIGHTNESS = np.linspace(15, 85, 5)
CHROMA = np.arange(-50.0, 51.0, 10.0)
SOFT_LIGHTNESS, SOFT_CHROMA = 7.0, 6.5
EDGE_STEPS = np.array([0.01, 0.03, 0.08, 0.2])
TEXTURE_SHARE, FINE_TEXTURE = 0.2, 0.5
ROWS = 4
MEDIAN, GAMMAS = 0.45, (0.5, 2.0)
"""Lightness (0 to 1) that the median gets when the light is taken out, and the range of gammas for it."""
FINE, SHAPE = 4.0, (25, 30, 30)
"""Pixels are counted in steps of FINE (CIELAB units) before bins are softened: ten times as fast as pixel by pixel."""


def _soft(values: np.ndarray, centers: np.ndarray, width: float) -> np.ndarray:
    """Each value's share in every bin, (N,) to (N, bins); rows sum to 1."""
    shares = np.exp(-0.5 * ((values[:, None] - centers[None]) / width) ** 2) + 1e-12
    return np.asarray(shares / shares.sum(1, keepdims=True))


SOFT_L = _soft((np.arange(SHAPE[0]) + 0.5) * FINE, LIGHTNESS, SOFT_LIGHTNESS)
SOFT_AB = _soft((np.arange(SHAPE[1]) + 0.5) * FINE - 60, CHROMA, SOFT_CHROMA)


def measure(picture: np.ndarray) -> F32:
    """What is measured of one uint8 RGB picture (H, W, 3), before projection: float32 (1354,)."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    fine = cv2.resize(picture, (FINE_SIDE, FINE_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    unlit = cv2.cvtColor(without_light(small), cv2.COLOR_RGB2LAB)
    parts = (
        _color(lab) * (1 - TEXTURE_SHARE) ** 0.5,
        _texture(lab[..., 0]) * TEXTURE_SHARE**0.5,
        _color(unlit),
        _rows(lab),
        _rows(unlit),
        _texture(cv2.cvtColor(fine, cv2.COLOR_RGB2LAB)[..., 0]) * FINE_TEXTURE,
    )
    return np.concatenate(parts).astype(np.float32)


def without_light(picture: F32) -> F32:
    """A picture, float RGB (H, W, 3) in 0 to 1, whose mean is gray and whose median lightness is MEDIAN.

    Gray world (Buchsbaum 1980) undoes white balance; the gamma undoes exposure.
    """
    mean = picture.mean((0, 1))
    balanced = picture * (mean.mean() / np.maximum(mean, 0.02))
    median = float(np.clip(np.median(balanced.mean(2)), 0.05, 0.95))
    gamma = np.clip(np.log(MEDIAN) / np.log(median), *GAMMAS)
    return np.asarray(np.clip(balanced, 0, 1) ** gamma, np.float32)


def _rows(lab: F32) -> np.ndarray:
    """Mean and standard deviation of (L, a, b) in ROWS rows from top to bottom, (24,)."""
    return np.concatenate([np.r_[row.mean((0, 1)), row.std((0, 1))] for row in np.array_split(lab, ROWS)])


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
