"""A pan's background wider than the frame: clean plates of one shot stitched side by side.

One plate is the anchor and isn't resampled; few others, each warped once, add what lies beside it. Seams run where two
plates agree (dynamic programming over color and gradient: Efros and Freeman 2001, in OpenCV), so that every pixel has
one source and nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool
from bglora.vision.exposure import leveled
from bglora.vision.recovery import GUESSED, ORIGINAL, RECOVERED

WIDEST = 4.0
"""Sides of the wide plate at most, in sides of the frame: far from the anchor a plane stretches."""
STRETCH = 1.6
"""A plate that the anchor's plane makes larger by so much (in area) is left out: it would be soft there."""
LEAST_NEW = 0.005
"""Share of the frame that a source must add."""
EDGE = 2
"""Pixels at the edge of a warped plate that resampling may have touched."""


@dataclass(frozen=True)
class WidePlate:
    """Attributes:
    picture: uint8 (H, W, 3), in the anchor's exposure. provenance: uint8 (H, W), as for plates, seen from the anchor:
        what other plates add is recovered.
    anchor: index of the plate that it grew from. sources: indices of the plates it is made of.
    """

    picture: U8
    provenance: U8
    anchor: int
    sources: tuple[int, ...]


@dataclass(frozen=True)
class _Layer:
    picture: U8
    provenance: U8
    covered: Bool


def stitch(
    plates: Sequence[U8], provenance: Sequence[U8], poses: NDArray[np.float64], gains: NDArray[np.float64]
) -> WidePlate | None:
    """Stitches plates of a camera that turned or zoomed.

    Args:
        plates: uint8 (H, W, 3), of one size. provenance: uint8 (H, W) each.
        poses: (N, 3, 3), pixels of each plate to one common plane. gains: (N, 3), exposure of each.

    Returns:
        The largest fully covered rectangle, or None where it is no larger than the frame.
    """
    height, width = plates[0].shape[:2]
    anchor = _most_central(poses, height, width)
    to_anchor = [_normal(np.linalg.inv(poses[anchor]) @ pose) for pose in poses]
    usable = [k for k, pose in enumerate(to_anchor) if _fits(pose, height, width)]
    left, top, right, bottom = _bounds([to_anchor[k] for k in usable], height, width)
    move = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    size = (bottom - top, right - left)

    def layer(k: int) -> _Layer:
        return _warped(leveled(plates[k], gains[k] / gains[anchor]), provenance[k], move @ to_anchor[k], size)

    sources = _sources({k: _coverage(move @ to_anchor[k], height, width, size) for k in usable}, anchor, height * width)
    layers = [layer(k) for k in sources]
    picture, origin, covered = _composed(layers)
    others = sorted((k for k in usable if k not in sources), key=lambda k: abs(k - anchor))
    used = [*sources, *_improved(picture, origin, covered, others, layer)]
    y0, x0, y1, x1 = largest_rectangle(covered)
    if (y1 - y0) * (x1 - x0) <= height * width:
        return None
    return WidePlate(picture[y0:y1, x0:x1].copy(), origin[y0:y1, x0:x1].copy(), anchor, tuple(used))


def largest_rectangle(covered: Bool) -> tuple[int, int, int, int]:
    """The largest rectangle of covered pixels as (top, left, bottom, right), ends exclusive.

    Row by row over the heights of covered columns, with a stack of rising heights: linear in pixels.
    """
    heights = np.zeros(covered.shape[1], np.int64)
    best, area = (0, 0, 0, 0), 0
    for y, row in enumerate(covered):
        heights = np.where(row, heights + 1, 0)
        stack: list[tuple[int, int]] = []
        for x, h in enumerate([*heights.tolist(), 0]):
            start = x
            while stack and stack[-1][1] >= h:
                start, tall = stack.pop()
                if tall * (x - start) > area:
                    area, best = tall * (x - start), (y - tall + 1, start, y + 1, x)
            stack.append((start, h))
    return best


def _normal(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(pose / pose[2, 2])


def _corners(pose: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1]], np.float64)
    moved = corners @ pose.T
    return np.asarray(moved[:, :2] / np.maximum(moved[:, 2:], 1e-3))


def _most_central(poses: NDArray[np.float64], height: int, width: int) -> int:
    """The plate whose center lies nearest to the middle of all centers: least is stretched around it."""
    centers = np.stack([_corners(_normal(pose), height, width).mean(0) for pose in poses])
    middle = (centers.min(0) + centers.max(0)) / 2
    return int(np.linalg.norm(centers - middle, axis=1).argmin())


def _fits(pose: NDArray[np.float64], height: int, width: int) -> bool:
    corners = _corners(pose, height, width)
    area = cv2.contourArea(corners.astype(np.float32)) / ((height - 1) * (width - 1))
    reach = np.abs(corners - (width / 2, height / 2)) / (width, height)
    return bool(area < STRETCH and reach.max() < WIDEST / 2 and cv2.isContourConvex(corners.astype(np.float32)))


def _bounds(poses: Sequence[NDArray[np.float64]], height: int, width: int) -> tuple[int, int, int, int]:
    corners = np.concatenate([_corners(pose, height, width) for pose in poses])
    left, top = np.floor(corners.min(0) + 1e-6).astype(int)
    right, bottom = np.ceil(corners.max(0) - 1e-6).astype(int) + 1
    return int(left), int(top), int(right), int(bottom)


def _coverage(pose: NDArray[np.float64], height: int, width: int, size: tuple[int, int]) -> Bool:
    inner = np.zeros((height, width), np.uint8)
    inner[EDGE:-EDGE, EDGE:-EDGE] = 1
    return np.asarray(cv2.warpPerspective(inner, pose, size[::-1], flags=cv2.INTER_NEAREST) > 0)


def _warped(plate: U8, provenance: U8, pose: NDArray[np.float64], size: tuple[int, int]) -> _Layer:
    flat = size[::-1]
    picture = cv2.warpPerspective(plate, pose, flat, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    origin = cv2.warpPerspective(cv2.dilate(provenance, np.ones((3, 3), np.uint8)), pose, flat, flags=cv2.INTER_NEAREST)
    covered = _coverage(pose, provenance.shape[0], provenance.shape[1], size)
    return _Layer(np.asarray(picture, np.uint8), np.asarray(origin, np.uint8), covered)


def _sources(coverage: dict[int, Bool], anchor: int, pixels: int) -> list[int]:
    """The anchor, then always the plate that adds most."""
    chosen, seen = [anchor], coverage[anchor].copy()
    while True:
        added = {k: int((own & ~seen).sum()) for k, own in coverage.items() if k not in chosen}
        best = max(added, key=lambda k: (added[k], -k), default=anchor)
        if added.get(best, 0) < LEAST_NEW * pixels:
            return chosen
        chosen.append(best)
        seen |= coverage[best]


def _composed(layers: Sequence[_Layer]) -> tuple[U8, U8, Bool]:
    """One picture of all layers, each pixel from one; its provenance as seen from the first; where it is covered."""
    masks = [np.where(layer.covered, 255, 0).astype(np.uint8) for layer in layers]
    if len(layers) > 1:
        finder = cv2.detail_DpSeamFinder("COLOR_GRAD")
        pictures = [layer.picture.astype(np.float32) for layer in layers]
        masks = [np.asarray(cv2.UMat.get(m) if isinstance(m, cv2.UMat) else m)
                 for m in finder.find(pictures, [(0, 0)] * len(layers), masks)]  # fmt: skip
    picture = np.zeros_like(layers[0].picture)
    origin = np.full(picture.shape[:2], GUESSED, np.uint8)
    covered = np.zeros(origin.shape, bool)
    for number, layer in enumerate(layers):
        own = layer.covered & ~covered & (masks[number] > 0)
        _take(picture, origin, own, layer, number > 0)
        covered |= own
    for number, layer in enumerate(layers):  # what a seam left to nobody
        own = layer.covered & ~covered
        _take(picture, origin, own, layer, number > 0)
        covered |= own
    return picture, origin, covered


def _improved(
    picture: U8, origin: U8, covered: Bool, others: Sequence[int], layer: Callable[[int], _Layer]
) -> list[int]:
    """Guesses that another plate knows better are taken from there; which plates were used."""
    used = []
    for k in others:
        doubtful = covered & (origin >= GUESSED)
        if not doubtful.any():
            break
        found = layer(k)
        own = doubtful & found.covered & (found.provenance < GUESSED)
        if own.any():
            _take(picture, origin, own, found, True)
            used.append(k)
    return used


def _take(picture: U8, origin: U8, where: Bool, layer: _Layer, foreign: bool) -> None:
    picture[where] = layer.picture[where]
    own = layer.provenance[where]
    origin[where] = np.where(own == ORIGINAL, RECOVERED, own) if foreign else own
