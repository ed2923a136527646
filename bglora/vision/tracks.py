"""Who is who from frame to frame: objects of masks linked into tracks."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bglora.vision.arrays import U8, Bool

PATIENCE = 8
"""Frames looked at for which a track may be out of sight."""
FARTHEST = 1.0
"""Cost above which two objects are two characters."""


@dataclass(frozen=True)
class Thing:
    """One object of one frame.

    Attributes:
        box: left, top, width, height. center: x, y. area: pixels. colors: normalized histogram (64,).
    """

    box: tuple[int, int, int, int]
    center: tuple[float, float]
    area: int
    colors: NDArray[np.float64]


@dataclass
class _Track:
    number: int
    last: Thing
    seen: int
    step: tuple[float, float] = (0.0, 0.0)


@dataclass
class Tracker:
    """Links the objects of ascending frames; numbers start at 1 and are never used twice."""

    diagonal: float
    tracks: list[_Track] = field(default_factory=list)
    count: int = 0
    frame: int = 0

    def follow(self, things: list[Thing]) -> list[int]:
        """The track number of each object of the next frame."""
        self.frame += 1
        alive = [t for t in self.tracks if self.frame - t.seen <= PATIENCE]
        numbers = [0] * len(things)
        if alive and things:
            costs = np.array([[self._cost(track, thing) for thing in things] for track in alive])
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] <= FARTHEST:
                    self._extend(alive[row], things[column])
                    numbers[column] = alive[row].number
        for k, thing in enumerate(things):
            if not numbers[k]:
                self.count += 1
                self.tracks.append(_Track(self.count, thing, self.frame))
                numbers[k] = self.count
        return numbers

    def _cost(self, track: _Track, thing: Thing) -> float:
        gap = self.frame - track.seen
        x, y = (c + s * gap for c, s in zip(track.last.center, track.step, strict=True))
        away = float(np.hypot(thing.center[0] - x, thing.center[1] - y)) / (0.12 * self.diagonal * gap**0.5)
        size = abs(float(np.log(thing.area / track.last.area)))
        colors = 1.0 - float(np.minimum(thing.colors, track.last.colors).sum())
        return 0.5 * away + 0.2 * size + 0.5 * colors

    def _extend(self, track: _Track, thing: Thing) -> None:
        gap = self.frame - track.seen
        step = tuple((b - a) / gap for a, b in zip(track.last.center, thing.center, strict=True))
        track.step, track.last, track.seen = (step[0], step[1]), thing, self.frame


def things(frame: U8, objects: Bool) -> tuple[list[Thing], NDArray[np.int32]]:
    """The objects of a frame, and a label map int32 (H, W) whose value k + 1 marks the k-th."""
    count, labels, stats, centers = cv2.connectedComponentsWithStats(objects.astype(np.uint8), connectivity=8)
    found = []
    for k in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[k])
        inside = labels[y : y + h, x : x + w] == k
        colors = _colors(frame[y : y + h, x : x + w][inside])
        found.append(Thing((x, y, w, h), (float(centers[k, 0]), float(centers[k, 1])), area, colors))
    return found, np.asarray(labels, np.int32)


def thing(frame: U8, mask: Bool) -> Thing:
    """One object of a frame, in one part or several; `mask`, bool (H, W), is not empty."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    box = (x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y)
    return Thing(box, (float(xs.mean()), float(ys.mean())), len(xs), _colors(frame[ys, xs]))


def _colors(pixels: U8) -> NDArray[np.float64]:
    """Normalized histogram (64,) of pixels (N, 3)."""
    q = (pixels >> 6).astype(np.int64)
    return np.bincount((q[:, 0] * 4 + q[:, 1]) * 4 + q[:, 2], minlength=64) / max(1, len(pixels))
