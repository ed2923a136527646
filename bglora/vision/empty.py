"""Is nobody in a shot? Asked of the motion of points and blocks alone, whatever the camera does.

Where only the camera moves, the paths of points beside those of one plane have one degree of freedom each, the depth:
plane and parallax (Irani, Anandan 1998, *A unified approach to moving object detection in 2D and 3D scenes*). Whoever
moves by himself leaves them, over some span of time, as a cluster of points; whoever has no points to follow leaves
blocks that no neighboring frame shows near the place where the camera's motion takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, grow, largest_channel, shrink
from bglora.vision.camera import Camera
from bglora.vision.paths import (
    FEWEST_PATHS,
    Paths,
    centered,
    fit_parallax,
    follow_paths,
    moved,
    root_mean_square,
    round_corners,
)
from bglora.vision.tracking import follow_points

FEWEST_FRAMES = 8
WIDTH = 640
SPANS = (6, 12, 24)
"""Frames over which paths are followed: short ones hold fast motion, long ones slow."""
OFF_PX = 1.0
"""Distance (working pixels, root mean square over a span) from which a path is not where the camera takes it."""
TOLD = 5.0
"""Grey levels by which such a displacement must change what is around the point: along an edge and in soft clouds
trackers slide."""
WIDE, TRAVELS = 0.4, 0.3
"""Share of the width over which points lie that parallax explains, and share of such spans where the camera travels."""
REACH_PX = 32
CLUSTER = 4
"""Unexplained paths, most of those within `REACH_PX`, that give somebody away."""
FOLLOWED = 0.65
"""Share of the points in view that must be followed over each short span."""
BLOCK_WIDTH = 480
SEARCH_PX = 3
NODE_PX, SMOOTH_PX = 32, 60
"""Grid and reach of the smooth motion by which blocks are looked for, in pixels at `BLOCK_WIDTH`."""
UNLIKE = 16.0
"""Grey levels by which a block is unlike everything near its place in both neighboring frames."""
BLOB, LARGE = 0.0006, 0.0012
"""Share of the picture that unlike blocks cover together where somebody may be, and where somebody is."""
OFTEN = 0.125
"""Share of the frames that show such a blob where somebody is."""
THICK_PX = 3
"""Unlike parts thinner than twice this (at `BLOCK_WIDTH`) are edges."""


@dataclass(frozen=True)
class Motion:
    """What moves in a shot by itself.

    Attributes:
        frames: of the shot. paths: fewest followed in a span. followed: least share of points followed in a short span.
        clusters: most paths of a span that move together otherwise than the place.
        unlike: per frame the largest share of it in one blob that the neighboring frames don't show.
    """

    frames: int
    paths: int
    followed: float
    clusters: int
    unlike: tuple[float, ...]

    @property
    def nobody(self) -> bool:
        """Whether it is sure that only the camera moves."""
        return (
            self.frames >= FEWEST_FRAMES
            and self.paths >= FEWEST_PATHS
            and self.followed >= FOLLOWED
            and self.clusters < CLUSTER
            and max(self.unlike) < LARGE
            and sum(share >= BLOB for share in self.unlike) <= OFTEN * self.frames
        )


def own_motion(frames: Sequence[U8], camera: Camera) -> Motion:
    """Looks for motion that the camera's doesn't explain.

    Args:
        frames: RGB uint8 (H, W, 3) of one shot in time order. camera: poses to start tracking at.
    """
    scale = min(1.0, WIDTH / frames[0].shape[1])
    gray = [
        np.asarray(
            cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA),
            np.uint8,
        )
        for frame in frames
    ]
    resize = np.diag([scale, scale, 1.0])
    poses = [resize @ pose @ np.linalg.inv(resize) for pose in camera.to_reference]
    count = len(frames)
    found: list[list[_Span]] = []
    for length in SPANS:
        if length > count > SPANS[0]:
            continue
        starts = range(0, max(1, count - length + 1), max(1, length // 2))
        spans = [follow_paths(gray, range(first, min(count, first + length)), poses) for first in starts]
        found.append([_explained(span, gray[0].shape) for span in spans])
    travels = any(np.mean([_wide(span, gray[0].shape[1]) for span in spans]) > TRAVELS for spans in found)
    return Motion(
        count,
        paths=min(len(span.paths.points) for spans in found for span in spans),
        followed=min(span.paths.followed for span in found[0]),
        clusters=max(_largest_cluster(span, travels) for spans in found for span in spans),
        unlike=_unlike(frames, camera),
    )


@dataclass(frozen=True)
class _Span:
    """Paths, and their displacements (frames, N, 2), pixels, from where a plane with parallax beside it takes them."""

    paths: Paths
    left: NDArray[np.float64]

    @property
    def by_depth(self) -> NDArray[np.float64]:
        return root_mean_square(self.left)


def _explained(paths: Paths, shape: tuple[int, ...]) -> _Span:
    if len(paths.points) < FEWEST_PATHS:
        return _Span(paths, paths.beside)
    return _Span(paths, fit_parallax(centered(paths.points, shape), paths.beside, bent=True).left)


def _wide(span: _Span, width: int) -> bool:
    """Whether parallax explains a wide part of the picture: one thing that walks looks like one at another depth."""
    near = span.paths.points[(span.paths.by_plane > OFF_PX) & (span.by_depth < OFF_PX), 0]
    return len(near) >= CLUSTER and float(np.ptp(near)) > WIDE * width


def _largest_cluster(one: _Span, travels: bool) -> int:
    """How many unexplained paths of a span lie among their like; `travels`: parallax counts as an explanation."""
    span = one.paths
    if not len(span.points):
        return 0
    away = np.minimum(span.by_plane, one.by_depth) if travels else span.by_plane
    left = one.left if travels else span.beside
    changed = np.sqrt(np.einsum("tni,nij,tnj->tn", left, span.structure, left).mean(0))
    off = (away > max(OFF_PX, 4 * float(np.median(away)))) & (changed > TOLD)
    near = np.linalg.norm(span.points[:, None] - span.points[None], axis=2) < REACH_PX
    many = (near & off[None]).sum(1)
    return int((off & (many >= CLUSTER) & (many >= 0.5 * near.sum(1))).sum())


def _unlike(frames: Sequence[U8], camera: Camera) -> tuple[float, ...]:
    """Per frame the largest blob (share of the picture) that neither neighboring frame shows near its place."""
    scale = min(1.0, BLOCK_WIDTH / frames[0].shape[1])
    small = [
        np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        for frame in frames
    ]
    resize = np.diag([scale, scale, 1.0])
    shares = []
    for k in range(len(frames)):
        unlike = np.ones(small[k].shape[:2], bool)
        for other in (k - 1, k + 1):
            if 0 <= other < len(frames):
                pose = resize @ camera.between(k, other) @ np.linalg.inv(resize)
                unlike &= _block_cost(small[k], small[other], _smooth_motion(small[k], small[other], pose)) > UNLIKE
        solid = (grow(shrink(unlike, THICK_PX), THICK_PX) & unlike).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
        shares.append(float(stats[1:, cv2.CC_STAT_AREA].max(initial=0) / solid.size))
    return tuple(shares)


def _smooth_motion(picture: U8, other: U8, pose: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where each pixel of a frame is in another, (H, W, 2), by a motion so smooth that nothing small can bend it.

    The homography and, on top of it, local affine motions fitted robustly to the points around.
    """
    height, width = picture.shape[:2]
    a, b = (np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), np.uint8) for p in (picture, other))
    points = round_corners(a)
    there, good = follow_points(a, b, pose, points)
    points, there = points[good], there[good]
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    plane = cv2.perspectiveTransform(np.stack([xs, ys], -1).reshape(1, -1, 2).astype(np.float64), pose)
    flow = plane.reshape(height, width, 2).astype(np.float32)
    if len(points) < FEWEST_PATHS:
        return flow
    rest = there - moved(points, pose)
    columns, rows = max(2, width // NODE_PX), max(2, height // NODE_PX)
    nodes = np.zeros((rows, columns, 2), np.float32)
    for r in range(rows):
        for c in range(columns):
            node = np.array([(c + 0.5) * width / columns, (r + 0.5) * height / rows])
            nodes[r, c] = _local(points - node, rest)
    bent = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(flow + bent, np.float32)


def _local(offset: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """The motion at offset 0 by an affine fit to the points around, robust by reweighting (Cauchy)."""
    near = np.exp(-0.5 * (offset**2).sum(1) / SMOOTH_PX**2) + 1e-6
    design = np.hstack([np.ones((len(offset), 1)), offset / SMOOTH_PX])
    weight = near.copy()
    ridge = np.diag([0.0, 0.5, 0.5])
    fit = np.zeros((3, 2))
    for _ in range(8):
        left = design.T * weight
        fit = np.linalg.solve(left @ design + ridge, left @ rest)
        away = np.linalg.norm(rest - design @ fit, axis=1)
        weight = near / (1 + (away / 1.5) ** 2)
    return fit[0]


def _block_cost(picture: U8, other: U8, place: NDArray[np.float32]) -> F32:
    """Least mean difference (grey levels) of each 5 x 5 block to blocks within `SEARCH_PX` of its place in the other
    frame, 0 where that is outside the picture."""
    height, width = picture.shape[:2]
    moved = cv2.remap(other, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((place > 0) & (place < np.array([width - 1, height - 1]))).all(2).astype(np.uint8)
    best = np.full((height, width), 255.0, np.float32)
    wide = cv2.copyMakeBorder(moved, *[SEARCH_PX] * 4, cv2.BORDER_REPLICATE)
    for dy in range(2 * SEARCH_PX + 1):
        for dx in range(2 * SEARCH_PX + 1):
            away = largest_channel(cv2.absdiff(picture, wide[dy : dy + height, dx : dx + width]))
            cv2.min(best, cv2.boxFilter(away, cv2.CV_32F, (5, 5)), dst=best)
    best[cv2.erode(inside, np.ones((7, 7), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0] = 0
    return best
