"""How the camera moved in a shot, and where each frame lies with respect to the shot's middle frame.

Corners spread over a grid are tracked by pyramidal Lucas-Kanade with a forward-backward check (Kalal 2010);
homographies are fitted by MAGSAC++ (Barath 2020, in OpenCV's USAC). Every frame is tracked straight against a
reference frame, not only along the chain, so that errors don't add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool
from bglora.vision.relief import find_relief
from bglora.vision.tracking import GRID, find_corners, track_points

Kind = Literal["still", "pan", "parallax", "unknown"]

WORKING_WIDTH = 640
STILL_PX = 0.35
"""The picture is at rest when the typical grid cell moves less than this (working pixels)."""
BASELINES = (3, 6, 12)
"""Parallax is looked for between frames such a part of the shot apart, widest first: small steps hide it."""
FEWEST_FOLLOWED = 0.35
"""Share of the corners that must be followed over a baseline for it to tell anything."""
TRAVEL_SHARE = 0.015
"""Share of the width that a camera travels at least where things show parallax; else they move by themselves."""
CELL_PX = 0.8
PARALLAX_SHARE = 0.35
"""Share of grid cells whose median residual after the homography exceeds `CELL_PX`: no homography explains the view."""
RELIEF_SHARE, RELIEF_WIDTH = 0.25, 0.42
"""Share of the view that depth explains and a homography doesn't, and share of the width over which it lies in one
piece, from which the camera travels. Somebody who walks stiffly, however large, looks deep, too, but not so wide."""
SIMPLE_ENOUGH, SPREAD_CELLS = 0.95, 10
"""A similarity with this share of a homography's inliers is taken instead; a homography needs so many cells."""
LOST_SHARE, FOLLOWED_SHARE = 0.46, 0.35
"""Parallax with more outlying cells or fewer corners that can be followed: near things and moving ones look alike."""


@dataclass(frozen=True)
class Camera:
    """The camera of a shot.

    Attributes:
        kind: still, pan (turn or zoom: a homography explains it), parallax (it travels), unknown (can't tell).
        to_reference: (N, 3, 3) float64; maps pixels of frame k to pixels of the reference frame.
        reference: index of the reference frame.
        shift_px: how far the picture's corners move at most, in pixels of the frames.
        outlying: share of grid cells that no homography explains.
        reason: why it is unknown; else empty.
    """

    kind: Kind
    to_reference: NDArray[np.float64]
    reference: int
    shift_px: float
    outlying: float = 0.0
    reason: str = ""

    def between(self, source: int, target: int) -> NDArray[np.float64]:
        """The homography that maps pixels of frame `source` to pixels of frame `target`."""
        h = np.linalg.inv(self.to_reference[target]) @ self.to_reference[source]
        return np.asarray(h / h[2, 2], np.float64)


def still_camera(count: int) -> Camera:
    """A camera at rest for `count` frames."""
    return Camera("still", np.repeat(np.eye(3)[None], count, 0), count // 2, 0.0)


def estimate_camera(frames: Sequence[U8], ignore: Sequence[Bool | None] | None = None) -> Camera:
    """Finds the kind of camera motion and the pose of every frame.

    Args:
        frames: RGB pictures of one size, in time order.
        ignore: per frame pixels that show no picture (holes of imported layers), or None.
    """
    if len(frames) < 2:
        return still_camera(len(frames))
    height, width = frames[0].shape[:2]
    scale = min(1.0, WORKING_WIDTH / width)
    pictures = [_working_gray(frame, scale) for frame in frames]
    usable = [
        _usable(mask, picture.shape) for mask, picture in zip(ignore or [None] * len(frames), pictures, strict=True)
    ]
    walk = _register(pictures, usable)
    resize = np.diag([scale, scale, 1.0])
    full = np.stack([np.linalg.inv(resize) @ pose @ resize for pose in walk.poses])
    shift = max(_corner_shift(pose, width, height) for pose in full)
    reference = len(frames) // 2
    if walk.lost > max(1, len(frames) // 10):
        reason = f"the view changes too much to be followed: lost at {walk.lost} of {len(frames)} frames"
        return Camera("unknown", full, reference, shift, 1.0, reason)
    if walk.drifted == 0 and np.percentile(walk.moved, 90) < STILL_PX:
        return Camera("still", still_camera(len(frames)).to_reference, reference, 0.0)
    outlying, followed = _parallax(pictures, usable, walk.poses)
    relief = find_relief(pictures, walk.poses, usable)
    travels = relief.share >= RELIEF_SHARE and relief.width >= RELIEF_WIDTH
    if outlying <= PARALLAX_SHARE and not travels:
        return Camera("pan", full, reference, shift, outlying)
    if outlying > LOST_SHARE or followed < FOLLOWED_SHARE:
        reason = f"the camera moves close to things: {outlying:.0%} of the view moves otherwise than the rest"
        return Camera("unknown", full, reference, shift, outlying, reason)
    if shift < TRAVEL_SHARE * width:
        reason = f"too much moves by itself: {outlying:.0%} of the view, while the camera hardly moves"
        return Camera("unknown", full, reference, shift, outlying, reason)
    return Camera("parallax", full, reference, shift, outlying)


def _working_gray(frame: U8, scale: float) -> U8:
    picture = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
    if scale < 1:
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return picture


def _usable(ignore: Bool | None, shape: tuple[int, ...]) -> U8 | None:
    if ignore is None:
        return None
    small = cv2.resize(ignore.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.dilate(small, np.ones((9, 9), np.uint8)) == 0, np.uint8)


def _corner_shift(pose: NDArray[np.float64], width: int, height: int) -> float:
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64)
    return float(np.linalg.norm(cv2.perspectiveTransform(corners, pose) - corners, axis=2).max())


@dataclass
class _Walk:
    """What registering all frames gave: poses to the middle frame, how far each frame moved (the typical grid cell, in
    working pixels), frames that could not be tracked, frames too far off to be compared with the middle frame."""

    poses: list[NDArray[np.float64]]
    moved: list[float]
    lost: int = 0
    drifted: int = 0


def _register(pictures: list[U8], usable: list[U8 | None]) -> _Walk:
    """Registers every frame to the middle frame, walking outward from it."""
    middle = len(pictures) // 2
    walk = _Walk([np.eye(3)] * len(pictures), [0.0] * len(pictures))
    for order in (range(middle + 1, len(pictures)), range(middle - 1, -1, -1)):
        key, before = middle, middle
        for k in order:
            step = _track(pictures[before], pictures[k], np.eye(3), usable[before])
            if step is None:
                walk.poses[k], walk.moved[k] = walk.poses[before], walk.moved[before]
                walk.lost += not _alike(pictures[before], pictures[k])
                before = k
                continue
            chained = walk.poses[before] @ np.linalg.inv(step.forward)
            guess = np.linalg.inv(walk.poses[key]) @ chained
            near = _overlap(guess, pictures[k].shape) > 0.25
            direct = _track(pictures[key], pictures[k], np.linalg.inv(guess), usable[key]) if near else None
            straight = chained if direct is None else walk.poses[key] @ np.linalg.inv(direct.forward)
            if direct is None or _worse(pictures[before], pictures[k], walk.poses[before], straight, chained):
                key, straight, direct = k, chained, None
                walk.drifted += 1
            walk.moved[k] = direct.moved if direct is not None else float("inf")
            walk.poses[k] = straight / straight[2, 2]
            before = k
    return walk


def _parallax(pictures: list[U8], usable: list[U8 | None], poses: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Between frames well apart: share of cells that no homography explains, share of corners that can be followed.

    Medians over the pairs of frames, 0 to 1, at the widest of some baselines over which corners can be followed at all.
    """
    for part in BASELINES:
        apart = max(1, len(pictures) // part)
        shares = []
        for a in range(0, len(pictures) - apart, max(1, apart // 3)):
            guess = np.linalg.inv(poses[a + apart]) @ poses[a]
            near = _overlap(guess, pictures[a].shape) > 0.4
            step = _track(pictures[a], pictures[a + apart], guess, usable[a]) if near else None
            if step is not None and step.followed >= FEWEST_FOLLOWED:
                shares.append((step.outlying, step.followed))
        if len(shares) >= 2:
            outlying, followed = np.median(shares, axis=0)
            return float(outlying), float(followed)
    return 1.0, 0.0


def _worse(before: U8, now: U8, pose: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether `now` matches the frame before it clearly worse under pose `one` than under pose `other`."""
    errors = []
    for candidate in (one, other):
        back = np.linalg.inv(pose) @ candidate
        size = (before.shape[1], before.shape[0])
        moved = cv2.warpPerspective(now, back, size, flags=cv2.INTER_LINEAR)
        inside = cv2.warpPerspective(np.ones_like(now), back, size, flags=cv2.INTER_NEAREST) > 0
        if inside.mean() < 0.2:
            return candidate is one
        errors.append(float(cv2.absdiff(moved, before)[inside].mean()))
    return errors[0] > 1.15 * errors[1] + 0.5


def _alike(a: U8, b: U8) -> bool:
    return float(np.median(cv2.absdiff(a, b))) <= 2.0


def _overlap(pose: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of the picture that the homography leaves inside the picture."""
    height, width = shape
    xs, ys = np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9))
    points = np.stack([xs.ravel(), ys.ravel()], 1)[None]
    moved = cv2.perspectiveTransform(points, pose)[0]
    inside = (moved[:, 0] >= 0) & (moved[:, 0] <= width) & (moved[:, 1] >= 0) & (moved[:, 1] <= height)
    return float(inside.mean())


@dataclass(frozen=True)
class _Step:
    """A homography, the share of grid cells that it doesn't explain, how far the typical cell moved (pixels), and the
    share of the corners in view that could be followed."""

    forward: NDArray[np.float64]
    outlying: float
    moved: float
    followed: float


def _track(a: U8, b: U8, guess: NDArray[np.float64], usable: U8 | None) -> _Step | None:
    """The homography from picture `a` to picture `b`, starting at `guess`; None when too little can be followed."""
    points = find_corners(a, usable)
    if len(points) < 12:
        return None
    height, width = a.shape
    start = cv2.perspectiveTransform(points[None].astype(np.float64), guess)[0]
    inside = ((start > 0) & (start < np.array([width, height]))).all(1)
    p, q = track_points(a, b, guess, None, points)
    if len(p) < 12:
        return None
    h = _homography(p, q, a.shape)
    if h is None:
        return None
    residual = np.linalg.norm(cv2.perspectiveTransform(p[None].astype(np.float64), h)[0] - q, axis=1)
    cell = _cells(p, a.shape)
    known = [cell == c for c in np.unique(cell) if (cell == c).sum() >= 3]
    if not known:
        return None
    moved = float(np.median([np.linalg.norm(np.median(q[c] - p[c], axis=0)) for c in known]))
    outlying = float(np.mean([np.median(residual[c]) > CELL_PX for c in known]))
    return _Step(h, outlying, moved, min(1.0, len(p) / max(1, int(inside.sum()))))


def _homography(p: NDArray[np.float32], q: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The motion from points `p` to `q`: a homography by MAGSAC++, or a similarity where that explains as much.

    Eight numbers from points in one part of the picture say anything about the rest of it; four don't go far astray.
    """
    cv2.setRNGSeed(7)
    try:
        h, inliers = cv2.findHomography(p, q, cv2.USAC_MAGSAC, 1.0, maxIters=2000, confidence=0.999)
    except cv2.error:
        h, inliers = None, None  # USAC raises an assertion where all its samples were degenerate
    simple, fitting = cv2.estimateAffinePartial2D(p, q, method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=2000)
    most = 0 if h is None or inliers is None else int(inliers.sum())
    few = 0 if simple is None else int(fitting.sum())
    if max(most, few) < 10:
        return None
    spread_out = most > 0 and len(np.unique(_cells(p[inliers.ravel() > 0], shape))) >= SPREAD_CELLS
    if few >= SIMPLE_ENOUGH * most or (few >= 10 and not spread_out):
        return np.asarray(np.vstack([simple, [0.0, 0.0, 1.0]]), np.float64)
    return np.asarray(h, np.float64) if most >= 10 else None


def _cells(points: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The grid cell of each point (N, 2)."""
    height, width = shape
    rows, columns = GRID
    return (points[:, 1] * rows // height).astype(np.int64) * columns + (points[:, 0] * columns // width).astype(
        np.int64
    )
