"""Views of a traveling camera brought into one frame: a homography for the most, dense flow for the rest.

Flow is DIS (Kroeger 2016). Under a hole, where the target shows a character, and where flow there and back disagrees,
it is carried on from around by a pull-push pyramid (Gortler 1996): what stands beside the character goes on behind it.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow

RING = 14
"""Pixels around a hole in which alignments are compared."""
BEND_SIGMA = 5.0
"""Smoothness (pixels) of what may bend a homography that is right but for the lens and the pose's last tenth."""
BACK_PX = 1.0
"""Pixels by which flow there and back may disagree."""


def aligned(
    target: U8, hole: Bool, source: U8, masked: Bool, pose: NDArray[np.float64], bend_px: float | None = None
) -> tuple[U8, Bool] | None:
    """A source picture in the target's coordinates, resampled once.

    Args:
        target: uint8 RGB (H, W, 3), a frame or a part of one. hole: its removal mask.
        source, masked: another whole frame of any size at the same exposure, and its removal mask.
        pose: homography from source pixels to target pixels.
        bend_px: pixels by which flow may bend what the homography says; None: as many as it takes.

    Returns:
        The picture uint8 (H, W, 3), and where it shows unmasked source, bool (H, W); None if they don't overlap.
    """
    height, width = hole.shape
    size = (width, height)
    inner = np.zeros(masked.shape, np.uint8)
    inner[2:-2, 2:-2] = 1
    seen = cv2.warpPerspective(inner, pose, size, flags=cv2.INTER_NEAREST) > 0
    if not seen.any():
        return None
    rough = np.asarray(
        cv2.warpPerspective(source, pose, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    covered = cv2.warpPerspective(masked.astype(np.uint8) * 255, pose, size, flags=cv2.INTER_LINEAR) > 8
    flow = _flow(target, rough, grow(hole | covered, 3) | ~seen, bend_px)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    ring = grow(hole, RING) & ~grow(hole, 3) & seen & ~covered
    if bend_px is None and _fits(target, rough, flow, ring):
        flow[:] = 0
    points = np.stack([xs + flow[..., 0], ys + flow[..., 1]], 2).reshape(1, -1, 2)
    at = cv2.perspectiveTransform(points, np.linalg.inv(pose)).reshape(height, width, 2).astype(np.float32)
    picture = cv2.remap(source, at, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    free = cv2.remap(((inner > 0) & ~grow(masked, 2)).astype(np.uint8), at, None, cv2.INTER_NEAREST) > 0
    return np.asarray(picture, np.uint8), np.asarray(free)


def _fits(target: U8, rough: U8, flow: F32, ring: Bool) -> bool:
    """Whether the homography alone fits around the hole nearly as well as flow does: it extrapolates better."""
    if ring.sum() < 50:
        return False
    height, width = ring.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    better = cv2.remap(rough, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    plain, moved = (float(cv2.absdiff(target, p)[ring].mean()) for p in (rough, better))
    return plain <= 1.4 * moved + 1.0


def _flow(target: U8, other: U8, unknown: Bool, bend_px: float | None) -> F32:
    a, b = (np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), np.uint8) for p in (target, other))
    there = _dis().calc(a, b, None)
    back = _dis().calc(b, a, None)
    height, width = unknown.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    returned = cv2.remap(
        back, xs + there[..., 0], ys + there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    wrong = np.hypot(*np.moveaxis(there + returned, 2, 0)) > BACK_PX
    if bend_px is None:
        return carried(there, ~(unknown | wrong))
    wrong |= np.hypot(there[..., 0], there[..., 1]) > bend_px
    return np.asarray(cv2.GaussianBlur(carried(there, ~(unknown | wrong)), (0, 0), BEND_SIGMA), np.float32)


@cache
def _dis() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


def carried(values: F32, known: Bool) -> F32:
    """Values (H, W, C) where `known`; elsewhere carried on smoothly from the known ones (zero if none is known)."""
    weight = known.astype(np.float32)
    levels = [(values * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        total, weight = (cv2.pyrDown(part) for part in levels[-1])
        levels.append((total, weight))
    total, weight = levels[-1]
    out = total / np.maximum(weight, 1e-6)[..., None]
    for total, weight in reversed(levels[:-1]):
        height, width = weight.shape
        coarse = cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)
        share = np.minimum(1.0, 4 * weight)[..., None]
        out = share * total / np.maximum(weight, 1e-6)[..., None] + (1 - share) * coarse
    return np.asarray(out, np.float32)
