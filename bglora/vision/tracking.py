"""Corners of a picture and where they are in another one.

Pyramidal Lucas-Kanade with a forward-backward check (Kalal 2010).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8

GRID = (4, 6)
CORNERS_PER_CELL = 14


def find_corners(picture: U8, usable: U8 | None) -> NDArray[np.float32]:
    """Corners of a gray picture (N, 2), x and y, spread over a grid; `usable`: where they may lie; None: everywhere."""
    height, width = picture.shape
    found = []
    rows, columns = GRID
    for r in range(rows):
        for c in range(columns):
            y0, y1 = r * height // rows, (r + 1) * height // rows
            x0, x1 = c * width // columns, (c + 1) * width // columns
            mask = None if usable is None else usable[y0:y1, x0:x1]
            points = cv2.goodFeaturesToTrack(picture[y0:y1, x0:x1], CORNERS_PER_CELL, 0.02, 5, mask=mask, blockSize=5)
            if points is not None:
                found.append(points.reshape(-1, 2) + np.array([x0, y0], np.float32))
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 2), np.float32)


def track_points(
    a: U8, b: U8, guess: NDArray[np.float64], usable: U8 | None, points: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners of gray picture `a` and where they are in `b` (both (N, 2), x and y), those that track there and back.

    Args:
        guess: homography from `a` to `b` to start at.
        usable: where corners may lie; None: everywhere. points: the corners, if they are known.
    """
    points = find_corners(a, usable) if points is None else points
    if len(points):
        gain = max(1.0, float(np.median(a))) / max(1.0, float(np.median(b)))
        b = np.asarray(cv2.convertScaleAbs(b, alpha=gain), np.uint8) if 0.5 < gain < 2 else b
    there, good = follow_points(a, b, guess, points)
    return points[good], there[good]


def follow_points(
    a: U8, b: U8, guess: NDArray[np.float64], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points (N, 2) of gray picture `a` are in `b`, and which of them track there and back (bool (N,)).

    Args:
        guess: homography from `a` to `b` to start at.
    """
    if not len(points):
        return points, np.zeros(0, bool)
    start = cv2.perspectiveTransform(points[None].astype(np.float64), guess)[0].astype(np.float32)
    window, depth, flag = (17, 17), 4, cv2.OPTFLOW_USE_INITIAL_FLOW
    there, ok1, _ = cv2.calcOpticalFlowPyrLK(a, b, points, start, winSize=window, maxLevel=depth, flags=flag)
    back, ok2, _ = cv2.calcOpticalFlowPyrLK(b, a, there, points.copy(), winSize=window, maxLevel=depth, flags=flag)
    good = (ok1.ravel() == 1) & (ok2.ravel() == 1) & (np.linalg.norm(back - points, axis=1) < 0.7)
    return np.asarray(there, np.float32), good
