"""Does something of a character remain? Judged from the plates alone, without the masks.

The plates of a shot show one background. What is in one plate and not in the others at the same place moves, and what
moves and is no restless background (water, leaves: it moves everywhere around) is suspicious.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, largest_channel, without_specks
from bglora.vision.background import spread
from bglora.vision.camera import Camera

COMPARED = 9
DIFFERENT = 28.0
"""Grey levels at quarter size by which a moving remainder differs."""
SMALLEST = 0.0006
"""Share of the picture that a remainder has at least."""


def audit(plates: Sequence[U8], camera: Camera, gains: NDArray[np.float64]) -> list[float]:
    """Share of each plate (0 to 1) that differs from what the other plates show there.

    Args:
        plates: uint8 (H, W, 3) of one shot. camera, gains: of these plates.
    """
    if len(plates) < 3 or camera.kind in ("parallax", "unknown"):
        return [0.0] * len(plates)
    small = [_small(plate, gain) for plate, gain in zip(plates, gains, strict=True)]
    height, width = plates[0].shape[:2]
    scale = np.diag([small[0].shape[1] / width, small[0].shape[0] / height, 1.0])
    chosen = spread(len(small), COMPARED)
    if camera.kind == "still":
        stack = np.stack([small[k] for k in chosen])
        middle, shimmer = np.median(stack, 0), _shimmer(stack)
        return [_share(picture, middle, shimmer, None) for picture in small]
    return [_moving(small, k, camera, scale) for k in range(len(small))]


def _small(plate: U8, gain: NDArray[np.float64]) -> F32:
    picture = cv2.resize(plate, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(picture / gain.astype(np.float32), (3, 3), 0.8), np.float32)


def _shimmer(stack: NDArray[np.float32]) -> F32:
    """How much most plates differ among each other, grey levels: the background's own movement."""
    spread_ = np.percentile(stack, 80, axis=0) - np.percentile(stack, 20, axis=0)
    return np.asarray(cv2.dilate(largest_channel(spread_.astype(np.float32)), np.ones((3, 3), np.uint8)), np.float32)


def _share(picture: F32, middle: F32, shimmer: F32, valid: Bool | None) -> float:
    away = largest_channel(np.abs(picture - middle.astype(np.float32))) > DIFFERENT + 2 * shimmer
    if valid is not None:
        away &= valid
    return float(without_specks(away, max(3, int(SMALLEST * away.size))).mean())


def _moving(small: list[F32], k: int, camera: Camera, scale: NDArray[np.float64]) -> float:
    height, width = small[k].shape[:2]
    order = sorted((j for j in range(len(small)) if j != k), key=lambda j: abs(j - k))[: COMPARED - 1]
    stack, valid = [small[k]], [np.ones((height, width), bool)]
    for j in order:
        pose = scale @ camera.between(j, k) @ np.linalg.inv(scale)
        inner = np.zeros((height, width), np.uint8)
        inner[1:-1, 1:-1] = 1
        valid.append(cv2.warpPerspective(inner, pose, (width, height), flags=cv2.INTER_NEAREST) > 0)
        stack.append(np.asarray(cv2.warpPerspective(small[j], pose, (width, height)), np.float32))
    count = np.stack(valid).sum(0)
    pictures = np.where(np.stack(valid)[..., None], np.stack(stack), np.inf)
    pictures.sort(axis=0)
    low, middle, high = (_ranked(pictures, (count - 1) * share) for share in (0.2, 0.5, 0.8))
    shimmer = cv2.dilate(largest_channel(high - low), np.ones((3, 3), np.uint8))
    return _share(small[k], middle, np.asarray(shimmer), count >= 4)


def _ranked(ordered: NDArray[np.float32], rank: NDArray[np.float64]) -> F32:
    """The sample of a given rank per pixel from sorted samples (N, H, W, 3)."""
    index = np.rint(rank).astype(np.int64)[None, ..., None]
    return np.asarray(np.take_along_axis(ordered, np.broadcast_to(index, (1, *ordered.shape[1:])), 0)[0], np.float32)
