"""Masks of one frame against a background: objects (who is there) and effects (their shadows and reflections)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from bglora.vision.appearance import FAINT, Change, Colors, change, hulls, object_evidence
from bglora.vision.arrays import (
    F32,
    U8,
    Bool,
    around,
    close_gaps,
    disk,
    grow,
    largest_channel,
    shrink,
    touching,
    without_holes,
    without_specks,
)
from bglora.vision.background import Background
from bglora.vision.difference import STRONG, WEAK, difference, fired
from bglora.vision.edges import BAND, LIGHT, SHUTTER_LIGHT, alpha_matte
from bglora.vision.ghosts import ghost_parts, outlines

FAINT_EFFECT = 4.2
"""Grey levels of a 5 x 5 mean from which a difference beside an object is its effect."""
COLOR_WEIGHT, LOOK_WEIGHT = 0.4, 0.6
"""How much the colors learned from the shot count beside the rule for single pixels."""
LIGHTER, LIGHTER_WEIGHT = 1.03, 1.5
"""Shade doesn't brighten: what does by more than this ratio may be a reflection, but is somebody more often."""
ENCLOSED, OPEN = 0.4, -1.0
"""Evidence of lying within the hull of an object, and beyond it: parts of somebody lie between other parts."""
NARROW, FEET = 0.06, 0.25
"""Shares of an object's height: what is narrower than twice the first is no shadow, except in the lowest part."""
CLEAR = 25.0
"""Grey levels from which a difference belongs to a silhouette."""
CORE, UNLIKELY = 0.5, -1.0
"""Share of the largest difference nearby from which a part's width counts: a limb falls off at its rim, soft shade does
not; evidence from which such a part may be an object's."""
HALF = 0.45
"""Alpha from which a pixel is the object's: a little less than half, for thin parts nowhere show their own color."""
HOLE = 20
"""Smallest objects that a hole between objects and effects has room for, at most, to be removed as well."""
BESIDE = 1.3
"""Beside an object a difference counts this much more."""
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
    ghosts: Bool
    outline: tuple[int, int] = (0, 0)
    ghost_outline: int = 0

    def within(self, box: tuple[slice, slice], shape: tuple[int, ...]) -> Foreground:
        """These masks of a box of the frame as masks of the whole frame of that shape."""

        def spread_out(part: np.ndarray) -> np.ndarray:
            whole = np.zeros(shape, part.dtype)
            whole[box] = part
            return whole

        objects, effects, alpha, ghosts = map(spread_out, (self.objects, self.effects, self.alpha, self.ghosts))
        return replace(self, objects=objects, effects=effects, alpha=alpha, ghosts=ghosts)

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

    def without_leaning(self, part: Bool) -> Foreground:
        """These masks without a part of the objects, bool (H, W), and without the effects beside it."""
        if not part.any():
            return self
        objects = self.objects & ~grow(part, 2)
        effects = self.effects & ~grow(part, max(2, round(NEAR * part.shape[1] / 512)))
        return replace(self, objects=objects, effects=effects, alpha=np.where(objects, self.alpha, np.uint8(0)))


def foreground(
    frame: U8,
    background: Background,
    *,
    allowed: F32,
    min_area: int,
    colors: Colors | None = None,
    shimmer: F32 | None = None,
    before: Foreground | None = None,
    blurred: bool = False,
    exact: bool = True,
) -> Foreground:
    """Finds who and what a frame shows that the background doesn't.

    Args:
        frame: at the background's exposure and in its coordinates.
        allowed: `noise` of the background, grey levels.
        min_area: smaller objects are noise, in pixels.
        colors: what the shot's objects look like, if learned already.
        shimmer: distance (grey levels) to other moments where the background moves by itself; -1 elsewhere. Replaces
            the plain difference there when smaller.
        before: earlier masks, which stay where the background is not known.
        blurred: whether what moves is blurred by its motion.
        exact: whether the background lies exactly where the frame shows it; where parallax moves it, what is narrow and
            differs beside an object may be a post that was put in the wrong place.
    """
    unit = frame.shape[1] / 512
    score = difference(frame, background)
    if shimmer is not None:
        score = np.where(shimmer >= 0, np.minimum(score, shimmer), score)
    score = score / allowed
    if before is not None and colors is not None and before.objects.any():
        # Beside an object less difference is needed, least in its colors: brown hair before a brown shelf.
        reach = max(3, round(NEAR * unit))
        box = around(before.objects, reach + 1)
        likely = BESIDE + 0.35 * np.clip(colors.color_evidence(frame[box]), 0, 2)
        score[box] = np.where(grow(before.objects[box], reach), score[box] * likely, score[box])
    hidden = background.seen == 0
    hot = fired(score, ~hidden)
    stays = np.zeros_like(hot)
    if before is not None:
        hot |= hidden & (before.objects | before.effects)
        stays = hidden & before.objects
    hot = without_specks(hot, max(6, min_area // 6))
    if not hot.any():
        nothing = np.zeros_like(hot)
        return Foreground(nothing, nothing, nothing.astype(np.uint8), nothing)
    box = around(hot, round(3 * NEAR * unit) + 4)
    hull = None if before is None else hulls(before.objects, before.effects)[box]
    part = _Part(
        frame[box], background.inside(box), allowed[box], score[box], hot[box], unit, min_area, hull, blurred, exact
    )
    return part.masks(stays[box], colors).within(box, hot.shape)


@dataclass(frozen=True)
class _Part:
    """The part of a frame in which something differs from the background.

    `unit` is 1 px at a picture width of 512; `hull` where objects were found before, and what lies between them.
    """

    frame: U8
    background: Background
    allowed: F32
    score: F32
    hot: Bool
    unit: float
    min_area: int
    hull: Bool | None
    blurred: bool
    exact: bool

    def masks(self, stays: Bool, colors: Colors | None) -> Foreground:
        """Parts what is hot into objects and effects; `stays` is object in any case."""
        seen = change(self.frame, self.background.mean)
        objects = self._objects(seen, colors) | stays
        effects = self._effects(seen, objects)
        objects, alpha = self._sharp(objects | _enclosed(objects, effects))
        effects = (effects | self._gaps(objects, effects)) & ~objects
        own, model = outlines(self.frame, self.background.mean, objects)
        ghosts = ghost_parts(own, model, objects, effects)
        outline = int(own.sum()), int(model.sum())
        return Foreground(objects, effects, alpha, ghosts, outline, int((model & ghosts).sum()))

    def _objects(self, seen: Change, colors: Colors | None) -> Bool:
        evidence = object_evidence(seen, self.allowed)
        if colors is not None:
            evidence = evidence + COLOR_WEIGHT * colors.color_evidence(self.frame)
            evidence += LOOK_WEIGHT * colors.look_evidence(self.frame, self.background.mean)
            evidence += LIGHTER_WEIGHT * (seen.ratio > LIGHTER)
            if self.hull is not None:
                evidence += np.where(self.hull, np.float32(ENCLOSED), np.float32(OPEN))
        evidence = self._along_edges(evidence)
        inside = self.hot & (evidence > 0)
        inside = np.asarray(cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0)
        inside = close_gaps(inside, 2) & grow(self.hot, 1)
        inside = without_specks(without_holes(inside, 40 * self.min_area), self.min_area)
        return inside | self._silhouette(seen.difference, inside, evidence)

    def _along_edges(self, evidence: F32) -> F32:
        """Mean of the evidence of hot pixels around, not across the frame's edges (guided filter, He 2010)."""
        weight = self.hot.astype(np.float32)
        radius = max(2, round(5 * self.unit))
        guide = np.ascontiguousarray(self.frame)
        total, count = (cv2.ximgproc.guidedFilter(guide, p, radius, 80.0) for p in (evidence * weight, weight))
        return np.asarray(total / np.maximum(count, 1e-3), np.float32)

    def _silhouette(self, difference: F32, objects: Bool, evidence: F32) -> Bool:
        """Narrow rests of a silhouette that look like a shadow: blurred rims, pale sleeves before a pale wall.

        A shadow is broad or lies at the feet; what differs clearly, is narrow and hangs on an object above its feet is
        the object's. So is what is narrow where it differs at least half as much as at its clearest: a tail before a
        pale wall, say, though the wall around it differs faintly, too. At the border of the silhouette a pixel must be
        half object (see `alpha_matte`).
        """
        found = np.zeros_like(objects)
        rest = self.hot & ~objects
        count, labels, stats, _ = cv2.connectedComponentsWithStats(objects.astype(np.uint8), connectivity=8)
        if count <= 1 or not rest.any():
            return found
        sure = shrink(self.hot, 2) | (alpha_matte(self.frame, self.background.mean, objects, shaded=False) > HALF)
        for k in range(1, count):
            x, y, w, h = (int(v) for v in stats[k, :4])
            narrow, reach = max(2, round(NARROW * h)), max(3, round(2 * NARROW * h))
            bottom = y + round((1 - FEET) * h)
            box = (slice(max(0, y - reach), bottom), slice(max(0, x - reach), x + w + reach))
            part = np.where(rest[box], difference[box], np.float32(0))
            core = (part > CORE * cv2.dilate(part, disk(narrow))) & (evidence[box] > UNLIKELY) & self.exact
            clear = grow(labels[box] == k, reach) & (part > CLEAR)
            for near in (rest[box], core):
                found[box] |= near & ~grow(shrink(near, narrow), narrow + 1) & clear
        return touching(objects | (found & sure), objects)

    def _effects(self, seen: Change, objects: Bool) -> Bool:
        rest = self.hot & ~objects
        away = cv2.blur(cv2.subtract(self.frame, self.background.mean, dtype=cv2.CV_32F), (5, 5))
        faint = largest_channel(np.abs(away)) > np.maximum(FAINT_EFFECT, 1.3 * self.background.deviation)
        faint &= self.background.seen > 0
        near = grow(objects | touching(rest, grow(objects, 3)), max(2, round(NEAR * self.unit)))
        strong = touching(rest, rest & (self.score > 2 * STRONG) & (seen.difference > FAINT))
        strong = without_specks(strong, 3 * self.min_area)
        joined = touching(rest | (faint & near & (self.score > 0.5 * WEAK)), grow(objects, 2) | strong)
        joined = np.asarray(cv2.morphologyEx(joined.astype(np.uint8), cv2.MORPH_CLOSE, disk(2)) > 0)
        return without_specks(joined & ~objects, max(4, self.min_area // 4))

    def _gaps(self, objects: Bool, effects: Bool) -> Bool:
        """Holes in the masks beside objects: there somebody has the background's own color."""
        if self.hull is None:
            return np.zeros_like(objects)
        masks = objects | effects
        holes = without_holes(masks, HOLE * self.min_area) & ~masks
        return touching(holes, holes & grow(objects, 3))

    def _sharp(self, objects: Bool) -> tuple[Bool, U8]:
        """Object masks cut where the pixel is half object, and the alpha of their edges."""
        if not objects.any():
            return objects, np.zeros(objects.shape, np.uint8)
        shaded = self.hull is not None  # before, a part may be where the background shows somebody, not the frame
        light = SHUTTER_LIGHT if self.blurred else LIGHT
        alpha = alpha_matte(self.frame, self.background.mean, objects & self.hot, BAND, shaded, light)
        cut = (alpha > HALF) & grow(objects, 1)
        cut = without_specks(without_holes(cut, 20 * self.min_area), self.min_area)
        alpha[shrink(cut, BAND)] = 1.0
        alpha[~grow(cut, BAND)] = 0.0
        return cut, np.rint(alpha * 255).astype(np.uint8)


def _enclosed(objects: Bool, effects: Bool) -> Bool:
    """Effects with object on most sides are parts of the object that look like a shadow."""
    if not objects.any():
        return objects
    share = cv2.blur(objects.astype(np.float32), (15, 15))
    return effects & (share > 0.62)
