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
from bglora.vision.camera import Camera
from bglora.vision.tracking import track_points

OFF_LINE_PX = 2.2
"""Median Sampson distance (pixels at a width of 512) from which an object moves by itself."""
CAPPED = 5.0
"""No pair of frames counts for more than this many times `OFF_LINE_PX`."""


def standing_parts(frames: Sequence[U8], objects: Sequence[Bool], masks: Sequence[Bool], camera: Camera) -> list[Bool]:
    """Per frame the objects that stand still in the world, bool (H, W).

    Args:
        frames: RGB uint8. objects: objects of each frame. masks: removal masks, outside of which the geometry is found.
        camera: poses to start tracking at.
    """
    gray = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    limit = OFF_LINE_PX * frames[0].shape[1] / 512
    steps = sorted({max(1, len(frames) // 8), max(2, len(frames) // 4)})
    parts = [cv2.connectedComponents(grow(inside, 1).astype(np.uint8), connectivity=8) for inside in objects]
    votes: dict[tuple[int, int], list[float]] = {}
    for k, (count, labels) in enumerate(parts):
        for other in (k + s * step for step in steps for s in (-1, 1)):
            if count > 1 and 0 <= other < len(frames):
                found = _distances(gray[k], gray[other], camera.between(k, other), labels, masks[k])
                for part, distance in found.items():
                    votes.setdefault((k, part), []).append(min(distance / limit, CAPPED))
    chains = _chains([labels for _, labels in parts], camera)
    out = []
    for k, (count, labels) in enumerate(parts):
        still = []
        for part in range(1, count):
            near = [v for a, p in chains[(k, part)] if abs(a - k) <= len(frames) // 3 for v in votes.get((a, p), [])]
            if near and np.mean(near) < 1.0:
                still.append(part)
        out.append(np.isin(labels, still) & (labels > 0))
    return out


def _chains(labels: Sequence[NDArray[np.int32]], camera: Camera) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Objects linked from frame to frame by overlap: (frame, part) to all members of its chain."""
    chain: dict[tuple[int, int], list[tuple[int, int]]] = {}
    height, width = labels[0].shape
    for k, now in enumerate(labels):
        for part in range(1, int(now.max()) + 1):
            chain[(k, part)] = [(k, part)]
        if k == 0:
            continue
        pose = camera.between(k - 1, k)
        before = cv2.warpPerspective(labels[k - 1].astype(np.float32), pose, (width, height), flags=cv2.INTER_NEAREST)
        both = (before > 0) & (now > 0)
        pairs, sizes = np.unique(np.stack([before[both].astype(int), now[both]], 1), axis=0, return_counts=True)
        for (a, b), size in zip(pairs, sizes, strict=True):
            if size >= 0.3 * min((before == a).sum(), (now == b).sum()):
                _join(chain, (k - 1, int(a)), (k, int(b)))
    return chain


def _join(chain: dict[tuple[int, int], list[tuple[int, int]]], a: tuple[int, int], b: tuple[int, int]) -> None:
    if chain[a] is chain[b]:
        return
    chain[a].extend(chain[b])
    for member in chain[b]:
        chain[member] = chain[a]


def _distances(a: U8, b: U8, guess: NDArray[np.float64], labels: NDArray[np.int32], mask: Bool) -> dict[int, float]:
    """Median Sampson distance in pixels of each part's tracked corners."""
    p, q = track_points(a, b, guess, (~grow(mask, 4)).astype(np.uint8))
    f = _fundamental(p, q) if len(p) >= 30 else None
    if f is None:
        return {}
    corners = cv2.goodFeaturesToTrack(a, 300, 0.01, 3, mask=(labels > 0).astype(np.uint8))
    if corners is None:
        return {}
    u, v = track_points(a, b, guess, None, corners.reshape(-1, 2))
    place = np.rint(u).astype(int)
    part = labels[np.clip(place[:, 1], 0, a.shape[0] - 1), np.clip(place[:, 0], 0, a.shape[1] - 1)]
    away = sampson(f, u, v)
    return {int(n): float(np.median(away[part == n])) for n in np.unique(part[part > 0])}


def _fundamental(p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """The fundamental matrix by MAGSAC++, None where fewer than half of the points agree on one."""
    cv2.setRNGSeed(7)
    try:
        f, inliers = cv2.findFundamentalMat(p, q, cv2.USAC_MAGSAC, 0.8, 0.999, 2000)
    except cv2.error:
        return None  # USAC raises an assertion where all its samples were degenerate (one plane, no parallax)
    if f is None or f.shape != (3, 3) or inliers.mean() < 0.5:
        return None
    return np.asarray(f, np.float64)


def sampson(f: NDArray[np.float64], p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sampson distance in pixels of point pairs (N, 2) to a fundamental matrix."""
    one = np.ones((len(p), 1))
    a, b = np.hstack([p, one]), np.hstack([q, one])
    fa, fb = a @ f.T, b @ f
    norm = np.sqrt(fa[:, 0] ** 2 + fa[:, 1] ** 2 + fb[:, 0] ** 2 + fb[:, 1] ** 2)
    return np.asarray(np.abs((b * fa).sum(1)) / np.maximum(norm, 1e-9), np.float64)
