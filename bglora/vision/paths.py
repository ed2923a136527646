"""Paths of points over several frames, and what a moving camera makes of them: one plane, and parallax beside it.

Where only the camera moves, the path of a point beside that of one plane has one degree of freedom, its depth: plane
and parallax (Irani, Anandan 1998, *A unified approach to moving object detection in 2D and 3D scenes*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool
from bglora.vision.tracking import follow_points

GRID = (9, 16)
CORNERS_PER_CELL = 8
ROUND = 0.06
"""Smaller over larger eigenvalue of a corner: less is an edge along which a point slides."""
PATCH_PX = 9
FEWEST_PATHS = 40
BORDER_PX = 12
ROUNDS = 40
PLANE_RIDGE = 1e-3
"""Keeps planes that are fitted anew where they were: depths that lie on a plane are as good as another plane."""
NOISE_SQUARE = 0.25
"""Square (pixels) of the distance from which a path counts half in the fit of parallax."""

Poses = Sequence[NDArray[np.float64]]
"""Homography of every frame to one of them, in pixels of the pictures."""


@dataclass(frozen=True)
class Parallax:
    """How the camera's travel moves points beside a plane: by depth * (motion[:2] + motion[2] * place).

    Attributes:
        motion: (frames, 3) float64. depth: (N,) float64, of each path; the unit is arbitrary, but common.
        left: (frames, N, 2) float64, pixels of the paths that neither plane nor parallax explains.
    """

    motion: NDArray[np.float64]
    depth: NDArray[np.float64]
    left: NDArray[np.float64]


@dataclass(frozen=True)
class Paths:
    """Points that were followed over all frames of a span.

    Attributes:
        points: (N, 2) float32, in the span's reference frame. followed: their share of the points in view.
        structure: (N, 2, 2) float64, see `structure_tensors`: which motions of a point its surroundings could tell.
        planes: (frames, 3, 3) float64, homographies of one plane from the frame that the points are of.
        beside: (frames, N, 2) float64, pixels beside where one plane would have taken them.
        parallax: what explains that; None where there are too few paths.
    """

    points: NDArray[np.float32]
    followed: float
    structure: NDArray[np.float64]
    planes: NDArray[np.float64]
    beside: NDArray[np.float64]
    parallax: Parallax | None

    @property
    def by_plane(self) -> NDArray[np.float64]:
        """Distance (N,) in pixels of the paths from where a plane takes them, root mean square over the frames."""
        return root_mean_square(self.beside)

    @property
    def by_depth(self) -> NDArray[np.float64]:
        """The same from where plane and parallax take them."""
        return self.by_plane if self.parallax is None else root_mean_square(self.parallax.left)


def between(poses: Poses, source: int, target: int) -> NDArray[np.float64]:
    """The homography that maps pixels of frame `source` to pixels of frame `target`."""
    return np.asarray(np.linalg.inv(poses[target]) @ poses[source], np.float64)


def follow_paths(
    gray: Sequence[U8], places: range, poses: Poses, usable: U8 | None = None, reference: int | None = None
) -> Paths:
    """Follows the corners of one frame of a span to both of its ends.

    Args:
        gray: all frames of the shot. places: the frames of the span.
        usable: where corners may lie; None: everywhere. reference: whose corners; None: the span's middle frame's.
    """
    middle = places[len(places) // 2] if reference is None else reference
    start = round_corners(gray[middle], usable)
    height, width = gray[middle].shape
    visible = np.ones(len(start), bool)
    alive = np.ones(len(start), bool)
    beside = np.zeros((len(places), len(start), 2))
    planes = np.repeat(np.eye(3)[None], len(places), 0)
    for order in (range(middle, places[-1] + 1), range(middle, places[0] - 1, -1)):
        now = start
        for a, b in zip(order, order[1:], strict=False):
            now, good = follow_points(gray[a], gray[b], between(poses, a, b), now)
            alive &= good
            guess = between(poses, middle, b)
            there = moved(start, guess)
            visible &= ((there > BORDER_PX) & (there < np.array([width, height]) - BORDER_PX)).all(1)
            planes[b - places[0]] = _plane(start, now, alive, guess)
            beside[b - places[0]] = now - moved(start, planes[b - places[0]])
    whole = alive & visible
    points, rest = start[whole], beside[:, whole]
    parallax = fit_parallax(centered(points, gray[middle].shape), rest) if len(points) >= FEWEST_PATHS else None
    followed = float(whole.sum() / max(1, visible.sum()))
    return Paths(points, followed, structure_tensors(gray[middle], points), planes, rest, parallax)


def round_corners(picture: U8, usable: U8 | None = None) -> NDArray[np.float32]:
    """Corners (N, 2) of a gray picture spread over a grid, without points on mere edges."""
    height, width = picture.shape
    rows, columns = GRID
    values = cv2.cornerEigenValsAndVecs(picture, 5, 3)[..., :2]
    low, high = values.min(2), values.max(2)
    fit = (low > ROUND * high).astype(np.uint8)
    if usable is not None:
        fit &= usable
    strong = low > 2e-4
    found = []
    for r in range(rows):
        for c in range(columns):
            ys = slice(r * height // rows, (r + 1) * height // rows)
            xs = slice(c * width // columns, (c + 1) * width // columns)
            if strong[ys, xs].any():
                points = cv2.goodFeaturesToTrack(
                    picture[ys, xs], CORNERS_PER_CELL, 0.05, 4, mask=fit[ys, xs], blockSize=5
                )
                if points is not None:
                    found.append(points.reshape(-1, 2) + np.array([xs.start, ys.start], np.float32))
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 2), np.float32)


def structure_tensors(picture: U8, points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean outer product of the gradients (grey levels a pixel) around points, (N, 2, 2).

    A patch that is moved by r changes by the square root of r' A r grey levels (root mean square; Foerstner 1987): by
    nothing along an edge, and by little in soft clouds, whatever a tracker says of them.
    """
    slopes = [cv2.Sobel(picture, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.125) for dx in (1, 0)]
    x, y = np.rint(points).astype(int).T
    means = {(a, b): cv2.blur(slopes[a] * slopes[b], (PATCH_PX, PATCH_PX))[y, x] for a, b in ((0, 0), (0, 1), (1, 1))}
    return np.asarray([[means[0, 0], means[0, 1]], [means[0, 1], means[1, 1]]], np.float64).transpose(2, 0, 1)


def moved(points: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a homography takes points (N, 2)."""
    if not len(points):
        return np.zeros((0, 2))
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float64), pose)[0], np.float64)


def centered(points: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Points (N, 2) from the picture's center, in parts of its width."""
    return np.asarray((points - np.array([shape[1] / 2, shape[0] / 2])) / shape[1], np.float64)


def root_mean_square(beside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length (N,) of displacements (frames, N, 2), root mean square over the frames."""
    return np.asarray(np.sqrt((beside**2).sum(2).mean(0)), np.float64)


def fit_parallax(place: NDArray[np.float64], beside: NDArray[np.float64], *, bent: bool = False) -> Parallax:
    """What parallax explains of displacements beside a plane, (frames, N, 2).

    One number a point and three a frame, fitted in turn, robustly (Cauchy weights).

    Args:
        place: (N, 2), see `centered`.
        bent: whether the planes are fitted anew along with the depths, eight numbers more a frame: alone, each frame's
            plane was fitted to most of its points, which need not be one plane's in all frames.
    """
    count = beside.shape[1]
    flat = beside.transpose(1, 0, 2).reshape(count, -1)
    first = np.linalg.svd(flat, full_matrices=False)[0][:, 0]
    depth = first / max(1e-9, float(np.abs(first).max()))
    left, motion = beside, np.zeros((len(beside), 3))
    planes = _plane_motions(place) if bent else np.zeros((2, count, 0))
    ridge = np.diag([1e-6] * 3 + [PLANE_RIDGE] * planes.shape[2])
    for _ in range(ROUNDS):
        weight = 1 / (1 + (left**2).sum(2).mean(0) / NOISE_SQUARE)
        design = np.zeros((2, count, 3))
        design[0, :, 0] = design[1, :, 1] = depth
        design[..., 2] = depth * place.T
        design = np.concatenate([design, planes], 2)
        normal = np.einsum("cni,n,cnj->ij", design, weight, design) + ridge
        fit = np.einsum("cni,n,tnc->ti", design, weight, beside) @ np.linalg.inv(normal)
        motion = fit[:, :3]
        rest = beside - np.einsum("cni,ti->tnc", planes, fit[:, 3:])
        basis = motion[:, None, :2] + motion[:, None, 2:] * place[None]
        depth = (basis * rest).sum((0, 2)) / ((basis**2).sum((0, 2)) + 1e-6)
        left = rest - basis * depth[None, :, None]
    return Parallax(np.asarray(motion, np.float64), np.asarray(depth, np.float64), np.asarray(left, np.float64))


def _plane_motions(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """How each of a homography's eight numbers moves points near the identity, (2, N, 8)."""
    x, y = place.T
    one, none = np.ones_like(x), np.zeros_like(x)
    return np.stack(
        [
            np.stack([one, x, y, none, none, none, x * x, x * y], 1),
            np.stack([none, none, none, one, x, y, x * y, y * y], 1),
        ]
    )


def _plane(
    start: NDArray[np.float32], now: NDArray[np.float32], alive: Bool, guess: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The homography of one plane that most points follow; the camera's own guess where too few are left."""
    if alive.sum() < FEWEST_PATHS:
        return guess
    cv2.setRNGSeed(7)
    try:
        plane, _ = cv2.findHomography(start[alive], now[alive], cv2.USAC_MAGSAC, 0.8)
    except cv2.error:
        return guess  # USAC raises an assertion where all its samples were degenerate
    return guess if plane is None else np.asarray(plane, np.float64)
