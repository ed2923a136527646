"""Do two pictures show the same place? SIFT points that agree on one geometry say so.

Points are matched both ways with Lowe's ratio test on RootSIFT (Arandjelovic and Zisserman 2012), then counted where
they agree on a homography (one plane, or a camera that only turned) or a fundamental matrix (any camera), estimated by
MAGSAC++ (Barath et al. 2020, in OpenCV as USAC_MAGSAC).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LONG_SIDE = 512
POINTS = 1000
RATIO = 0.85
MIN_PLANE, MIN_CAMERA = 16, 30
"""Matches that agree, at least. Of stills of unlike places 1 pair in 130 passes, all rooms with the same furniture."""
MIN_AREA = 0.02
"""Share of the picture that agreeing matches must span: a logo in a corner is no place."""


@dataclass(frozen=True)
class Points:
    """Feature points of a picture.

    Attributes:
        at: float32 (N, 2), x and y in shares of the long side.
        words: float32 (N, 128), RootSIFT.
        area: height x width in the units of `at`.
    """

    at: np.ndarray
    words: np.ndarray
    area: float


def find_points(picture: np.ndarray, free: np.ndarray | None = None) -> Points:
    """Points of a uint8 RGB picture (H, W, 3); an even picture has none. Only where `free` (bool (H, W)) if given."""
    height, width = picture.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    where = None if free is None else cv2.resize(free.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    sift = cv2.SIFT_create(POINTS, contrastThreshold=0.02)  # type: ignore[attr-defined]
    found, words = sift.detectAndCompute(cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY), where)
    area = size[0] * size[1] / LONG_SIDE**2
    if words is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), area)
    words = np.sqrt(words / (words.sum(1, keepdims=True) + 1e-6)).astype(np.float32)
    return Points(np.array([point.pt for point in found], np.float32) / LONG_SIDE, words, area)


def same_place(one: Points, other: Points) -> bool:
    """True if enough points of both pictures agree on one geometry, over enough of the picture."""
    a, b = match_points(one, other)
    if len(a) < 8:
        return False
    a, b = a * LONG_SIDE, b * LONG_SIDE
    _, plane = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 4.0, maxIters=3000, confidence=0.999)
    if plane is not None and plane.sum() >= MIN_PLANE and _spans(a, plane, one.area):
        return True
    _, camera = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.5, 0.999, 3000)
    return bool(camera is not None and camera.sum() >= MIN_CAMERA and _spans(a, camera, one.area))


def match_points(one: Points, other: Points) -> tuple[np.ndarray, np.ndarray]:
    """Positions of points that are each other's nearest and clearly nearer than the second, (M, 2) each."""
    none = np.zeros((0, 2), np.float32)
    if min(len(one.at), len(other.at)) < 8:
        return none, none
    alike = one.words @ other.words.T
    rows = np.arange(len(one.at))
    best = alike.argmax(1)
    first = alike[rows, best]
    mutual = alike.argmax(0)[best] == rows
    alike[rows, best] = -1
    distance, second = np.sqrt(np.maximum(2 - 2 * first, 0)), np.sqrt(np.maximum(2 - 2 * alike.max(1), 1e-9))
    good = mutual & (distance < RATIO * second)
    return one.at[good], other.at[best[good]]


def _spans(points: np.ndarray, inliers: np.ndarray, area: float) -> bool:
    hull = cv2.convexHull(points[inliers.ravel() > 0])
    return cv2.contourArea(hull) / LONG_SIDE**2 >= MIN_AREA * area
