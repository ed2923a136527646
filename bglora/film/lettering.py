"""Letters in or over a picture: titles and credits.

Letters of a line share what nothing else in a picture shares all at once: their height and base line, the width of
their strokes (Epshtein, Ofek, Wexler, "Detecting Text in Natural Scenes with Stroke Width Transform", CVPR 2010), one
tone that stands out from what is around them; and they differ in shape, unlike windows, posts or leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

_ZOOM = 2  # strokes are one or two pixels wide at the working size
_STROKE = 13  # pixels; a letter's strokes are thinner
_LETTERS = 6  # in a line at least
_CONTRAST = 20.0  # grey levels between letters and what is around them at least
_LOWEST, _TALLEST = 9, 0.3  # height of a letter: pixels of the zoomed picture; share of the picture's height


@dataclass(frozen=True)
class _Layer:
    """A picture (light letters on dark) split into the parts that stand out from their surroundings."""

    picture: np.ndarray
    binary: np.ndarray
    labels: np.ndarray
    stats: np.ndarray
    """(parts, 5): left, top, width, height, area."""

    @cached_property
    def depth(self) -> np.ndarray:
        """Distance of each pixel of a part to its edge."""
        return cv2.distanceTransform(self.binary, cv2.DIST_L2, 3)


@dataclass(frozen=True)
class _Letter:
    """What one part looks like. Tones are grey levels, lengths pixels of the zoomed picture."""

    tone: float
    unevenness: float
    around: float
    stroke: float
    solidity: float


def find_letters(working: np.ndarray) -> np.ndarray | None:
    """The pixels of letters in uint8 luma (h, w), as bool (h, w); None if there are no lines of text."""
    height, width = working.shape
    zoomed = cv2.resize(working, (width * _ZOOM, height * _ZOOM), interpolation=cv2.INTER_CUBIC)
    found = np.zeros(working.shape, bool)
    for picture in (zoomed, working):  # small letters, large letters
        for light_on_dark in (picture, 255 - picture):
            layer = _split(light_on_dark)
            lines = [line for line in _lines(layer.stats, picture.shape) if _is_text(layer, line)]
            if lines:
                letters = np.isin(layer.labels, np.concatenate(lines)).astype(np.uint8)
                found |= cv2.resize(letters, (width, height), interpolation=cv2.INTER_AREA) > 0
    return found if found.any() else None


def _split(picture: np.ndarray) -> _Layer:
    above = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, np.ones((_STROKE, _STROKE), np.uint8))
    counts = np.cumsum(np.bincount(above.ravel(), minlength=256))
    strongest = int(np.searchsorted(counts, 0.998 * above.size))
    binary = (above > max(14.0, 0.45 * strongest)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=4)
    return _Layer(picture, binary, labels, stats)


def _lines(stats: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Parts that stand on one base line close together and have letters' sizes: arrays of their labels."""
    left, top, wide, tall, area = (stats[:, column].astype(np.float64) for column in range(5))
    fill = area / (tall * wide)
    inside = (left > 0) & (top > 0) & (left + wide < shape[1]) & (top + tall < shape[0])
    fits = (
        inside
        & (tall >= _LOWEST)
        & (tall <= _TALLEST * shape[0])
        & (wide <= 2.2 * tall)
        & (fill > 0.12)
        & (fill < 0.92)
    )
    fits[0] = False  # what is around all parts
    labels, bottom = np.flatnonzero(fits), top + tall
    free = np.ones(len(labels), bool)
    heights = tall[labels]
    level = np.abs(bottom[labels] - bottom[labels][:, None]) <= np.maximum(2.0, 0.12 * heights)[:, None]
    alike = level & (heights >= 0.5 * heights[:, None]) & (heights <= 1.15 * heights[:, None])
    lines: list[np.ndarray] = []
    for seed in np.argsort(-heights, kind="stable"):
        if not free[seed] or (alike[seed] & free).sum() < _LETTERS:
            continue
        height = heights[seed]
        near = labels[alike[seed] & free]
        order = near[np.argsort(left[near], kind="stable")]
        gaps = left[order[1:]] - (left[order[:-1]] + wide[order[:-1]])
        group = np.concatenate([[0], np.cumsum(gaps > 2.0 * height)])
        line = order[group == group[int(np.flatnonzero(order == labels[seed])[0])]]
        if len(line) >= _LETTERS:
            free[np.isin(labels, line)] = False
            lines.append(line)
    return lines


def _is_text(layer: _Layer, line: np.ndarray) -> bool:
    """True if parts in a line stand out clearly and look like letters in all respects but one at most.

    On the clips that this was tried on, lines of grass, windows or leaves fail in two to six respects.
    """
    letters = [_letter(layer, int(label)) for label in line]
    tone, around = np.array([one.tone for one in letters]), np.array([one.around for one in letters])
    contrast = float(np.median(tone - around))
    if contrast < _CONTRAST:
        return False
    stroke = np.array([one.stroke for one in letters])
    typical = float(np.median(layer.stats[line, cv2.CC_STAT_HEIGHT]))
    looks = (
        *_is_set(layer.stats[line].astype(np.float64), typical),
        np.quantile(tone - around, 0.15) >= 0.4 * contrast,
        tone.std() <= max(4.0, 0.12 * contrast),
        np.median([one.unevenness for one in letters]) <= max(4.0, 0.15 * contrast),
        stroke.std() <= 0.35 * stroke.mean(),
        stroke.mean() <= 0.4 * typical,
        np.median([one.solidity for one in letters]) <= 0.8,
        _stands_alone(layer, line, float(np.median(tone)), contrast),
    )
    return sum(not look for look in looks) <= 1


def _is_set(stats: np.ndarray, typical: float) -> tuple[bool, ...]:
    """How parts, from left to right, stand: spaced as letters are, not into each other, of one or two heights, and
    differing in how much of their box they fill and in width."""
    left, _, wide, tall, area = stats.T[:5]
    gaps = left[1:] - (left + wide)[:-1]
    one_height = np.abs(tall - typical) <= 0.12 * typical + 1
    capitals = np.abs(tall - tall.max()) <= 0.12 * tall.max() + 1
    return (
        bool(np.median(gaps) <= 0.6 * typical),
        bool(np.quantile(gaps, 0.1) >= -0.35 * typical),
        bool((one_height | capitals).mean() >= 0.75),
        bool((area / (tall * wide)).std() >= 0.05),
        bool((wide / typical).std() >= 0.08),
    )


def _letter(layer: _Layer, label: int) -> _Letter:
    left, top, columns, rows = layer.stats[label, :4]
    box = np.s_[max(0, top - 3) : top + rows + 3, max(0, left - 3) : left + columns + 3]
    mask, depth, values = layer.labels[box] == label, layer.depth[box], layer.picture[box]
    core = mask & (depth >= 0.6 * depth[mask].max())
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) & (layer.labels[box] == 0)
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    return _Letter(
        tone=float(np.median(values[core])),
        unevenness=float(values[core].std()),
        around=float(np.median(values[ring])) if ring.any() else 255.0,
        # Along the middle of a stroke the distance to the edge is half its width.
        stroke=2 * float(np.percentile(depth[mask], 90)),
        solidity=len(points) / (cv2.contourArea(cv2.convexHull(points)) + rows + columns),
    )


def _stands_alone(layer: _Layer, line: np.ndarray, tone: float, contrast: float) -> bool:
    """True if next to nothing around a line is as light as its letters, as other blades are around blades of grass."""
    boxes = layer.stats[line]
    tall = int(np.median(boxes[:, 3]))
    top, bottom = int(boxes[:, 1].min()) - tall // 2, int((boxes[:, 1] + boxes[:, 3]).max()) + tall // 2
    left, right = int(boxes[:, 0].min()) - tall // 2, int((boxes[:, 0] + boxes[:, 2]).max()) + tall // 2
    box = np.s_[max(0, top) : bottom, max(0, left) : right]
    own = np.isin(layer.labels[box], line)
    near = cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    rival = (layer.picture[box] > tone - 0.35 * contrast) & ~near
    return bool(rival.sum() <= 0.35 * own.sum())
