"""Boxes around things: left, top, right, bottom, in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bglora.vision.arrays import Bool

Box = tuple[float, float, float, float]


def box_of(mask: Bool) -> Box:
    """The box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(one) + _area(other) - both)


def within(box: Box, height: int, width: int) -> Box:
    """The part of a box that lies in a picture."""
    return (
        min(max(box[0], 0.0), float(width)),
        min(max(box[1], 0.0), float(height)),
        min(max(box[2], 0.0), float(width)),
        min(max(box[3], 0.0), float(height)),
    )


def suppressed(boxes: Sequence[Box], scores: Sequence[float], limit: float) -> list[int]:
    """Non-maximum suppression: places of the boxes that stay, best score first.

    A box goes if a better one that stays overlaps it by more than `limit`. Of equal scores the first one counts.
    """
    kept: list[int] = []
    for k in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        if all(overlap(boxes[k], boxes[other]) <= limit for other in kept):
            kept.append(k)
    return kept


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
