"""Masks of one frame against a background: objects (who is there) and effects (their shadows and reflections)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from bglora.vision.appearance import FAINT, Change, Colors, change, object_evidence
from bglora.vision.arrays import (
    F32,
    U8,
    Bool,
    close_gaps,
    disk,
    grow,
    shrink,
    touching,
    without_holes,
    without_specks,
)
from bglora.vision.background import Background
from bglora.vision.difference import STRONG, WEAK, fired, noise
from bglora.vision.edges import BAND, alpha_matte
from bglora.vision.ghosts import ghost_parts, outlines

FAINT_EFFECT = 4.2
"""Grey levels of a 5 x 5 mean from which a difference beside an object is its effect."""
COLOR_WEIGHT, RATIO_WEIGHT = 0.2, 0.6
"""How much the colors learned from the shot count beside the rule for single pixels."""
NARROW, FEET = 0.06, 0.25
"""Shares of an object's height: what is narrower than twice the first is no shadow, except in the lowest part."""
CLEAR = 25.0
"""Grey levels from which a difference belongs to a silhouette."""
NEAR = 10
"""Pixels at a picture width of 512 within which a faint effect belongs to an object."""


@dataclass(frozen=True)
class Foreground:
    """Masks of a frame.

    Attributes:
        objects, effects: bool (H, W), disjoint.
        alpha: uint8 (H, W), how much of a pixel is object, 0 to 255.
        outline: pixels of the objects' outline that run along an edge of the frame, and those that run along an edge
            of the background model instead: there the model shows somebody, not the frame.
        ghosts: the parts of the masks, bool (H, W), whose outline runs along the model's edges.
        ghost_outline: pixels of outline along the model's edges that belong to such parts.
    """

    objects: Bool
    effects: Bool
    alpha: U8
    outline: tuple[int, int] = (0, 0)
    ghosts: Bool | None = None
    ghost_outline: int = 0

    def without_parts(self, region: Bool) -> Foreground:
        """These masks without the connected parts that lie mostly in a region."""
        if not region.any():
            return self
        count, labels = cv2.connectedComponents((self.objects | self.effects).astype(np.uint8), connectivity=8)
        total = np.bincount(labels.ravel(), minlength=count)
        drop = np.bincount(labels[region], minlength=count) > 0.5 * total
        drop[0] = False
        stay = ~drop[labels]
        alpha = np.where(stay, self.alpha, np.uint8(0))
        return replace(self, objects=self.objects & stay, effects=self.effects & stay, alpha=alpha)


def foreground(
    frame: U8,
    background: Background,
    *,
    tolerance_px: float,
    min_area: int,
    colors: Colors | None = None,
    shimmer: F32 | None = None,
    before: Foreground | None = None,
) -> Foreground:
    """Finds who and what a frame shows that the background doesn't.

    Args:
        frame: at the background's exposure and in its coordinates.
        tolerance_px: error of the alignment in pixels.
        min_area: smaller objects are noise, in pixels.
        colors: what the shot's objects look like, if learned already.
        shimmer: distance (grey levels) to other moments where the background moves by itself; 0 elsewhere. Replaces the
            plain difference there when smaller.
        before: earlier masks, which stay where the background is not known.
    """
    seen = change(frame, background.mean)
    allowed = noise(background, tolerance_px)
    difference = seen.difference
    if shimmer is not None:
        difference = np.where(shimmer >= 0, np.minimum(difference, shimmer), difference)
    score = (difference / allowed).astype(np.float32)
    if before is not None and colors is not None:
        # Beside an object less difference is needed in the object's colors: brown hair before a brown shelf.
        close = grow(before.objects, max(3, round(NEAR * frame.shape[1] / 512)))
        score = np.where(close, score * (1 + 0.35 * np.clip(colors.color_evidence(frame), 0, 2)), score)
    known = background.seen > 0
    hot = fired(score, known)
    if before is not None:
        hot |= ~known & (before.objects | before.effects)
    hot = without_specks(hot, max(6, min_area // 6))
    objects = _objects(frame, background.mean, seen, allowed, hot, colors, min_area)
    if before is not None:
        objects |= ~known & before.objects
    effects = _effects(frame, background, seen, score, hot, objects, min_area)
    objects, alpha = _sharp(frame, background, objects | _enclosed(objects, effects), hot, min_area)
    effects &= ~objects
    own, model = outlines(frame, background.mean, objects)
    ghosts = ghost_parts(own, model, objects, effects)
    outline = int(own.sum()), int(model.sum())
    return Foreground(objects, effects, alpha, outline, ghosts, int((model & ghosts).sum()))


def _objects(frame: U8, mean: F32, seen: Change, allowed: F32, hot: Bool, colors: Colors | None, min_area: int) -> Bool:
    evidence = object_evidence(seen, allowed)
    if colors is not None:
        evidence = evidence + COLOR_WEIGHT * colors.color_evidence(frame)
        evidence += RATIO_WEIGHT * colors.ratio_evidence(frame, mean)
    inside = hot & (_along_edges(evidence, hot, frame) > 0)
    inside = np.asarray(cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0)
    inside = close_gaps(inside, 2) & grow(hot, 1)
    inside = without_specks(without_holes(inside, 40 * min_area), min_area)
    return inside | _silhouette(frame, mean, seen.difference, hot, inside)


def _along_edges(evidence: F32, hot: Bool, frame: U8) -> F32:
    """Mean of the evidence of hot pixels around, not across the frame's edges (guided filter, He 2010)."""
    weight = hot.astype(np.float32)
    radius = max(2, round(5 * frame.shape[1] / 512))
    total, count = (cv2.ximgproc.guidedFilter(frame, p, radius, 80.0) for p in (evidence * weight, weight))
    return np.asarray(total / np.maximum(count, 1e-3), np.float32)


def _silhouette(frame: U8, mean: F32, difference: F32, hot: Bool, objects: Bool) -> Bool:
    """Narrow rests of an object's silhouette that look like a shadow: blurred rims, pale sleeves before a pale wall.

    A shadow is broad or lies at the feet; what differs clearly, is narrow and hangs on an object above its feet is the
    object's. At the border of the silhouette a pixel must be half object (see `alpha_matte`).
    """
    found = np.zeros_like(objects)
    rest = hot & ~objects
    count, labels, stats, _ = cv2.connectedComponentsWithStats(objects.astype(np.uint8), connectivity=8)
    if count <= 1 or not rest.any():
        return found
    sure = shrink(hot, 2) | (alpha_matte(frame, mean, objects) > 0.5)
    for k in range(1, count):
        x, y, w, h = (int(v) for v in stats[k, :4])
        narrow, reach = max(2, round(NARROW * h)), max(3, round(2 * NARROW * h))
        bottom = y + round((1 - FEET) * h)
        box = (slice(max(0, y - reach), bottom), slice(max(0, x - reach), x + w + reach))
        near = rest[box]
        broad = grow(shrink(near, narrow), narrow + 1)
        found[box] |= near & ~broad & grow(labels[box] == k, reach) & (difference[box] > CLEAR)
    return touching(objects | (found & sure), objects)


def _enclosed(objects: Bool, effects: Bool) -> Bool:
    """Effects with object on most sides are parts of the object that look like a shadow."""
    if not objects.any():
        return objects
    around = cv2.blur(objects.astype(np.float32), (15, 15))
    return effects & (around > 0.62)


def _effects(
    frame: U8, background: Background, seen: Change, score: F32, hot: Bool, objects: Bool, min_area: int
) -> Bool:
    rest = hot & ~objects
    mean5 = cv2.blur(frame.astype(np.float32) - background.mean, (5, 5))
    faint = np.abs(mean5).max(2) > np.maximum(FAINT_EFFECT, 1.3 * background.deviation)
    faint &= background.seen > 0
    reach = max(2, round(NEAR * frame.shape[1] / 512))
    near = grow(objects | touching(rest, grow(objects, 3)), reach)
    strong = touching(rest, rest & (score > 2 * STRONG) & (seen.difference > FAINT))
    strong = without_specks(strong, 3 * min_area)
    joined = touching(rest | (faint & near & (score > 0.5 * WEAK)), grow(objects, 2) | strong)
    joined = np.asarray(cv2.morphologyEx(joined.astype(np.uint8), cv2.MORPH_CLOSE, disk(2)) > 0)
    return without_specks(joined & ~objects, max(4, min_area // 4))


def _sharp(frame: U8, background: Background, objects: Bool, hot: Bool, min_area: int) -> tuple[Bool, U8]:
    """Object masks cut where the pixel is half object, and the alpha of their edges."""
    if not objects.any():
        return objects, np.zeros(objects.shape, np.uint8)
    alpha = alpha_matte(frame, background.mean, objects & hot)
    cut = (alpha > 0.5) & grow(objects, 1)
    cut = without_specks(without_holes(cut, 20 * min_area), min_area)
    alpha[shrink(cut, BAND)] = 1.0
    alpha[~grow(cut, BAND)] = 0.0
    return cut, np.rint(alpha * 255).astype(np.uint8)
