"""Near things in front of a traveling camera: they leave the plane of the background, but they stand still.

What stands still obeys the epipolar geometry between two frames (Hartley and Zisserman, chapter 11); who walks mostly
doesn't. Corners inside an object are tracked to frames well apart and judged by their distance to the epipolar lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool, grow
from bglora.vision.camera import Camera, track_points

ON_LINE_PX = 0.9
"""Sampson distance (pixels at a width of 512) up to which a corner stands still in the world."""
RIGID_SHARE = 0.7
FEWEST = 4


def standing_parts(frames: Sequence[U8], objects: Sequence[Bool], masks: Sequence[Bool], camera: Camera) -> list[Bool]:
    """Per frame the objects that stand still in the world, bool (H, W).

    Args:
        frames: RGB uint8. objects: objects of each frame. masks: removal masks, outside of which the geometry is found.
        camera: poses to start tracking at.
    """
    gray = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    limit = ON_LINE_PX * frames[0].shape[1] / 512
    steps = sorted({max(1, len(frames) // 8), max(2, len(frames) // 4)})
    out = []
    for k, inside in enumerate(objects):
        votes: dict[int, list[float]] = {}
        count, labels = cv2.connectedComponents(grow(inside, 1).astype(np.uint8), connectivity=8)
        if count > 1:
            for other in (k + s * step for step in steps for s in (-1, 1)):
                if 0 <= other < len(frames):
                    guess = camera.between(k, other)
                    for part, distance in _distances(gray[k], gray[other], guess, labels, masks[k], count):
                        votes.setdefault(part, []).append(distance)
        still = [part for part, distances in votes.items() if np.mean(np.array(distances) < limit) >= RIGID_SHARE]
        out.append(np.isin(labels, still) & (labels > 0))
    return out


def _distances(
    a: U8, b: U8, guess: NDArray[np.float64], labels: NDArray[np.int32], mask: Bool, count: int
) -> list[tuple[int, float]]:
    """Sampson distances of tracked corners by part, one entry a corner: (part, pixels)."""
    around = (~grow(mask, 4)).astype(np.uint8)
    p, q = track_points(a, b, guess, around)
    if len(p) < 30:
        return []
    cv2.setRNGSeed(7)
    f, inliers = cv2.findFundamentalMat(p, q, cv2.USAC_MAGSAC, 0.8, 0.999, 2000)
    if f is None or f.shape != (3, 3) or inliers.mean() < 0.5:
        return []
    corners = cv2.goodFeaturesToTrack(a, 300, 0.01, 3, mask=(labels > 0).astype(np.uint8))
    if corners is None:
        return []
    u, v = track_points(a, b, guess, None, corners.reshape(-1, 2))
    place = np.rint(u).astype(int)
    part = labels[np.clip(place[:, 1], 0, a.shape[0] - 1), np.clip(place[:, 0], 0, a.shape[1] - 1)]
    away = sampson(f, u, v)
    return [(int(n), float(d)) for n, d in zip(part, away, strict=True) if n > 0]


def sampson(f: NDArray[np.float64], p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sampson distance in pixels of point pairs (N, 2) to a fundamental matrix."""
    one = np.ones((len(p), 1))
    a, b = np.hstack([p, one]), np.hstack([q, one])
    fa, fb = a @ f.T, b @ f
    norm = np.sqrt(fa[:, 0] ** 2 + fa[:, 1] ** 2 + fb[:, 0] ** 2 + fb[:, 1] ** 2)
    return np.asarray(np.abs((b * fa).sum(1)) / np.maximum(norm, 1e-9), np.float64)
