"""The camera comes back: background that a shot never shows, from a frame of another shot with the same viewpoint.

A frame seen from the very same point differs by a homography, however deep the scene is (Hartley and Zisserman 2004,
8.4). So the homography of matched points has to explain corners all over the picture to within a pixel (`find_pose`),
and what the other frame shows there has to look the same, too, over the whole picture and around the hole
(`seen_again`). Anything else is another place, another viewpoint, another light, or somebody in the way: nothing is
taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, around, gray, grow, largest_channel, shrink
from bglora.vision.exposure import matched
from bglora.vision.filling import SEAM, seam
from bglora.vision.matching import Points, find_points, match_points
from bglora.vision.recovery import AGREE
from bglora.vision.tracking import find_corners, follow_points

F64 = NDArray[np.float64]

FEWEST_MATCHES, AGREEING = 40, 0.5
"""Matched points that agree on the homography, and their share of all that matched."""
MOST_SCALE = 1.25
"""The other frame may show things so much larger or smaller; beyond, its pixels are too coarse or too fine."""
LEAST_OVERLAP = 0.6
RESIDUAL_PX = 1.0
"""Pixels by which corners may lie off the homography: the typical one of a part of the picture, and those around a
hole."""
GRID = (4, 6)
LEAST_CELLS, LEAST_FITTING, LEAST_FOLLOWED = 10, 0.9, 0.4
"""Grid cells with followed corners; share of them that fits; share of all corners that can be followed."""
AROUND_HOLE = 10
"""Corners nearest to a hole that have to fit there."""
ALIKE, ALIKE_STRUCTURE = 0.85, 0.8
"""Share of the overlap, and of its structure alone, that looks the same; two plain walls of one color always do."""
ALIKE_RING = 0.9
"""The same on the ring around a hole."""
SLOPE = 6.0
"""Gradient (grey levels a pixel) from which there is structure."""
FEWEST = 60
"""Pixels below which a share says nothing."""
LEAST_RING = 0.4
"""Share of the ring around a hole that must be known in both frames."""
SHADE_REACH, SHADE_FADE, DARKEST = 6.0, 4.0, 0.4
"""Pixels over which a shade is smooth; grey levels that make it fade where nothing is known; the darkest there is."""
SAME = 6.0
"""Grey levels below which the other frame shows just what the hole hides: the same person sits there, too."""
SNAP_PX = 0.12
"""A homography that moves no corner farther is none, and nothing is resampled."""
EDGE = 3
"""Pixels beside masked ones that are not used: characters' edges shine into them."""


@dataclass(frozen=True)
class Seen:
    """A frame and what it shows of the place.

    Attributes:
        picture: uint8 RGB (H, W, 3). free: bool (H, W), background that can be relied on.
    """

    picture: U8
    free: Bool

    @cached_property
    def points(self) -> Points:
        """Feature points of the background."""
        return find_points(self.picture, shrink(self.free, EDGE))

    @cached_property
    def luma(self) -> U8:
        """The picture in gray, uint8 (H, W)."""
        return np.asarray(cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY), np.uint8)


@dataclass(frozen=True)
class Pose:
    """How another frame lies on this one.

    Attributes:
        matrix: float64 (3, 3), pixels of the other frame to pixels of this one.
        at: float32 (N, 2), corners of this frame that were followed; residual: float64 (N,), pixels they are off.
    """

    matrix: F64
    at: NDArray[np.float32]
    residual: F64


@dataclass(frozen=True)
class Again:
    """Pixels that another frame gives: `picture` float32 (H, W, 3) at this frame's exposure, valid where `taken`."""

    picture: F32
    taken: Bool


def find_pose(target: Seen, other: Seen) -> Pose | None:
    """The homography between two frames taken from the same point; None if they were not."""
    guess = _guess(target, other)
    if guess is None or not _plausible(guess, target.free.shape, other.free.shape):
        return None
    usable = shrink(target.free, EDGE).astype(np.uint8)
    back: F64 = np.asarray(np.linalg.inv(guess), np.float64)
    corners = find_corners(target.luma, usable)
    corners = corners[_in_view(corners, back, other.free)]
    there, good = follow_points(target.luma, _lit(other, target, guess), back, corners)
    p, q = corners[good], there[good]
    if len(p) < max(FEWEST_MATCHES, LEAST_FOLLOWED * len(corners)):
        return None
    matrix = _homography(q, p)
    if matrix is None:
        return None
    residual = np.linalg.norm(cv2.perspectiveTransform(q[None].astype(np.float64), matrix)[0] - p, axis=1)
    cells = _cells(p, target.free.shape)
    filled = [cells == cell for cell in np.unique(cells) if (cells == cell).sum() >= 3]
    fitting = [float(np.median(residual[cell])) < RESIDUAL_PX for cell in filled]
    if len(filled) < LEAST_CELLS or np.mean(fitting) < LEAST_FITTING:
        return None
    return Pose(_snapped(matrix, target.free.shape), p, residual)


def seen_again(target: Seen, hole: Bool, other: Seen, pose: Pose) -> Again:
    """What another frame shows of the hole, as far as it looks like this one around it.

    Args:
        target: the frame to mend; what it shows in the hole is the character. hole: bool (H, W), outside `free`.
    """
    none = Again(target.picture.astype(np.float32), np.zeros_like(hole))
    moved = _warped(other.picture, pose.matrix, hole.shape, cv2.INTER_LANCZOS4)
    seen = _warped(shrink(other.free, EDGE).astype(np.uint8), pose.matrix, hole.shape, cv2.INTER_NEAREST) > 0
    shared = seen & shrink(target.free, EDGE)
    if not (hole & seen).any() or shared.sum() < FEWEST:
        return none
    level = matched(moved, target.picture, shared)
    off = largest_channel(np.abs(_smooth(level) - _smooth(target.picture)))
    structure = _structure(target.picture)
    if not _alike(off, shared, structure, ALIKE):
        return none
    shade = _shade(target.picture, level, shared, SHADE_REACH)
    in_shade = largest_channel(np.abs(_smooth(level * shade) - _smooth(target.picture)))
    taken = np.zeros_like(hole)
    for part in _parts(hole):
        ring = grow(part, _ring_width(part)) & target.free
        lit = ring & shared
        if lit.sum() < max(FEWEST, LEAST_RING * ring.sum()):
            continue
        if not (_alike(off, lit, structure, ALIKE_RING) or _alike(in_shade, lit, structure, ALIKE_RING)):
            continue
        if _fits_around(pose, part) and not _hidden_alike(off, part & seen):
            taken |= part & seen
    return Again(_joined(target, level, shared, taken), taken) if taken.any() else none


def agreed(views: Sequence[Again]) -> Again:
    """What frames of one shot give together: their mean. Nothing where two of them show something different."""
    count = np.sum([view.taken for view in views], axis=0)
    total = np.sum([view.picture * view.taken[..., None] for view in views], axis=0, dtype=np.float32)
    mean = total / np.maximum(count, 1)[..., None]
    taken = count > 0
    smooth = [_smooth(view.picture) for view in views]
    for a, b in combinations(range(len(views)), 2):
        unlike = largest_channel(np.abs(smooth[a] - smooth[b])) > AGREE
        taken &= ~(unlike & views[a].taken & views[b].taken)
    return Again(np.asarray(mean, np.float32), taken)


def _guess(target: Seen, other: Seen) -> F64 | None:
    """The homography (other to target, pixels) that most matched points agree on."""
    a, b = match_points(other.points, target.points)
    if len(a) < FEWEST_MATCHES:
        return None
    a, b = a * max(other.free.shape), b * max(target.free.shape)
    cv2.setRNGSeed(7)
    matrix, inliers = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 3.0, maxIters=3000, confidence=0.999)
    agreeing = 0 if inliers is None else int(inliers.sum())
    return np.asarray(matrix, np.float64) if agreeing >= max(FEWEST_MATCHES, AGREEING * len(a)) else None


def _lit(other: Seen, target: Seen, guess: F64) -> U8:
    """The other frame in gray at the target's exposure: a few percent move corners of soft structure by a pixel."""
    moved = _warped(other.luma, guess, target.free.shape, cv2.INTER_LINEAR)
    shared = _warped(other.free.astype(np.uint8), guess, target.free.shape, cv2.INTER_NEAREST) > 0
    shared &= target.free & (moved > 0)
    gain = float(np.median(target.luma[shared] / moved[shared])) if shared.any() else 1.0
    return np.asarray(cv2.convertScaleAbs(other.luma, alpha=gain), np.uint8)


def _homography(q: np.ndarray, p: np.ndarray) -> F64 | None:
    cv2.setRNGSeed(7)
    matrix, _ = cv2.findHomography(q, p, cv2.USAC_MAGSAC, RESIDUAL_PX, maxIters=3000, confidence=0.999)
    return None if matrix is None else np.asarray(matrix, np.float64)


def _plausible(matrix: F64, size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two framings of one view may differ like that: about one scale all over, upright, enough in common."""
    height, width = other
    xs, ys = np.meshgrid((np.arange(10) + 0.5) / 10 * width, (np.arange(10) + 0.5) / 10 * height)
    at = np.stack([xs.ravel(), ys.ravel()], 1)
    here, right, down = (cv2.perspectiveTransform((at + step)[None], matrix)[0] for step in ((0, 0), (1, 0), (0, 1)))
    x, y = right - here, down - here
    area = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    if (area <= 0).any():
        return False
    scale = np.sqrt(area) * max(other) / max(size)
    upright = (x[:, 0] > 0.9 * np.linalg.norm(x, axis=1)).all()
    inside = ((here >= 0) & (here <= np.array([size[1], size[0]]))).all(1)
    bounded = bool((scale < MOST_SCALE).all() and (scale > 1 / MOST_SCALE).all())
    return bounded and bool(upright) and float(inside.mean()) >= LEAST_OVERLAP


def _in_view(points: NDArray[np.float32], matrix: F64, free: Bool) -> Bool:
    """Which points (N, 2) a homography takes to free pixels."""
    if not len(points):
        return np.zeros(0, bool)
    moved = np.rint(cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]).astype(np.int64)
    height, width = free.shape
    inside = (moved[:, 0] >= 0) & (moved[:, 1] >= 0) & (moved[:, 0] < width) & (moved[:, 1] < height)
    return inside & free[np.clip(moved[:, 1], 0, height - 1), np.clip(moved[:, 0], 0, width - 1)]


def _cells(points: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.int64]:
    rows, columns = (points[:, 1] * GRID[0] // shape[0]), (points[:, 0] * GRID[1] // shape[1])
    return np.asarray(rows * GRID[1] + columns, np.int64)


def _snapped(matrix: F64, shape: tuple[int, ...]) -> F64:
    height, width = shape
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64)
    still = np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max() <= SNAP_PX
    return np.eye(3) if still else matrix / matrix[2, 2]


def _warped(values: np.ndarray, matrix: F64, shape: tuple[int, ...], way: int) -> U8:
    """Brought onto this frame, interpolated by `way`; 0 outside, but for pictures, whose last pixels go on."""
    if np.array_equal(matrix, np.eye(3)) and values.shape[:2] == shape:
        return values
    beyond = cv2.BORDER_CONSTANT if way == cv2.INTER_NEAREST else cv2.BORDER_REPLICATE  # else black shines in
    moved = cv2.warpPerspective(values, matrix, (shape[1], shape[0]), flags=way, borderMode=beyond)
    return np.asarray(moved, np.uint8)


def _smooth(picture: np.ndarray) -> F32:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0), np.float32)


def _structure(picture: U8) -> Bool:
    light = cv2.GaussianBlur(gray(picture), (0, 0), 1.0)
    x, y = cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125)
    return np.asarray(np.hypot(x, y) >= SLOPE)


def _alike(off: F32, where: Bool, structure: Bool, least: float) -> bool:
    """Whether most of `where` looks the same in both frames, and most of the structure in it."""
    if float((off[where] <= AGREE).mean()) < least:
        return False
    lines = where & structure
    return int(lines.sum()) < FEWEST or float((off[lines] <= AGREE).mean()) >= ALIKE_STRUCTURE


def _shade(picture: U8, level: U8, shared: Bool, reach: float) -> F32:
    """By which factor (H, W, 1) the picture is darker than the other one, smooth over `reach` pixels; else 1.

    Who never moves casts a soft shade that no mask knows: it lies around the hole, and not in the other shot.
    """
    weight = shared.astype(np.float32)
    sums = [cv2.GaussianBlur(gray(one) * weight + SHADE_FADE, (0, 0), reach) for one in (picture, level)]
    return np.asarray(np.clip(sums[0] / sums[1], DARKEST, 1.05)[..., None], np.float32)


def _joined(target: Seen, level: U8, shared: Bool, taken: Bool) -> F32:
    """The other picture with the shade and the light of this one along the edge of what is taken, faded inwards."""
    near = grow(taken, SEAM) & shared
    picture = level * _shade(target.picture, level, near, SEAM)
    return np.asarray(picture + seam(target.picture.astype(np.float32) - picture, near), np.float32)


def _parts(hole: Bool) -> Iterator[Bool]:
    """The pieces of a hole; what is a few pixels apart is one piece."""
    count, labels = cv2.connectedComponents(grow(hole, EDGE).astype(np.uint8), connectivity=8)
    for label in range(1, count):
        yield hole & (labels == label)


def _ring_width(part: Bool) -> int:
    return int(np.clip(0.5 * np.sqrt(part.sum()), 3 * EDGE, max(part.shape) / 16))


def _fits_around(pose: Pose, part: Bool) -> bool:
    """Whether the corners nearest to a part of the hole lie where the homography has them: no parallax there."""
    box = around(part, 0)
    low, high = np.array([box[1].start, box[0].start]), np.array([box[1].stop, box[0].stop])
    away = np.linalg.norm(np.maximum(np.maximum(low - pose.at, pose.at - high), 0), axis=1)
    nearest = np.argsort(away, kind="stable")[:AROUND_HOLE]
    return float(np.median(pose.residual[nearest])) < RESIDUAL_PX


def _hidden_alike(off: F32, where: Bool) -> bool:
    """Whether the other frame shows what the character here looks like: it is the character, who is there as well."""
    inside = shrink(where, EDGE)
    inside = inside if inside.any() else where
    return bool(where.any()) and float((off[inside] <= SAME).mean()) > 0.5
