"""Backgrounds that move by themselves (water, leaves): pixels from one coherent moment, not the mean of many.

The moment is the one that fits best around the hole: waves and swaying plants come back to nearly the same place, and
a moment that fits at the ring leaves no seam. What is left of a difference there is carried softly into the hole.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.flow import carried

RING = 10
"""Pixels around a part of the hole in which moments are compared."""
FEWEST_RING = 30
COVER_LEVELS = 24.0
"""Grey levels of misfit that a moment may have more if it shows all of a part instead of nothing of it."""
STEP_LEVELS = 0.05
"""Grey levels of misfit that one step in time counts: between equal moments the nearer one."""
SOFT_LEVELS = 12.0
"""Grey levels by which a moment is shifted at most to meet what is around the hole."""


def from_one_moment(
    picture: F32, where: Bool, target: U8, known: Bool, pictures: Sequence[U8], free: Sequence[Bool]
) -> Bool:
    """Fills each part of `where` from as few moments as possible; in place.

    Args:
        picture: float32 (H, W, 3), written where the result is True. where: bool (H, W), what to fill.
        target: uint8 (H, W, 3), the frame, true where `known`.
        pictures, free: the other frames at the same exposure, nearest in time first, and where they show background.

    Returns:
        Where a moment was found, bool (H, W).
    """
    filled = np.zeros_like(where)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grow(where, 2).astype(np.uint8), connectivity=8)
    height, width = where.shape
    for part in range(1, count):
        x, y, w, h = (int(v) for v in stats[part, :4])
        box = (
            slice(max(0, y - RING), min(height, y + h + RING)),
            slice(max(0, x - RING), min(width, x + w + RING)),
        )
        left = (labels[box] == part) & where[box]
        ring = grow(left, RING) & known[box] & ~grow(left, 1)
        while left.any():
            pick = _best(left, ring, target[box], [p[box] for p in pictures], [f[box] for f in free])
            if pick is None:
                break
            take = left & free[pick][box]
            shift = _shift(target[box], pictures[pick][box], ring & free[pick][box])
            picture[box][take] = (pictures[pick][box] + shift)[take]
            filled[box] |= take
            left &= ~take
    return filled


def _best(left: Bool, ring: Bool, target: U8, pictures: Sequence[U8], free: Sequence[Bool]) -> int | None:
    """The moment that shows most of `left` and fits best in the ring; None if none shows anything."""
    costs = []
    for step, (picture, shown) in enumerate(zip(pictures, free, strict=True)):
        cover = float((shown & left).sum()) / float(left.sum())
        near = ring & shown
        misfit = float(cv2.absdiff(target, picture)[near].mean()) if near.sum() >= FEWEST_RING else COVER_LEVELS
        costs.append(misfit + COVER_LEVELS * (1 - cover) + STEP_LEVELS * step if cover > 0 else np.inf)
    pick = int(np.argmin(costs)) if costs else 0
    return pick if costs and np.isfinite(costs[pick]) else None


def _shift(target: U8, picture: U8, ring: Bool) -> F32:
    """The low-frequency difference to the target around the hole, carried into it: float32 (H, W, 3)."""
    if ring.sum() < FEWEST_RING:
        return np.zeros(target.shape, np.float32)
    difference = cv2.subtract(target, picture, dtype=cv2.CV_32F)
    soft = carried(cv2.GaussianBlur(carried(difference, ring), (0, 0), 4.0), ring)
    return np.clip(soft, -SOFT_LEVELS, SOFT_LEVELS)
