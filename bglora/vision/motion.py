"""Motion masks of a shot: who moves in front of a background that the other frames show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.appearance import ColorLearner, Colors
from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.background import Background, farthest, first_background, masked_background, spread
from bglora.vision.camera import Camera
from bglora.vision.difference import MOMENTS, SHIMMER, STRONG, difference, moving_distance, noise
from bglora.vision.edges import ramps
from bglora.vision.exposure import leveled
from bglora.vision.foreground import Foreground, foreground
from bglora.vision.ghosts import standing_still
from bglora.vision.idle import AREA, restless_areas
from bglora.vision.inplace import beside_in_place, outlines_in_place
from bglora.vision.leaning import RESTLESS, leaning_parts
from bglora.vision.rigid import StandingParts
from bglora.vision.shade import LIMITS, shade, smoothed, smoothed_noise
from bglora.vision.sway import swaying_parts

STILL_TOLERANCE, MOVING_TOLERANCE = 0.05, 0.15
"""Error of the alignment in pixels."""
SOURCES = 14
"""Frames that a moving camera's background is made of, per frame."""
PASSES = 3
FEWEST_OUTLINE = 100
"""Pixels of outline in a shot from which ghosts are told."""
RIM = 6
"""Pixels around a character who stays in place within which what was seen before is his."""
MISSED = 0.1
"""Share of his area that moves beyond the outlines of somebody who stays in place, from which they aren't believed."""
BLURRED, ASKED = 0.4, 8
"""Share of broad ramps at objects' edges from which a shot is taken with motion blur, and frames that are asked."""
OFTEN = 0.34
"""Share of a shot's frames in which somebody who stays in place is at a pixel from which it is never background: the
few samples without him are his own edges."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Stack:
    """Other frames in one frame's coordinates and the reference's exposure: pictures, validity, frame indices."""

    pictures: list[U8]
    valid: list[Bool | None]
    indices: list[int]

    def only(self, places: Sequence[int]) -> Stack:
        """The pictures at some places of the stack."""
        return Stack(
            [self.pictures[k] for k in places], [self.valid[k] for k in places], [self.indices[k] for k in places]
        )


def overlapping(camera: Camera, target: int, shape: tuple[int, int], limit: int = SOURCES) -> list[int]:
    """Frames that show at least 30 % of frame `target`'s view, evenly spread, the frame itself included."""
    height, width = shape
    xs, ys = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 7))
    points = np.stack([xs.ravel(), ys.ravel()], 1)[None]
    good = []
    for k in range(len(camera.to_reference)):
        moved = cv2.perspectiveTransform(points, camera.between(target, k))[0]
        inside = (moved[:, 0] > 0) & (moved[:, 0] < width) & (moved[:, 1] > 0) & (moved[:, 1] < height)
        if inside.mean() >= 0.3:
            good.append(k)
    chosen = [good[k] for k in spread(len(good), limit)]
    return sorted({*chosen, target})


def warp(picture: U8, pose: NDArray[np.float64]) -> tuple[U8, Bool]:
    """The picture seen through a homography (its pixels to the target's), and where it is valid (off its border)."""
    height, width = picture.shape[:2]
    moved = cv2.warpPerspective(picture, pose, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inner = np.zeros((height, width), np.uint8)
    inner[2:-2, 2:-2] = 1
    valid = cv2.warpPerspective(inner, pose, (width, height), flags=cv2.INTER_NEAREST) > 0
    return np.asarray(moved, np.uint8), np.asarray(valid)


def warp_mask(mask: Bool, pose: NDArray[np.float64]) -> Bool:
    """A mask seen through a homography; any part of a masked pixel masks."""
    height, width = mask.shape
    soft = cv2.warpPerspective(mask.astype(np.uint8) * 255, pose, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(soft > 8)


def _misfit(found: Sequence[Foreground]) -> float:
    """Share (0 to 1) of all outlines that follow the background model's edges instead of the frame's."""
    real, model = (sum(f.outline[side] for f in found) for side in (0, 1))
    return model / (real + model) if real + model >= FEWEST_OUTLINE else 0.0


def _ghosts(found: Sequence[Foreground]) -> float:
    """Share (0 to 1) of all outlines that belong to ghosts: there the background model shows somebody."""
    total = sum(sum(f.outline) for f in found)
    return sum(f.ghost_outline for f in found) / total if total >= FEWEST_OUTLINE else 0.0


def _with_figure(before: Foreground, area: Bool, cut: Bool, beside: Bool) -> Foreground:
    """Masks with a figure `cut` in place of the scraps in its area, and what goes beside it."""
    near = grow(cut | area, RIM)
    objects = (before.objects & ~near) | cut
    alpha = np.where(near, np.where(cut, np.uint8(255), np.uint8(0)), before.alpha)
    return replace(before, objects=objects, effects=((before.effects & ~near) | beside) & ~objects, alpha=alpha)


class MotionModel:
    """The frames of a shot with camera and exposure, and the passes that turn them into masks.

    Attributes:
        ghosts: after `masks`, the share of all outlines in parts that follow the background model's edges as a whole.
            Where it is high the model shows somebody who stays where he is: neither masks nor background are right.
        misfit: the share of all outlines that follow the model's edges, one by one, whatever part they belong to.
        doubtful: share of the picture in which somebody may stay in place and move a little, or the place itself may.
    """

    def __init__(self, frames: Sequence[U8], camera: Camera, gains: NDArray[np.float64], min_area: int) -> None:
        self.camera = camera
        self.ghosts = 0.0
        self.misfit = 0.0
        self.doubtful = 0.0
        self._standing = [np.zeros(frame.shape[:2], bool) for frame in frames]
        self._standing_parts: StandingParts | None = None
        self._swaying = [np.zeros(frame.shape[:2], bool) for frame in frames]
        self.level = [leveled(frame, gain) for frame, gain in zip(frames, gains, strict=True)]
        self.min_area = min_area
        self.still = camera.kind == "still"
        self.limits = LIMITS[camera.kind]
        self.tolerance = STILL_TOLERANCE if self.still else MOVING_TOLERANCE
        self.shape = frames[0].shape[:2]

    def stack(self, target: int) -> Stack:
        """The frames that `target` is compared with, in its coordinates."""
        if self.still:
            return Stack(self.level, [None] * len(self.level), list(range(len(self.level))))
        indices = overlapping(self.camera, target, self.shape)
        warped = [
            (self.level[k], None) if k == target else warp(self.level[k], self.camera.between(k, target))
            for k in indices
        ]
        return Stack([w[0] for w in warped], [w[1] for w in warped], indices)

    def free(self, stack: Stack, target: int, masks: Sequence[Bool]) -> list[Bool]:
        """Per picture of the stack where it is valid and outside the masks grown by 2 px."""
        out = []
        for valid, k in zip(stack.valid, stack.indices, strict=True):
            mask = grow(masks[k], 2)
            if not self.still and k != target:
                mask = warp_mask(mask, self.camera.between(k, target))
            out.append(~mask if valid is None else valid & ~mask)
        return out

    def masks(self, progress: Progress) -> list[Foreground]:
        """Runs the passes; one `Foreground` per frame."""
        count = len(self.level)
        found: list[Foreground] = []
        colors: Colors | None = None
        shared: Background | None = None
        soft: F32 | None = None
        asked, broad, edges = spread(count, ASKED), 0, 0
        for turn in range(PASSES):
            before, found, learner = found, [], ColorLearner()
            removed = [f.objects | f.effects for f in before]
            for k in range(count):
                stack = self.stack(k)
                if shared is None or not self.still or k == 0:
                    shared, soft = self._background(stack, k, before, faint=turn == PASSES - 1)
                    allowed = noise(shared, self.tolerance)
                shimmer = self._shimmer(k, stack, shared, allowed, removed) if turn > 0 else None
                one = foreground(
                    self.level[k],
                    shared,
                    allowed=allowed,
                    min_area=self.min_area,
                    colors=colors,
                    shimmer=shimmer,
                    before=before[k] if before else None,
                    blurred=turn == PASSES - 1 and edges >= FEWEST_OUTLINE and broad > BLURRED * edges,
                    exact=self.camera.kind != "parallax",
                )
                if turn == PASSES - 2 and k in asked:
                    more, all_ = ramps(self.level[k], shared.mean, one.objects)
                    broad, edges = broad + more, edges + all_
                if soft is not None:
                    away = smoothed(self.level[k], shared.mean, one.objects)
                    one = replace(one, effects=shade(away, soft, one.objects, one.effects, self.limits))
                learner.add(self.level[k], shared.mean, one.objects, one.effects)
                found.append(one)
                progress((turn * count + k + 1) / (PASSES * count))
            if self.camera.kind == "parallax":
                found = self._without_standing(found)
            if self.still:
                found = self._without_leaning(self._without_swaying(found), shared)
            if turn < PASSES - 1 and self.still:
                found = self._exchanged(found)
            colors = learner.colors()
        self.ghosts = _ghosts(found)
        self.misfit = _misfit(found)
        return self._with_idle(found)

    def _without_standing(self, found: list[Foreground]) -> list[Foreground]:
        """The masks without near things that stand still in the world, as any pass tells."""
        if self._standing_parts is None:
            self._standing_parts = StandingParts(self.level, self.camera)
        parts = self._standing_parts.find([f.objects for f in found], [f.objects | f.effects for f in found])
        self._standing = [known | grow(part, 6) for known, part in zip(self._standing, parts, strict=True)]
        return [f.without_parts(part) for f, part in zip(found, self._standing, strict=True)]

    def _without_swaying(self, found: list[Foreground]) -> list[Foreground]:
        """The masks without what comes back to its place again and again."""
        parts = swaying_parts([f.objects | f.effects for f in found])
        self._swaying = [known | part for known, part in zip(self._swaying, parts, strict=True)]
        return [f.without_parts(part) for f, part in zip(found, parts, strict=True)]

    def _without_leaning(self, found: list[Foreground], background: Background | None) -> list[Foreground]:
        """The masks without what of the place, if it moves by itself, leans in over the picture's border."""
        if background is None or float((background.deviation > SHIMMER).mean()) < RESTLESS:
            return found
        parts = leaning_parts(self.level, [f.objects for f in found])
        self._swaying = [known | part for known, part in zip(self._swaying, parts, strict=True)]
        return [f.without_leaning(part) for f, part in zip(found, parts, strict=True)]

    def _exchanged(self, found: list[Foreground]) -> list[Foreground]:
        """The masks with ghosts and those who stood there exchanged."""
        ghosts = [f.ghosts for f in found]
        place = standing_still(ghosts, self._carried, self.camera.reference)
        if place is None:
            return found
        out = []
        for k, (one, ghost) in enumerate(zip(found, ghosts, strict=True)):
            here = self._carried(place, self.camera.reference, k) & ~ghost
            out.append(replace(one, objects=(one.objects & ~ghost) | here, effects=one.effects & ~ghost & ~here))
        return out

    def _with_idle(self, found: list[Foreground]) -> list[Foreground]:
        """The masks with characters who stay in place; what the passes saw of them are scraps and is replaced."""
        masks = [f.objects | f.effects | swaying for f, swaying in zip(found, self._swaying, strict=True)]
        areas = restless_areas(self.level, masks, self.camera)
        if self.camera.kind == "parallax":  # near things have no place there: all that moves would be in doubt
            areas = [area for area in areas if area.share <= AREA[1]]
        self.doubtful = sum(area.share for area in areas if area.is_doubtful)
        for area in (area for area in areas if area.is_character):
            reference, frames = self.camera.reference, self.level
            if not self.still:
                frames = [warp(frame, self.camera.between(k, reference))[0] for k, frame in enumerate(self.level)]
            cuts = outlines_in_place(frames, area.moving)
            beside = beside_in_place(frames, cuts, np.asarray(np.mean(cuts, axis=0) >= OFTEN), area.moving)
            missed = np.all(beside, axis=0) & ~grow(np.any(cuts, axis=0), RIM)
            if missed.sum() > MISSED * area.area.sum():
                self.doubtful += area.share
            for k, parts in enumerate(zip(cuts, beside, strict=True)):
                cut, more, here = (self._carried(part, reference, k) for part in (*parts, area.area))
                if here.any():
                    found[k] = _with_figure(found[k], here, cut, more)
        return found

    def _carried(self, mask: Bool, source: int, target: int) -> Bool:
        if self.still or source == target:
            return mask
        return warp_mask(mask, self.camera.between(source, target))

    def _background(
        self, stack: Stack, target: int, before: Sequence[Foreground], faint: bool
    ) -> tuple[Background, F32 | None]:
        """The background seen from frame `target`, and for faint effects the noise of smoothed differences to it."""
        if not before:
            return first_background(stack.pictures, stack.valid), None
        objects = [before[k].objects for k in stack.indices]
        if not self.still:
            objects = [
                solid if k == target else warp_mask(solid, self.camera.between(k, target))
                for solid, k in zip(objects, stack.indices, strict=True)
            ]
        free = self.free(stack, target, [f.objects | f.effects for f in before])
        away = farthest(objects, free)
        background = masked_background(stack.pictures, away)
        if not faint:
            return background, None
        pairs = zip(stack.pictures, free, strict=True)
        differences = [smoothed(picture, background.mean, ~unmasked) for picture, unmasked in pairs]
        return background, smoothed_noise(differences, away, self.still)

    def _shimmer(
        self, target: int, stack: Stack, background: Background, allowed: F32, masks: Sequence[Bool]
    ) -> F32 | None:
        """Distance to other moments where the background moves by itself and a plain difference fired; -1 elsewhere."""
        restless = background.deviation > SHIMMER
        if restless.mean() < 0.002:
            return None
        where = restless & (difference(self.level[target], background) > STRONG * 0.4 * allowed)
        chosen = [k for k in spread(len(stack.indices), MOMENTS) if stack.indices[k] != target]
        moments = stack.only(chosen)
        away = moving_distance(self.level[target], moments.pictures, self.free(moments, target, masks), where)
        return np.asarray(np.where(where, away, -1.0), np.float32)
