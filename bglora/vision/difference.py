"""Where a frame differs from the background by more than noise explains."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, gray, largest_channel, touching
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
    height, width = frame.shape[:2]
    ys, xs = np.nonzero(where)
    result = np.zeros((height, width), np.float32)
    if not len(ys):
        return result
    own = cv2.blur(frame, (3, 3))[ys, xs].astype(np.int16)
    distances = np.full((max(3, len(others)), len(ys)), 255, np.int16)
    for k, (other, unmasked) in enumerate(zip(others, free, strict=True)):
        soft = cv2.blur(other, (3, 3))
        for dy in (-2, 0, 2):
            for dx in (-2, 0, 2):
                y, x = np.clip(ys + dy, 0, height - 1), np.clip(xs + dx, 0, width - 1)
                away = np.abs(soft[y, x].astype(np.int16) - own).max(1)
                away[~unmasked[y, x]] = 255
                np.minimum(distances[k], away, out=distances[k])
    result[ys, xs] = np.partition(distances, 2, axis=0)[2]
    return result
