"""Shadow or object: what a difference does to the color of the background.

A shadow, a soft shade or a faint reflection multiplies all three channels by one ratio; an object replaces the color.
What the ratio leaves unexplained, against the difference as a whole, parts the two (in the line of Horprasert 1999,
Cucchiara 2003). Where that is unclear, colors that objects and effects showed elsewhere in the shot decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, largest_channel

BINS = 16
RATIO = (0.3, 1.25)
EXPLAINED = 0.22
FAINT = 12.0


@dataclass(frozen=True)
class Change:
    """How a frame differs from its background; all float32 (H, W), grey levels.

    Attributes:
        difference: largest channel of the 3 x 3 mean of the difference.
        ratio: the one ratio for all channels that explains most of it.
        unexplained: largest channel of what the ratio leaves.
    """

    difference: F32
    ratio: F32
    unexplained: F32


def change(frame: U8, mean: F32) -> Change:
    """Compares a frame (at the background's exposure) with the background's mean."""
    picture = frame.astype(np.float32)
    products = cv2.blur((picture * mean).sum(2), (3, 3))
    squares = cv2.blur((mean * mean).sum(2), (3, 3))
    ratio = products / np.maximum(squares, 25.0)
    soft, behind = cv2.blur(picture, (3, 3)), cv2.blur(mean, (3, 3))
    rest = largest_channel(np.abs(soft - ratio[..., None] * behind))
    return Change(largest_channel(np.abs(soft - behind)), ratio.astype(np.float32), rest)


def object_evidence(seen: Change, noise: F32) -> F32:
    """Evidence for an object against a shadow, -1 to 2: above 0 an object by the ratio rule alone; float32 (H, W)."""
    allowed = EXPLAINED * seen.difference + 1.6 * noise
    evidence = np.clip(seen.unexplained / allowed - 1.0, -1.0, 2.0)
    odd = (seen.ratio < RATIO[0]) | (seen.ratio > RATIO[1])
    evidence = np.where(odd, np.maximum(evidence, 1.0), evidence)
    faint = (seen.difference < FAINT) | ((seen.ratio > 0.8) & (seen.ratio < 1.15) & (seen.unexplained < 6))
    return np.asarray(np.where(faint, np.minimum(evidence, -0.5), evidence), np.float32)


@dataclass(frozen=True)
class Colors:
    """Color histograms of a shot's objects and effects: log likelihood ratio by quantized color, (16, 16, 16)."""

    log_ratio: F32

    def evidence(self, frame: U8) -> F32:
        """Log ratio object : effect of each pixel's color, clipped to -3 to 3; float32 (H, W)."""
        q = frame >> 4
        return np.asarray(self.log_ratio[q[..., 0], q[..., 1], q[..., 2]], np.float32)


def learn_colors(frames: Sequence[U8], objects: Sequence[Bool], effects: Sequence[Bool]) -> Colors | None:
    """Learns the colors of a shot from its first masks; None when objects or effects are too few to tell."""
    of_object = np.zeros(BINS**3, np.float64)
    of_effect = np.zeros(BINS**3, np.float64)
    for frame, inside, shade in zip(frames, objects, effects, strict=True):
        q = (frame >> 4).astype(np.int32)
        index = (q[..., 0] * BINS + q[..., 1]) * BINS + q[..., 2]
        of_object += np.bincount(index[inside], minlength=BINS**3)
        of_effect += np.bincount(index[shade], minlength=BINS**3)
    if of_object.sum() < 300 or of_effect.sum() < 300:
        return None
    a, b = _smooth(of_object), _smooth(of_effect)
    prior = 20.0 / BINS**3
    ratio = np.log((a / a.sum() + prior * 1e-2) / (b / b.sum() + prior * 1e-2))
    support = (of_object + of_effect).reshape(a.shape)
    trusted = np.minimum(1.0, _smooth(support.ravel()) / 30.0)
    return Colors(np.clip(ratio * trusted, -3, 3).astype(np.float32))


def _smooth(histogram: np.ndarray) -> np.ndarray:
    cube = histogram.reshape(BINS, BINS, BINS).astype(np.float64)
    for axis in range(3):
        padded = np.concatenate([cube.take([0], axis), cube, cube.take([-1], axis)], axis)
        n = cube.shape[axis]
        cube = 0.25 * padded.take(range(n), axis) + 0.5 * cube + 0.25 * padded.take(range(2, n + 2), axis)
    return cube
