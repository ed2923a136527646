"""What a painting model gets to see of a frame with a hole, and how what it painted comes back into the frame.

A model paints best near the size that it was trained on, so each hole is cut out with its surroundings at the frame's
own resolution instead of squeezing the frame. It is shown a blunted hole: an outline tells it what stood there. Only
the true hole is taken from what it painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, grow, without_holes
from bglora.vision.filling import SEAM, seam
from bglora.vision.structure import as_bytes

BLUNT = 0.12
"""Radius by which a hole's outline is rounded, as a share of the square root of its area."""
HULL_MOST = 2.5
"""A part of a hole becomes its convex hull where that has no more than so many times its area."""
CONTEXT = 0.35
"""Surroundings on each side of a hole, as a share of its extent."""
LEAST = 8
"""Pixels by which a hole is grown at least: a cell of a diffusion model's latents."""
LARGEST = 1.5
"""Area that a model is given at most, as a multiple of what it was trained on; larger pictures repeat themselves."""
RING = 32
"""Pixels around a blunted hole whose color says how far the model is off."""
DRIFT_MOST = 48.0
"""Grey levels by which a model's color is corrected at most; more is no drift but another content."""


@dataclass(frozen=True)
class Crop:
    """A part of a frame for a painting model.

    Attributes:
        box: rows and columns of the frame.
        size: (height, width) in which the model paints it.
        own: bool (H, W) of the box, the true hole that it is to fill.
        missing: bool (H, W) of the box, the true hole, that of neighboring parts included.
        unknown: bool (H, W) of the box, what the model is not shown: blunted, that of neighboring holes included.
    """

    box: tuple[slice, slice]
    size: tuple[int, int]
    own: Bool
    missing: Bool
    unknown: Bool

    def shown(self, cell: int = 1) -> Bool:
        """The hole in the model's size, bool (height, width): every pixel that touches it, in whole cells of latents.

        A model tells a cell's kind by one of its pixels; a cell that is hole in part would be lost, or show the blank.
        """
        smaller = self.size[0] * self.size[1] < self.unknown.size
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        touched = cv2.resize(self.unknown.astype(np.float32), self.size[::-1], interpolation=way) > 0
        rows, columns = self.size[0] // cell, self.size[1] // cell
        cells = touched.reshape(rows, cell, columns, cell).any((1, 3))
        return np.asarray(cells.repeat(cell, 0).repeat(cell, 1))

    def cut(self, frame: U8) -> U8:
        """The part of a frame (H, W, 3) in the model's size."""
        return _resized(frame[self.box], self.size)


def blunted(hole: Bool, least: int) -> Bool:
    """The hole closed, grown and rounded, so that its outline says nothing of what stood there.

    Args:
        least: pixels by which it is grown at least.
    Returns:
        bool (H, W), true wherever `hole` is.
    """
    if not hole.any():
        return hole
    wide = grow(hole, least)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(wide.astype(np.uint8), connectivity=8)
    out = np.zeros_like(hole)
    for k in range(1, count):
        x, y, w, h = (int(stats[k, column]) for column in range(4))
        radius = max(least, round(BLUNT * float(np.sqrt(stats[k, cv2.CC_STAT_AREA]))))
        reach = 3 * radius
        box = (slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach))
        out[box] |= _rounded(np.asarray(labels[box] == k), radius)
    return out


def _rounded(part: Bool, radius: int) -> Bool:
    closed = _narrowed(_widened(part, radius), radius) | part
    closed = without_holes(closed, 4 * radius * radius)
    whole = _hull(closed)
    if whole.sum() <= HULL_MOST * closed.sum():
        closed = whole
    bulged = _widened(closed, max(1, radius // 2))
    return np.asarray(_widened(_narrowed(bulged, radius), radius) | closed)


def _widened(mask: Bool, radius: int) -> Bool:
    """As `grow`, by distances: the time does not depend on the radius, which is large for large holes."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius)


def _narrowed(mask: Bool, radius: int) -> Bool:
    """As `shrink`: the picture's border doesn't eat the mask."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) > radius)


def _hull(part: Bool) -> Bool:
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = np.zeros(part.shape, np.uint8)
    cv2.fillConvexPoly(found, cv2.convexHull(np.concatenate(outlines)), 1)
    return np.asarray((found > 0) | part)


def crops(hole: Bool, side: int, multiple: int, least: int = LEAST) -> list[Crop]:
    """Parts of a frame that together hold its whole hole, from top to bottom.

    Args:
        hole: bool (H, W).
        side: in pixels, of the pictures that the model was trained on.
        multiple: pixels; the sides of a part are multiples of it in the model's size.
        least: pixels by which the hole that is shown is grown, in the frame.
    """
    unknown = blunted(hole, least)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(unknown.astype(np.uint8), connectivity=8)
    boxes: list[tuple[_Box, list[int]]] = []
    for k in range(1, count):
        x, y, w, h = (int(stats[k, column]) for column in range(4))
        boxes.append(((y, y + h, x, x + w), [k]))
    found = []
    for box, parts in _merged(boxes, side):
        rows, columns = _with_context(box, hole.shape, side, multiple)
        missing = hole[rows, columns]
        own = missing & np.isin(labels[rows, columns], parts)
        size = _model_size(own.shape, side, multiple)
        found.append(Crop((rows, columns), size, own, missing, unknown[rows, columns]))
    return sorted(found, key=lambda crop: (crop.box[0].start, crop.box[1].start))


def hidden(frame: U8, hole: Bool) -> U8:
    """The frame with the mean color of its known pixels in the hole, so that nothing of what stood there gets out."""
    out = frame.copy()
    if hole.any():
        out[hole] = frame[~hole].mean(0).round().astype(np.uint8) if not hole.all() else 128
    return out


_Box = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""


def _merged(boxes: list[tuple[_Box, list[int]]], side: int) -> list[tuple[_Box, list[int]]]:
    """Holes that fit into one part together, or that overlap, go together: each part is a whole painting."""
    merged: list[tuple[_Box, list[int]]] = []
    for box, parts in sorted(boxes):
        fit = True
        while fit:
            fit = False
            for k, (other, others) in enumerate(merged):
                both = (min(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), max(box[3], other[3]))
                room = side / (1 + 2 * CONTEXT)
                inside = both[1] - both[0] <= room and both[3] - both[2] <= room
                if inside or _area(both) <= 1.15 * max(_area(box), _area(other)):
                    box, parts, fit = both, parts + others, True
                    del merged[k]
                    break
        merged.append((box, parts))
    return merged


def _area(box: _Box) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])


def _with_context(box: _Box, shape: tuple[int, ...], side: int, multiple: int) -> tuple[slice, slice]:
    found = []
    for start, stop, limit in ((box[0], box[1], shape[0]), (box[2], box[3], shape[1])):
        wanted = max(side, round((stop - start) * (1 + 2 * CONTEXT)))
        length = min(limit, -(-wanted // multiple) * multiple)
        first = min(max(0, (start + stop - length) // 2), limit - length)
        found.append(slice(first, first + length))
    return found[0], found[1]


def _model_size(shape: tuple[int, ...], side: int, multiple: int) -> tuple[int, int]:
    """The part's own size where that is near what the model was trained on, else scaled to it."""
    area = shape[0] * shape[1]
    scale = min(1.0, float(np.sqrt(LARGEST * side * side / area)))
    if area < side * side:
        scale = float(np.sqrt(side * side / area))
    height, width = (max(multiple, round(length * scale / multiple) * multiple) for length in shape[:2])
    return height, width


def pasted(frame: U8, crop: Crop, painted: U8) -> U8:
    """The frame with the crop's own hole filled; every other pixel is the frame's, bit by bit.

    What the model painted is matched in color to the known pixels around the hole, of which it painted its own version,
    and joined to them at the hole's edge.

    Args:
        frame: uint8 (H, W, 3). painted: uint8 (height, width, 3), the whole part in the model's size.
    """
    part = frame[crop.box].astype(np.float32)
    guess = _resized(painted, part.shape[:2]).astype(np.float32)
    guess += _drift(part - guess, ~crop.unknown, grow(crop.unknown, RING))
    guess += seam(part - guess, grow(crop.own, SEAM) & ~crop.missing)
    out = frame.copy()
    out[crop.box][crop.own] = as_bytes(guess)[crop.own]
    return out


def _drift(difference: F32, known: Bool, near: Bool) -> F32:
    """By how much the model's color is off, smooth over the part: what it is off on known pixels near the hole."""
    ring = known & near
    if not ring.any():
        return np.zeros_like(difference)
    middle = np.median(difference[ring], 0)
    weight = ring.astype(np.float32)
    rest = np.clip(difference - middle, -DRIFT_MOST / 2, DRIFT_MOST / 2) * weight[..., None]
    small = tuple(max(1, -(-length // 8)) for length in ring.shape[::-1])
    amount = cv2.GaussianBlur(cv2.resize(rest, small, interpolation=cv2.INTER_AREA), (0, 0), RING / 8)
    total = cv2.GaussianBlur(cv2.resize(weight, small, interpolation=cv2.INTER_AREA), (0, 0), RING / 8)
    local = cv2.resize(amount / (total + 0.05)[..., None], ring.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(middle, -DRIFT_MOST, DRIFT_MOST) + local, np.float32)


def _resized(picture: U8, size: tuple[int, ...]) -> U8:
    if picture.shape[:2] == tuple(size[:2]):
        return picture
    smaller = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=way), np.uint8)
