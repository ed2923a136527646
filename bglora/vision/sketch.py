"""Sketches: what a frame shows, in a few gray cells, to find frames that may show the same view.

A sketch is uint8 (ROWS, COLUMNS): the mean luma of each cell's free pixels, 1 to 255, and 0 where most of the cell is
masked. Characters leave no trace in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, gray

ROWS, COLUMNS = 9, 16
LEAST_SHARED = 0.5
"""Share of the cells that both sketches must know to be compared."""
NEW = 12
"""Grey levels by which a cell differs from every chosen view where it shows something new."""


def sketch(picture: U8, masked: Bool) -> U8:
    """The sketch of a uint8 RGB picture (H, W, 3) without the pixels that are `masked` (bool (H, W))."""
    free = (~masked).astype(np.float32)
    size = (COLUMNS, ROWS)
    share = cv2.resize(free, size, interpolation=cv2.INTER_AREA)
    light = cv2.resize(gray(picture) * free, size, interpolation=cv2.INTER_AREA)
    level = np.clip(np.rint(light / np.maximum(share, 1e-6)), 1, 255)
    return np.where(share >= 0.5, level, 0).astype(np.uint8)


def choose_views(sketches: Sequence[U8], most: int) -> list[int]:
    """Indices of at most `most` frames that together show most of what all of them show, best first.

    The first is the one with the fewest masked cells; each next one shows the most cells that the chosen ones don't,
    because somebody stood there or because the camera looked elsewhere. The earlier of equals is taken.
    """
    if not sketches:
        return []
    stack = np.stack(sketches).astype(np.int16)
    known = stack > 0
    unseen = known.copy()
    chosen: list[int] = []
    while len(chosen) < most and unseen.any():
        best = int(unseen.sum((1, 2)).argmax())
        chosen.append(best)
        unseen &= ~(known[best] & (np.abs(stack - stack[best]) < NEW))
        unseen[best] = False
    return chosen


def likeness(sketches: Sequence[U8], others: Sequence[U8]) -> F32:
    """Correlation (zero mean, normalized) of M sketches with N others over the cells that both know, float32 (M, N).

    -1 to 1; -1 where they share too few cells. It doesn't change with exposure.
    """
    values, seen = (np.stack(some).reshape(len(some), -1).astype(np.float64) for some in (sketches, others))
    known, there = ((some > 0).astype(np.float64) for some in (values, seen))
    count = known @ there.T
    total, back = values @ there.T, known @ seen.T
    spread = np.maximum(count * (values**2 @ there.T) - total**2, 0)
    spread *= np.maximum(count * (known @ (seen**2).T) - back**2, 0)
    both: NDArray[np.float64] = count * (values @ seen.T) - total * back
    score = both / np.sqrt(np.maximum(spread, 1e-9))
    return np.where(count >= LEAST_SHARED * ROWS * COLUMNS, np.clip(score, -1, 1), -1.0).astype(np.float32)
