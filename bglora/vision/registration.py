"""Homographies refined on the pictures themselves: from a few tenths of a pixel, as corners give them, to hundredths.

Gauss-Newton on differences of brightness (Lucas and Kanade 1981; Baker and Matthews 2004), coarse to fine, with weights
after Geman and McClure, so that what moves by itself or wasn't masked doesn't count. Exposure is undone by a gain, and
differences that change slowly over the picture (soft shade) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, shrink

SCALES = (2.0, 1.0, 1.0)
"""Smoothing (pixels) of the pictures; one linearization each."""
STEPS = 4
"""Reweighted least squares per linearization."""
SLOW_PX = 31
"""Differences smoother than a window of this width are exposure or soft shade, not motion."""
LEAST_SLOPE = 1.0
"""Grey levels per pixel from which a place tells motion."""
FEWEST, MOST = 300, 6_000
"""Places below which nothing is refined, and by how many at most motion is told."""
NOISE = 0.5
"""Grey levels of difference that are always forgiven."""
DAMPING = 1e-4
FARTHEST = 0.03
"""Share of the picture's width by which corners may move: farther is no refinement."""

Pose = NDArray[np.float64]


def refined(target: U8, known: Bool, source: U8, free: Bool, pose: Pose) -> Pose:
    """The homography from source to target pixels, (3, 3) with a last entry of 1, refined where both show background.

    It stays as it is where too little tells motion, where the pictures fit no better, and where it would move too far.

    Args:
        target: uint8 RGB (H, W, 3), a frame or a part of one. known: bool (H, W), where it shows background.
        source: another frame of any size. free: bool, its size, where it shows background.
        pose: homography from source pixels to target pixels, right to a few pixels.
    """
    pair = _Pair(_gray(target), known, _gray(source), free)
    start: Pose = np.asarray(np.linalg.inv(pose), np.float64)
    to_source: Pose = start
    for scale in SCALES:
        step = pair.step(to_source, scale)
        if step is None:
            return pose
        to_source = np.asarray(to_source @ step, np.float64)
    height, width = known.shape
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64)
    moved = cv2.perspectiveTransform(corners, pose @ to_source) - corners
    if np.abs(moved).max() > FARTHEST * source.shape[1] or pair.misfit(to_source) >= pair.misfit(start):
        return pose
    better = np.linalg.inv(to_source)
    return np.asarray(better / better[2, 2], np.float64)


def _gray(picture: U8) -> F32:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


@dataclass(frozen=True)
class _Pair:
    """Brightness, float32, of the two pictures, and where they show background."""

    target: F32
    known: Bool
    source: F32
    free: Bool

    def difference(self, to_source: Pose, scale: float) -> tuple[F32, Bool]:
        """Source minus target at one exposure, without what changes slowly, and where both show background; (H, W)."""
        size = (self.known.shape[1], self.known.shape[0])
        how = cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(
            self.source, to_source, size, flags=cv2.INTER_CUBIC | how, borderMode=cv2.BORDER_REPLICATE
        )
        inside = cv2.warpPerspective(self.free.astype(np.uint8), to_source, size, flags=cv2.INTER_NEAREST | how) > 0
        both = np.asarray(shrink(self.known & inside, 3))
        own, other = (cv2.GaussianBlur(p, (0, 0), scale) for p in (self.target, moved))
        if both.any():
            other = other * (max(1.0, float(np.median(own[both]))) / max(1.0, float(np.median(other[both]))))
        away = other - own
        away[~both] = 0
        slow, weight = (cv2.blur(p, (SLOW_PX, SLOW_PX)) for p in (away, both.astype(np.float32)))
        return np.asarray(away - slow / np.maximum(weight, 1e-3), np.float32), both

    def misfit(self, to_source: Pose) -> float:
        """Mean difference in grey levels."""
        away, both = self.difference(to_source, SCALES[-1])
        return float(np.abs(away[both]).mean()) if both.any() else float("inf")

    def step(self, to_source: Pose, scale: float) -> Pose | None:
        """How target pixels must move before `to_source` for the pictures to fit better; None: too little tells."""
        away, both = self.difference(to_source, scale)
        own = cv2.GaussianBlur(self.target, (0, 0), scale)
        dx, dy = (cv2.Sobel(own, cv2.CV_32F, *order, scale=0.125) for order in ((1, 0), (0, 1)))
        ys, xs = np.nonzero(both & (dx * dx + dy * dy > LEAST_SLOPE**2))
        if len(ys) < FEWEST:
            return None
        every = 1 + len(ys) // MOST
        ys, xs = ys[::every], xs[::every]
        height, width = self.known.shape
        unit = max(width, height) / 2
        x, y = (xs - width / 2) / unit, (ys - height / 2) / unit
        across, down = dx[ys, xs].astype(np.float64), dy[ys, xs].astype(np.float64)
        inward = x * across + y * down
        slopes = np.stack([across, across * x, across * y, down, down * x, down * y, -x * inward, -y * inward], axis=1)
        p = _solved(slopes, away[ys, xs].astype(np.float64)) / unit
        turn = np.array([[1 + p[1], p[2], p[0]], [p[4], 1 + p[5], p[3]], [p[6], p[7], 1.0]])
        to_unit = np.array([[1 / unit, 0, -width / 2 / unit], [0, 1 / unit, -height / 2 / unit], [0, 0, 1]])
        return np.asarray(np.linalg.inv(to_unit) @ turn @ to_unit, np.float64)


def _solved(slopes: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.float64]:
    """The parameters (8,) that take away most of the differences (N,), robustly; `slopes` (N, 8) are derivatives."""
    p = np.zeros(slopes.shape[1], np.float64)
    for _ in range(STEPS):
        left = away + slopes @ p
        spread = 1.4826 * float(np.median(np.abs(left))) + NOISE
        weight = 1 / (1 + (left / spread) ** 2) ** 2
        normal = (slopes * weight[:, None]).T @ slopes
        normal += np.eye(len(p)) * DAMPING * np.trace(normal) / len(p)
        p = np.asarray(-np.linalg.solve(normal, (slopes * weight[:, None]).T @ away), np.float64)
    return p
