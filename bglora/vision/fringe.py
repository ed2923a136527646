"""Remnants of a silhouette around a hole that was cut by hand or by polygon: a hole grows until its rim is background.

A polygon cuts the true outline a few pixels inside here and outside there; what it leaves is a rim in the character's
colors. Seen from the hole outwards a pixel belongs to it while it differs from the picture a few pixels further out by
more than that differs in itself, or while it is nearer to what the hole hides, where that is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, close_gaps, grow, largest_channel, shrink

REACH = 4
"""Pixels at a picture width of 512 by which a hole grows at most."""
BAND = 6
"""Pixels beyond the reach that are taken as background."""
DIFFERENT = 14.0
"""Grey levels by which a remnant differs from the background at least."""
DEVIATIONS = 2.0


def remnants(picture: U8, hole: Bool, *, filled: bool) -> Bool:
    """Pixels around a hole that still show what was cut out: bool (H, W), connected to the hole, disjoint from it.

    Args:
        picture: uint8 (H, W, 3). hole: bool (H, W).
        filled: the picture shows inside the hole what was cut out; else the hole is empty there.
    """
    if not hole.any():
        return np.zeros_like(hole)
    unit = max(1.0, picture.shape[1] / 512)
    reach = round(REACH * unit)
    outside = ~grow(hole, reach + 1)
    beyond = _local(picture, grow(hole, reach + 1 + round(BAND * unit)) & outside, 0.5 * (reach + BAND * unit))
    away = largest_channel(np.abs(cv2.blur(picture, (3, 3)).astype(np.float32) - beyond.mean))
    odd = (away > np.maximum(DIFFERENT, DEVIATIONS * beyond.deviation)) & beyond.known
    if filled:
        within = _local(picture, shrink(hole, max(1, round(unit))), reach)
        own = largest_channel(np.abs(picture.astype(np.float32) - within.mean))
        plain = largest_channel(np.abs(picture.astype(np.float32) - beyond.mean))
        odd |= within.known & beyond.known & (own < 0.7 * plain) & (plain > DIFFERENT)
    grown = hole
    for _ in range(reach):
        grown = grown | (grow(grown, 1) & odd)
    return close_gaps(grown, 3) & grow(hole, reach) & ~hole


@dataclass(frozen=True)
class _Local:
    """Mean color and deviation around each pixel of some pixels of a picture, and where there are any near."""

    mean: F32
    deviation: F32
    known: Bool


def _local(picture: U8, where: Bool, sigma: float) -> _Local:
    """Gaussian statistics over the pixels of `where` (normalized convolution)."""
    weight = where.astype(np.float32)
    values = picture.astype(np.float32) * weight[..., None]
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    safe = np.maximum(total, 1e-6)[..., None]
    mean = cv2.GaussianBlur(values, (0, 0), sigma) / safe
    square = cv2.GaussianBlur(values * picture, (0, 0), sigma) / safe
    deviation = np.sqrt(largest_channel(np.maximum(square - mean * mean, 0)))
    return _Local(mean.astype(np.float32), np.asarray(deviation, np.float32), total > 1e-4)
