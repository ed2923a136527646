"""Where a frame differs from the background by more than noise explains."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around, gray, largest_channel, touching
from bglora.vision.background import Background

STRONG, WEAK = 5.0, 2.2
"""Hysteresis thresholds in units of noise."""
SHIMMER = 4.5
"""Deviation (grey levels) of unmasked samples from which a background counts as moving by itself."""
MOMENTS = 14


def noise(background: Background, tolerance_px: float) -> F32:
    """What a background pixel may differ by: deviation plus gradient times the error of the alignment."""
    level = gray(background.mean)
    dx, dy = cv2.Sobel(level, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(level, cv2.CV_32F, 0, 1, scale=0.125)
    slope = cv2.dilate(cv2.magnitude(dx, dy), np.ones((3, 3), np.uint8))
    return np.asarray(background.deviation + tolerance_px * slope, np.float32)


def difference(frame: U8, background: Background) -> F32:
    """Largest channel of |frame - background| after a 3 x 3 mean, grey levels (H, W)."""
    soft = cv2.blur(frame.astype(np.float32), (3, 3)) - cv2.blur(background.mean, (3, 3))
    return largest_channel(np.abs(soft))


def fired(score: F32, known: Bool) -> Bool:
    """Hysteresis on a score in units of noise, only where the background is known."""
    weak = (score > WEAK) & known
    return touching(weak, (score > STRONG) & known)


def moving_distance(frame: U8, others: Sequence[U8], free: Sequence[Bool], where: Bool) -> F32:
    """How far a frame's pixel is from what its neighbourhood showed at other moments (sample consensus as in ViBe).

    The third-smallest distance, over up to 14 other moments, to the nearest of 3 x 3 neighbours 2 px apart; float32
    (H, W), 0 outside `where`. Moments in which the neighbour was masked (`free` false) don't count.
    """
    result = np.zeros(where.shape, np.float32)
    if not where.any():
        return result
    height, width = (part.stop - part.start for part in around(where, 0))
    top, left = (part.start for part in around(where, 0))
    own = cv2.blur(frame, (3, 3))[top : top + height, left : left + width]
    nearest, second, third = (np.full((height, width), 255, np.uint8) for _ in range(3))
    for other, unmasked in zip(others, free, strict=True):
        soft = _padded(cv2.blur(other, (3, 3)))
        masked = _padded(np.where(unmasked, 0, 255).astype(np.uint8))
        away = np.full((height, width), 255, np.uint8)
        for y in (top, top + 2, top + 4):
            for x in (left, left + 2, left + 4):
                there = (slice(y, y + height), slice(x, x + width))
                away = cv2.min(away, cv2.max(largest_channel(cv2.absdiff(soft[there], own)), masked[there]))
        third = cv2.min(third, cv2.max(second, away))
        second = cv2.min(second, cv2.max(nearest, away))
        nearest = cv2.min(nearest, away)
    inside = where[top : top + height, left : left + width]
    result[top : top + height, left : left + width][inside] = third[inside]
    return result


def _padded(picture: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_REPLICATE))
