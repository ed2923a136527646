"""Backgrounds that move by themselves (water, leaves): pixels of few coherent moments, not the mean of many.

How fast a background changes decides which. Plants that sway are nearly the same one frame later: every pixel comes
from the moment nearest in time that shows it, and neighbors from neighboring moments fit together. Ripples are never
the same again: there one moment that shows the whole part is as good as any, and it has no seams inside. Both are
weighed by the change that the shot itself shows over each lag of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.flow import carried

RING = 10
"""Pixels around a part of the hole in which moments are compared."""
FEWEST = 30
"""Pixels below which a comparison says nothing."""
SEAM_PX, SEAM_SIGMA = 3.0, 1.0
"""Width in pixels of what is seen as a seam, and how softly moments are blended there."""
NEARLY = 0.95
"""Moments that show at least this share of what the best one shows compete by how well they fit."""
PAIRS, LONGEST = 5, 12
"""Pairs of frames that are compared per lag, and the longest lag (frames)."""
SOFT_LEVELS = 12.0
"""Grey levels by which a moment is shifted at most to meet what is around the hole."""


@dataclass(frozen=True)
class Moment:
    """Another frame at the same exposure.

    Attributes:
        picture: uint8 (H, W, 3). free: bool (H, W), where it shows background.
        offset: frames of time to it, negative before.
    """

    picture: U8
    free: Bool
    offset: int

    def part(self, box: tuple[slice, slice]) -> Moment:
        """The moment within a box."""
        return Moment(self.picture[box], self.free[box], self.offset)


def from_moments(picture: F32, where: Bool, target: U8, known: Bool, moments: Sequence[Moment]) -> Bool:
    """Fills each part of `where` from few moments; in place.

    Args:
        picture: float32 (H, W, 3), written where the result is True. where: bool (H, W), what to fill.
        target: uint8 (H, W, 3), the frame, true where `known`. moments: the other frames, nearest in time first.

    Returns:
        Where a moment was found, bool (H, W).
    """
    filled = np.zeros_like(where)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grow(where, 2).astype(np.uint8), connectivity=8)
    height, width = where.shape
    for part in range(1, count):
        x, y, w, h = (int(v) for v in stats[part, :4])
        box = (slice(max(0, y - RING), min(height, y + h + RING)), slice(max(0, x - RING), min(width, x + w + RING)))
        here = (labels[box] == part) & where[box]
        if not here.any():
            continue
        ring = grow(here, RING) & known[box] & ~grow(here, 1)
        local = [moment.part(box) for moment in moments]
        choice = _choose(here, ring, target[box], local)
        shown = here & (choice >= 0)
        picture[box][shown] = _blended(choice, shown, ring, target[box], [moment.part(box) for moment in moments])[
            shown
        ]
        filled[box] |= shown
    return filled


def _blended(choice: NDArray[np.int16], shown: Bool, ring: Bool, target: U8, moments: Sequence[Moment]) -> F32:
    """The chosen moments in one picture (H, W, 3), the seams between them softened where both show the background."""
    total = np.zeros(target.shape, np.float32)
    weights = np.full(choice.shape, 1e-6, np.float32)
    for index in np.unique(choice[shown]):
        moment, take = moments[index], shown & (choice == index)
        weight = cv2.GaussianBlur(take.astype(np.float32), (0, 0), SEAM_SIGMA) * moment.free
        total += weight[..., None] * (moment.picture + _shift(target, moment.picture, ring & moment.free))
        weights += weight
    return np.asarray(total / weights[..., None], np.float32)


def _choose(here: Bool, ring: Bool, target: U8, moments: Sequence[Moment]) -> NDArray[np.int16]:
    """The index of the moment for each pixel of `here`, -1 where none shows it: int16 (H, W)."""
    change = _change(here, moments)
    ways = [_nearest(here, moments), _fewest(here, ring, target, moments)]
    return min(ways, key=lambda choice: _cost(choice, here, moments, change))


def _nearest(here: Bool, moments: Sequence[Moment]) -> NDArray[np.int16]:
    choice = np.full(here.shape, -1, np.int16)
    for index, moment in enumerate(moments):
        choice[here & moment.free & (choice < 0)] = index
    return choice


def _fewest(here: Bool, ring: Bool, target: U8, moments: Sequence[Moment]) -> NDArray[np.int16]:
    """As few moments as possible; among those that show nearly as much the one that fits best around the hole."""
    choice, left = np.full(here.shape, -1, np.int16), here.copy()
    misfit = [_misfit(target, moment, ring) for moment in moments]
    while left.any():
        shown = np.array([int((moment.free & left).sum()) for moment in moments])
        if not len(shown) or shown.max() == 0:
            break
        nearly = (k for k in range(len(moments)) if shown[k] >= NEARLY * shown.max())
        index = min(nearly, key=lambda k: misfit[k])
        take = left & moments[index].free
        choice[take] = index
        left &= ~take
    return choice


def _misfit(target: U8, moment: Moment, ring: Bool) -> float:
    """Grey levels by which a moment differs from the frame around the hole; infinite where it shows too little."""
    shared = ring & moment.free
    return float(cv2.absdiff(target, moment.picture)[shared].mean()) if shared.sum() >= FEWEST else float("inf")


def _change(here: Bool, moments: Sequence[Moment]) -> F32:
    """Grey levels by which `here` differs over each lag of time, 0 to `LONGEST`, never less than over a shorter one."""
    out = np.zeros(LONGEST + 1, np.float32)
    for lag in range(1, LONGEST + 1):
        levels: list[float] = []
        for a, b in ((a, b) for a in moments for b in moments if b.offset - a.offset == lag):
            both = here & a.free & b.free
            if both.sum() >= FEWEST:
                levels.append(float(cv2.absdiff(a.picture, b.picture)[both].mean()))
            if len(levels) == PAIRS:
                break
        out[lag] = max(float(out[lag - 1]), float(np.median(levels)) if levels else 0.0)
    return out


def _cost(choice: NDArray[np.int16], here: Bool, moments: Sequence[Moment], change: F32) -> float:
    """Expected grey levels of error, summed over the pixels of `here` and over the seams between moments."""
    offsets = np.array([*(moment.offset for moment in moments), 0])
    shown = here & (choice >= 0)
    error = change[np.minimum(np.abs(offsets[choice[shown]]), LONGEST)].sum()
    for a, b in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        seam = shown[a] & shown[b] & (choice[a] != choice[b])
        apart = np.abs(offsets[choice[a][seam]] - offsets[choice[b][seam]])
        error += SEAM_PX * change[np.minimum(apart, LONGEST)].sum()
    return float(error)


def _shift(target: U8, picture: U8, ring: Bool) -> F32:
    """The low-frequency difference to the target around the hole, carried into it: float32 (H, W, 3)."""
    if ring.sum() < FEWEST:
        return np.zeros(target.shape, np.float32)
    difference = cv2.subtract(target, picture, dtype=cv2.CV_32F)
    soft = carried(cv2.GaussianBlur(carried(difference, ring), (0, 0), 4.0), ring)
    return np.clip(soft, -SOFT_LEVELS, SOFT_LEVELS)
