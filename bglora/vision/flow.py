"""Views of a moving camera brought into one frame: a homography for the most, dense flow for the rest.

Flow is DIS (Kroeger 2016). Under a hole, where the target shows a character, and where flow there and back disagrees,
it is carried on from around by a pull-push pyramid (Gortler 1996): what stands beside the character goes on behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.registration import refined

RING = 14
"""Pixels around a hole in which alignments are compared."""
FEWEST_RING = 50
BACK_PX = 1.0
"""Pixels by which flow there and back may disagree."""


@dataclass(frozen=True)
class View:
    """Another frame in the target's coordinates, resampled once.

    Attributes:
        picture: uint8 (H, W, 3). free: bool (H, W), where it shows unmasked source.
        plain: the homography explains what is around the hole.
    """

    picture: U8
    free: Bool
    plain: bool


def aligned(target: U8, hole: Bool, source: U8, masked: Bool, pose: NDArray[np.float64]) -> View | None:
    """A source picture in the target's coordinates; None if they don't overlap.

    Args:
        target: uint8 RGB (H, W, 3), a frame or a part of one. hole: its removal mask.
        source, masked: another whole frame of any size at the same exposure, and its removal mask.
        pose: homography from source pixels to target pixels; it is refined on what both show.
    """
    height, width = hole.shape
    size = (width, height)
    inner = np.zeros(masked.shape, np.uint8)
    inner[2:-2, 2:-2] = 1
    seen = cv2.warpPerspective(inner, pose, size, flags=cv2.INTER_NEAREST) > 0
    if not seen.any():
        return None
    pose = refined(target, ~grow(hole, 3), source, (inner > 0) & ~grow(masked, 3), pose)
    seen = cv2.warpPerspective(inner, pose, size, flags=cv2.INTER_NEAREST) > 0
    rough = np.asarray(
        cv2.warpPerspective(source, pose, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    covered = cv2.warpPerspective(masked.astype(np.uint8) * 255, pose, size, flags=cv2.INTER_LINEAR) > 8
    known = seen & ~grow(hole | covered, 3)
    flow, sure = _flow(target, rough)
    free_flow = carried(flow, known & sure)
    plain = _fits(target, rough, free_flow, grow(hole, RING) & ~grow(hole, 3) & seen & ~covered)
    points = _grid((height, width)) if plain else _grid((height, width)) + free_flow
    at = (
        cv2.perspectiveTransform(points.reshape(1, -1, 2), np.linalg.inv(pose))
        .reshape(height, width, 2)
        .astype(np.float32)
    )
    picture = cv2.remap(source, at, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    free = cv2.remap(((inner > 0) & ~grow(masked, 2)).astype(np.uint8), at, None, cv2.INTER_NEAREST) > 0
    return View(np.asarray(picture, np.uint8), np.asarray(free), plain)


def _grid(shape: tuple[int, int]) -> F32:
    """x and y of every pixel, float32 (H, W, 2)."""
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return np.stack([xs, ys], 2)


def _moved(picture: np.ndarray, flow: F32) -> np.ndarray:
    """The picture looked up where the flow points."""
    at = _grid(flow.shape[:2]) + flow
    return cv2.remap(picture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _fits(target: U8, rough: U8, flow: F32, ring: Bool) -> bool:
    """Whether the homography fits around the hole nearly as well as free flow: it extrapolates better."""
    if ring.sum() < FEWEST_RING:
        return False
    plain, moved = (float(cv2.absdiff(target, way)[ring].mean()) for way in (rough, _moved(rough, flow)))
    return plain <= 1.15 * moved + 0.3


def _flow(target: U8, other: U8) -> tuple[F32, Bool]:
    """Flow (H, W, 2) from the target to the other picture, and where the way back agrees, bool (H, W)."""
    a, b = (np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), np.uint8) for p in (target, other))
    there = _dis().calc(a, b, None)
    back = _dis().calc(b, a, None)
    apart = there + _moved(back, there)
    return np.asarray(there, np.float32), np.asarray(np.hypot(apart[..., 0], apart[..., 1]) <= BACK_PX)


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
