"""Dissolves: frames that are a mixture of the picture before and the picture after.

For a frame in the middle and one on either side at distance w, the middle is fitted as (1 - a) A + a B. In a dissolve
a grows evenly from 0 to 1 and nearly nothing is left over, although A and B are different views. Where something moves
through the picture every pixel is either A or B (or neither), and a (1 - a) |B - A|^2 is left over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_REACHES = (3, 4, 6, 8, 11, 15, 21, 29, 40)  # frames on either side that are tried
_DIFFERENT = 10.0  # grey levels (root mean square) between A and B at least
_ALIKE = 0.6  # correlation of A and B at most
_LEFT_OVER = 0.35  # of a (1 - a) |B - A|^2
_LONGEST = 210  # frames of a dissolve at most: 2.6 times the widest reach to either side
_STRETCH = 1500  # frames that are looked at together: 50 MB
_EDGE = 0.06  # share of the mixture from which a frame counts as mixed


@dataclass(frozen=True)
class Dissolve:
    """Frames `first` to `last` inclusive that show both pictures; from `middle` on the second is the stronger one."""

    first: int
    middle: int
    last: int


def find_dissolves(thumbs: np.ndarray) -> list[Dissolve]:
    """Dissolves in a stretch of frames without a cut, numbered from 0, in order.

    Args:
        thumbs: uint8 (N, h, w) luma of the frames.
    """
    found: list[Dissolve] = []
    last = len(thumbs) - 1
    for start in range(0, last + 1, _STRETCH - 2 * _LONGEST):
        end = min(last, start + _STRETCH - 1)
        part = thumbs[start : end + 1].astype(np.float32).reshape(end + 1 - start, -1)
        for one in _within(part):
            # What ends near the end of a stretch lies whole in the next one.
            whole = end == last or one.last < len(part) - _LONGEST
            if whole and not any(
                one.first + start <= other.last and other.first <= one.last + start for other in found
            ):
                found.append(Dissolve(start + one.first, start + one.middle, start + one.last))
        if end == last:
            break
    return sorted(found, key=lambda one: one.first)


def _within(part: np.ndarray) -> list[Dissolve]:
    """Dissolves of pictures (n, pixels), the clearest first, apart from each other."""
    best: dict[int, tuple[float, int]] = {}
    for reach in _REACHES:
        for middle, quality in _candidates(part, reach):
            if quality > best.get(middle, (0.0, 0))[0]:
                best[middle] = (quality, reach)
    found: list[Dissolve] = []
    for middle, (_, reach) in sorted(best.items(), key=lambda entry: -entry[1][0]):
        dissolve = _extent(part, middle, reach)
        if dissolve and all(dissolve.last < other.first or dissolve.first > other.last for other in found):
            found.append(dissolve)
    return found


def _candidates(part: np.ndarray, reach: int) -> list[tuple[int, float]]:
    """(middle, quality) of the frames that look like the middle of a dissolve when seen from `reach` frames away."""
    count = len(part) - 2 * reach
    if count <= 0:
        return []
    before, after = part[:count], part[2 * reach :]
    step = after - before
    size = np.square(step).mean(axis=1)
    quarter = max(1, reach // 2)
    share, left = [], []
    for offset in (reach - quarter, reach, reach + quarter):
        moved = part[offset : offset + count] - before
        weight = (moved * step).mean(axis=1) / (size + 1e-6)
        share.append(weight)
        left.append(np.square(moved - weight[:, None] * step).mean(axis=1) / (size + 1e-6))
    expected = [0.5 - quarter / reach / 2, 0.5, 0.5 + quarter / reach / 2]
    even = np.max([np.abs(weight - target) for weight, target in zip(share, expected, strict=True)], axis=0)
    relative = [over / np.maximum(weight * (1 - weight), 0.05) for over, weight in zip(left, share, strict=True)]
    rest = np.max(relative, axis=0)
    good = (size > _DIFFERENT**2) & (even < 0.17) & (rest < _LEFT_OVER) & (_correlation(before, after) < _ALIKE)
    quality = np.sqrt(size) * (1 - rest) * (1 - even)
    return [(int(place) + reach, float(quality[place])) for place in np.flatnonzero(good)]


def _extent(part: np.ndarray, middle: int, reach: int) -> Dissolve | None:
    """Follows the mixture outward from its middle to where it begins and ends."""
    best: Dissolve | None = None
    for wider in (round(1.5 * reach), 2 * reach, round(2.6 * reach), reach):
        low, high = max(0, middle - wider), min(len(part) - 1, middle + wider)
        step = part[high] - part[low]
        size = float(np.square(step).mean())
        weights = ((part[low : high + 1] - part[low]) @ step) / (size * part.shape[1] + 1e-6)
        mixed = np.flatnonzero((weights > _EDGE) & (weights < 1 - _EDGE))
        center = middle - low
        if center not in mixed:
            continue
        start = end = center
        while start - 1 in mixed:
            start -= 1
        while end + 1 in mixed:
            end += 1
        half = int(np.argmax(weights[start : end + 1] >= 0.5)) + start
        found = Dissolve(low + start, low + half, low + end)
        if start > 0 and end < len(weights) - 1:
            return found
        best = best or found
    return best


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation (count,) of pictures (count, pixels)."""
    one = one - one.mean(axis=1, keepdims=True)
    other = other - other.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1)) + 1e-6
    return (one * other).sum(axis=1) / norm
