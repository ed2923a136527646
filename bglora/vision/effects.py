"""Shadows and reflections of characters whose masks are given: what else changes near them when they come and go.

The background is known from the frames in which they stand elsewhere. Beside them a difference to it is their doing: by
what touches them, by what does to the background what a shadow does (see `appearance`), and by faint shade (see
`shade`). What moves far from everybody is not theirs and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.appearance import change, object_evidence
from bglora.vision.arrays import F32, U8, Bool, disk, grow, touching, within_heights, without_specks
from bglora.vision.background import Background, farthest, first_background, masked_background, spread
from bglora.vision.camera import Camera
from bglora.vision.difference import MOMENTS, SHIMMER, fired, moving_distance, noise
from bglora.vision.motion import MotionModel, Stack, warp_mask
from bglora.vision.shade import shade, smoothed, smoothed_noise

PASSES = 2
FEWEST = 4
"""Frames below which the background without the effects can't be told."""
TOUCH = 3
"""Pixels at a picture width of 512 within which a difference touches a character; masks may be that much too small."""
REACH = 1.5
"""How far from a character its effects lie, in units of its height."""


def effects_of(
    frames: Sequence[U8], objects: Sequence[Bool], camera: Camera, gains: NDArray[np.float64], min_area: int
) -> list[Bool]:
    """Effects of given characters, bool (H, W) per frame, disjoint from `objects`; empty where they can't be told.

    They can't be told with fewer than four frames, and where the background is no homography (parallax, unknown).

    Args:
        frames: uint8 (H, W, 3) of one shot. objects: bool (H, W), characters of each frame.
        camera, gains: pose and exposure of the frames. min_area: smallest character in pixels.
    """
    nothing = [np.zeros_like(mask) for mask in objects]
    if len(frames) < FEWEST or camera.kind not in ("still", "pan") or not any(mask.any() for mask in objects):
        return nothing
    model = MotionModel(frames, camera, gains, min_area)
    found = nothing
    seen: _Seen | None = None
    for _ in range(PASSES):
        before, found = found, []
        for k, solid in enumerate(objects):
            if seen is None or not model.still or k == 0:
                seen = _look(model, k, objects, before)
            found.append(_beside(model, k, seen, solid) if solid.any() else np.zeros_like(solid))
    return found


@dataclass(frozen=True)
class _Seen:
    """What frame `k` is held against: the stack, where it is free, the background, noise of smoothed differences."""

    stack: Stack
    free: list[Bool]
    background: Background
    soft: F32


def _look(model: MotionModel, target: int, objects: Sequence[Bool], effects: Sequence[Bool]) -> _Seen:
    stack = model.stack(target)
    solid = [objects[k] for k in stack.indices]
    if not model.still:
        solid = [
            mask if k == target else warp_mask(mask, model.camera.between(k, target))
            for mask, k in zip(solid, stack.indices, strict=True)
        ]
    free = model.free(stack, target, [o | e for o, e in zip(objects, effects, strict=True)])
    away = farthest(solid, free)
    if any(effect.any() for effect in effects):
        background = masked_background(stack.pictures, away)
    else:
        background = first_background(stack.pictures, free)
    pairs = zip(stack.pictures, free, strict=True)
    differences = [smoothed(picture, background.mean, ~unmasked) for picture, unmasked in pairs]
    return _Seen(stack, free, background, smoothed_noise(differences, away, model.still))


def _beside(model: MotionModel, k: int, seen: _Seen, solid: Bool) -> Bool:
    frame, background = model.level[k], seen.background
    allowed = noise(background, model.tolerance)
    altered = change(frame, background.mean)
    difference = altered.difference
    restless = background.deviation > SHIMMER
    near = within_heights(solid, REACH)
    if (restless & near).mean() > 0.002:
        chosen = [j for j in spread(len(seen.stack.indices), MOMENTS) if seen.stack.indices[j] != k]
        pictures, free = [seen.stack.pictures[j] for j in chosen], [seen.free[j] for j in chosen]
        moment = moving_distance(frame, pictures, free, restless & near)
        difference = np.where(restless, np.minimum(difference, moment), difference)
    hot = fired(np.asarray(difference / allowed, np.float32), background.seen > 0) & near & ~solid
    unit = frame.shape[1] / 512
    beside = touching(hot, grow(solid, max(2, round(TOUCH * unit))))
    shadow = hot & (object_evidence(altered, allowed) <= 0)
    strong = touching(hot, beside | without_specks(shadow, 3 * model.min_area))  # the core of a shadow may be black
    strong = np.asarray(cv2.morphologyEx(strong.astype(np.uint8), cv2.MORPH_CLOSE, disk(2)) > 0) & ~solid
    strong = without_specks(strong, max(4, model.min_area // 4))
    return shade(smoothed(frame, background.mean, solid), seen.soft, solid, strong, model.limits) & ~solid
