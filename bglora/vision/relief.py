"""Does one plane explain what a moving camera sees, or is there depth beside it?

A homography fits a turn and a zoom. Where the camera travels, it leaves a rest that depth explains: paths of points
with one number each (see `paths`). Corners on somebody who walks are off the plane, too, but most of them are no nearer
to where depth would take them, and they lie together: depth is told by how much of the picture it explains, and by how
wide what it explains is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import U8, Bool
from bglora.vision.paths import FEWEST_PATHS, Paths, Poses, follow_paths

SPANS = (6, 12, 24)
"""Frames over which paths are followed: short ones for fast cameras, long ones for slow."""
MOST_SPANS = 3
GRID = (6, 10)
FEWEST_IN_CELL = 2
FEWEST_CELLS = 8
LEAST_PX = 0.3
"""Typical distance (root mean square over a span, working pixels) from the plane that counts: a mask's tolerance."""
EXPLAINED = 0.6
"""Share of that distance that depth may leave: noise has one number a point less, and leaves 0.75 to 0.9."""


@dataclass(frozen=True)
class Relief:
    """What depth explains beside one plane.

    Attributes:
        share: of the grid cells with paths, 0 to 1, those whose distance from the plane depth explains.
        width: share of the picture's width over which the widest connected group of these cells has such paths.
        known: whether enough paths could be followed to tell.
    """

    share: float
    width: float
    known: bool


def find_relief(gray: Sequence[U8], poses: Poses, usable: Sequence[U8 | None]) -> Relief:
    """The relief of the spans that show most of it: medians over the spans of one length.

    Args:
        gray: uint8 (H, W), all frames. poses: homography of every frame to one of them, in their pixels.
        usable: per frame where points may lie; None: everywhere.
    """
    count = len(gray)
    found = []
    for length in sorted({min(span, count) for span in SPANS}):
        steps = np.linspace(0, count - length, min(MOST_SPANS, count - length + 1)).round().astype(int)
        spans = [
            follow_paths(gray, range(first, first + length), poses, usable[first + length // 2])
            for first in steps.tolist()
        ]
        told = [one for span in spans if (one := _told(span, gray[0].shape)) is not None]
        if told:
            share, width = np.median(told, axis=0)
            found.append(Relief(float(share), float(width), True))
    return max(found, key=lambda relief: relief.share * relief.width, default=Relief(0.0, 0.0, False))


def _told(span: Paths, shape: tuple[int, ...]) -> tuple[float, float] | None:
    """Share and width, see `Relief`; None where too little could be followed."""
    if len(span.points) < FEWEST_PATHS:
        return None
    height, width = shape
    rows, columns = GRID
    row, column = (span.points[:, 1] * rows // height).astype(int), (span.points[:, 0] * columns // width).astype(int)
    by_plane, by_depth = span.by_plane, span.by_depth
    known, deep = np.zeros(GRID, bool), np.zeros(GRID, np.uint8)
    for r, c in set(zip(row.tolist(), column.tolist(), strict=True)):
        inside = (row == r) & (column == c)
        if inside.sum() >= FEWEST_IN_CELL:
            plane, depth = float(np.median(by_plane[inside])), float(np.median(by_depth[inside]))
            known[r, c] = True
            deep[r, c] = plane > LEAST_PX and depth < EXPLAINED * plane
    if known.sum() < FEWEST_CELLS:
        return None
    explained = (by_plane > LEAST_PX) & (by_depth < EXPLAINED * by_plane)
    return float(deep.sum() / known.sum()), _widest(deep, row, column, span.points[:, 0], explained) / width


def _widest(deep: U8, row: np.ndarray, column: np.ndarray, x: np.ndarray, explained: Bool) -> float:
    """Pixels over which the explained paths of one connected group of cells lie."""
    count, labels = cv2.connectedComponents(deep, connectivity=8)
    group = labels[row, column]
    spread = [np.ptp(x[explained & (group == k)]) for k in range(1, count) if (explained & (group == k)).any()]
    return float(max(spread, default=0.0))
