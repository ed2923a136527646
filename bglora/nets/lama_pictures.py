"""What of a picture LaMa looks at, and how its answers become the picture's pixels again. Arrays only.

LaMa was trained on crops of 256 pixels: in small holes structure holds to about 2,000 pixels, large holes at high
resolution become blurred or repeat. So a large picture is looked at around each hole, and made smaller where a hole
with its surroundings is still larger than a side that works; its pixels outside the holes are never touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

NEAREST_CONTEXT = 128
"""Pixels around a hole that are looked at, at least; otherwise as many as the hole is long."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture: rows top to bottom, columns left to right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows_columns(self) -> tuple[slice, slice]:
        """As an index."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Region:
    """Holes that are filled together: the part of the picture to look at, and which of its pixels are theirs."""

    window: Window
    own: np.ndarray


def regions(hole: np.ndarray, side: int) -> list[Region]:
    """Parts of a picture to look at: all of it up to `side` pixels long, else the surroundings of each group of holes.

    Args:
        hole: bool (H, W).
        side: 0: always the whole picture.
    """
    height, width = hole.shape
    if not hole.any():
        return []
    if not side or max(height, width) <= side:
        return [Region(Window(0, 0, height, width), hole)]
    canvas = np.zeros(hole.shape, np.uint8)
    for left, top, across, down, _ in cv2.connectedComponentsWithStats(hole.astype(np.uint8))[2][1:]:
        margin = max(NEAREST_CONTEXT, across, down)
        canvas[max(0, top - margin) : top + down + margin, max(0, left - margin) : left + across + margin] = 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(canvas)
    found = []
    for label in range(1, count):
        left, top, across, down = (int(value) for value in stats[label][:4])
        window = Window(top, left, top + down, left + across)
        at = window.rows_columns
        found.append(Region(window, hole[at] & (labels[at] == label)))
    return found


def reduced(picture: np.ndarray, hole: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and hole made smaller so that no side is longer than `side`; every pixel that a hole touches is hole."""
    longest = max(hole.shape)
    if not side or longest <= side:
        return picture, hole
    height, width = (max(1, round(length * side / longest)) for length in hole.shape)
    touched = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), touched


def padded(picture: np.ndarray, multiple: int, smallest: int) -> np.ndarray:
    """(H, W, ...) grown on the right and at the bottom by its own mirror image, edge pixels repeated.

    Args:
        multiple: what height and width become multiples of.
        smallest: what they are at least.
    """
    grown = [max(-(-length // multiple), -(-smallest // multiple)) * multiple for length in picture.shape[:2]]
    extra = [(0, to - length) for to, length in zip(grown, picture.shape[:2], strict=True)]
    return np.pad(picture, [*extra, *[(0, 0)] * (picture.ndim - 2)], mode="symmetric")


def tiles(hole: np.ndarray, tile: int) -> Iterator[Window]:
    """Windows that cover the holes, overlapping by a quarter; a single one where the picture is not larger."""

    def starts(length: int) -> list[int]:
        if length <= tile:
            return [0]
        count = -(-(length - tile) // (tile * 3 // 4)) + 1
        return [round(k * (length - tile) / (count - 1)) for k in range(count)]

    for top in starts(hole.shape[0]):
        for left in starts(hole.shape[1]):
            window = Window(top, left, min(top + tile, hole.shape[0]), min(left + tile, hole.shape[1]))
            if hole[window.rows_columns].any():
                yield window


def joined(shape: tuple[int, int], parts: list[tuple[Window, np.ndarray]], tile: int) -> np.ndarray:
    """One picture from tiles, uint8 (H, W, 3); where they overlap they fade into each other. Gaps are 0."""
    if len(parts) == 1 and parts[0][0].size == shape:
        return parts[0][1]
    total, weights = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 1), np.float32)
    for window, made in parts:
        weight = np.outer(*(_fade(length, tile // 4) for length in window.size))[..., None].astype(np.float32)
        total[window.rows_columns] += made * weight
        weights[window.rows_columns] += weight
    return (total / np.maximum(weights, 1e-6) + 0.5).astype(np.uint8)


def _fade(length: int, overlap: int) -> np.ndarray:
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(1.0, from_edge / max(1, overlap))


def paste(picture: np.ndarray, region: Region, made: np.ndarray) -> None:
    """Puts what was made into the region's holes, and nowhere else.

    Args:
        picture: uint8 (H, W, 3), contiguous, written to.
        made: uint8 (h, w, 3) of the region, or smaller.
    """
    height, width = region.window.size
    if made.shape[:2] != (height, width):
        made = cv2.resize(made, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.copyTo(made, region.own.view(np.uint8), picture[region.window.rows_columns])
