"""Faint effects: soft shade and reflections that lie below the noise of single pixels but not of their surroundings.

The difference to the background is smoothed until noise averages out, and held against what the same smoothed
difference is in frames in which nobody is near. What is significant and belongs to a character by nearness is its
effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, grow, largest_channel, touching, within_heights, without_specks

WORKING_WIDTH = 256
SIGMA = 1.6
"""Smoothing in working pixels."""


@dataclass(frozen=True)
class Limits:
    """From where on a smoothed difference is shade (`seed`), and down to where it reaches (`edge`).

    In grey levels, and in `noise` of the smoothed difference where nobody is near; the larger of the two counts.
    """

    seed: float
    edge: float
    seed_noise: float
    edge_noise: float


LIMITS = {
    # Noise before a still camera is leaves and waves, with long tails; before a turning one edges that don't quite
    # fit; a traveling one shows near things where no plane has them.
    "still": Limits(5.0, 3.2, 4.5, 2.5),
    "pan": Limits(4.5, 2.8, 2.9, 1.65),
    "parallax": Limits(5.0, 3.2, 7.0, 4.0),
}
RESTLESS = 2.0
"""Noise in grey levels from which a place before a still camera moves by itself, and counts twice."""
REACH = 0.9
"""How far the shade of an object reaches, in units of the object's height."""
SMALLEST, SMALLEST_APART = 8, 40
"""Least shade in working pixels, beside an object and away from it."""
QUIET = 0.7
"""Least deviation of the smoothed difference, in grey levels."""


def smoothed(frame: U8, mean: F32, objects: Bool | None = None) -> F32:
    """Difference frame - background at the working width, smoothed; float32 (h, w, 3), grey levels.

    Pixels of `objects`, bool (H, W), don't count; beside them the mean is taken from what lies outside.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, WORKING_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    away = cv2.subtract(frame, mean, dtype=cv2.CV_32F)
    if objects is None or not objects.any():
        small = cv2.resize(away, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), SIGMA), np.float32)
    away[grow(objects, 1)] = 0
    small = cv2.resize(away, size, interpolation=cv2.INTER_AREA)
    outside = cv2.resize((~grow(objects, 1)).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weight = np.maximum(cv2.GaussianBlur(outside, (0, 0), SIGMA), 0.02)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), SIGMA) / weight[..., None], np.float32)


def smoothed_noise(differences: Sequence[F32], weights: Sequence[Bool], still: bool) -> F32:
    """What smoothed differences (h, w, 3) come to in frames in which nobody is near (full-size `weights`); (h, w).

    About one deviation: what 70 % of the samples stay below, so that shade nobody masked in some frames doesn't count.
    """
    height, width = differences[0].shape[:2]
    levels = np.full((len(differences), height, width), np.inf, np.float32)
    for level, away, weight in zip(levels, differences, weights, strict=True):
        inside = cv2.resize(weight.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        level[inside] = largest_channel(np.abs(away))[inside]
    levels.sort(axis=0)
    count = np.isfinite(levels).sum(0)
    rank = np.maximum(0, np.floor(0.7 * (count - 1))).astype(np.int64)
    typical = np.take_along_axis(levels, rank[None], 0)[0]
    typical[count == 0] = 0
    grown = cv2.GaussianBlur(cv2.dilate(typical, np.ones((5, 5), np.uint8)), (0, 0), 2)
    if still:
        grown += np.maximum(grown - RESTLESS, 0)
    return np.asarray(np.maximum(grown, QUIET), np.float32)


def shade(away: F32, noise: F32, objects: Bool, effects: Bool, limits: Limits) -> Bool:
    """Faint effects of a frame, bool (H, W), with the stronger ones that they join.

    Args:
        away: `smoothed` of the frame. noise: `smoothed_noise` of the shot. objects, effects: found so far, bool (H, W).
        limits: of `LIMITS`, by the kind of camera.
    """
    if not objects.any():
        return effects
    height, width = objects.shape
    small = (away.shape[1], away.shape[0])
    level = largest_channel(np.abs(away))
    solid = np.asarray(cv2.resize(objects.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.2)
    known = np.asarray(cv2.resize(effects.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.5)
    seeds = (level > np.maximum(limits.seed, limits.seed_noise * noise)) & within_heights(solid, REACH) & ~solid
    edge = (level > np.maximum(limits.edge, limits.edge_noise * noise)) & within_heights(solid, 1.5 * REACH)
    found = touching(edge | known, seeds | known) & ~solid
    beside = touching(found | solid, solid) & found
    found = without_specks(beside, SMALLEST) | without_specks(found & ~beside, SMALLEST_APART)
    full = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.4
    return np.asarray((full | effects) & ~objects)
