"""Outlines of a character who stays in place: what moves bounds the outline, colors shared by the frames find it.

Beside the outlines goes whatever can't be called background: it differs from what the frames show in which somebody is
farthest away, it isn't the same in all frames that show it, or it lies at his feet, where his shade never leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import (
    U8,
    Bool,
    around,
    close_gaps,
    enclosed,
    gray,
    grow,
    largest_channel,
    shrink,
    touching,
    without_holes,
    without_specks,
)
from bglora.vision.background import Background, masked_background, spread

BRIDGED = 5
"""Pixels at a picture width of 512 over which an outline that doesn't show is bridged."""
UNSEEN = 3
"""Pixels at a picture width of 512 by which somebody who looks like what is behind him may reach beyond what moves."""
LEARNED = 4
"""Frames from which the colors of a character and of his surroundings are learned."""
ROUNDS = 3
HOLE = 0.02
"""Share of an outline that a gap in it has at most to be part of somebody: eyes, buttons."""
CLEAR, FAR_SHARE = 3, 0.2
"""Pixels outside an outline from which a frame shows what is behind, and the share of the frames that count for it."""
STRONG, WEAK = (14.0, 4.0), (8.0, 2.0)
"""Grey levels, and deviations, from which a difference begins and down to which it reaches."""
LOUD = 12.0
"""Deviation that counts at most: what is seen behind somebody holds parts of him at first."""
NEAR = 8
"""Pixels at a picture width of 512 around an outline within which a difference belongs to somebody."""
AGREE, FEWEST = 5.0, 3
"""Deviation (grey levels) of a background that is the same in all frames, and how many must show it."""
FEET = 0.8
"""Share of a height below which the ground is in somebody's own shade."""
LARGEST = 160_000
"""Pixels of the box around a character that are cut at most; larger ones are made smaller and refined."""


def outlines_in_place(frames: Sequence[U8], moving: Bool) -> list[Bool]:
    """The outline of a character who moves a little in front of a background that doesn't, bool (H, W) per frame.

    GrabCut (Rother 2004) with colors that the frames share, within the bounds that the motion sets: outside of what
    ever moves there is nobody, and further inside than the sway nothing else.

    Args:
        frames: uint8 (H, W, 3) in the same coordinates. moving: bool (H, W), where something moves in the shot.
    """
    unit = frames[0].shape[1] / 512
    body = enclosed(close_gaps(moving, max(2, round(BRIDGED * unit))))
    reach = sway(frames, body)
    loose = max(2, round(UNSEEN * unit))
    box = around(body, loose + reach + round(24 * unit))
    body, parts = body[box], [frame[box] for frame in frames]
    trimap = np.full(body.shape, cv2.GC_BGD, np.uint8)
    trimap[grow(body, loose)] = cv2.GC_PR_BGD
    trimap[body] = cv2.GC_PR_FGD
    trimap[shrink(body, reach + loose)] = cv2.GC_FGD
    scale = min(1.0, (LARGEST / body.size) ** 0.5)
    size = (max(8, round(body.shape[1] * scale)), max(8, round(body.shape[0] * scale)))
    small = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts]
    bounds = cv2.resize(trimap, size, interpolation=cv2.INTER_NEAREST)
    cuts = _cut(small, bounds)
    out = []
    for cut in cuts:
        full = cv2.resize(cut.astype(np.float32), body.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        whole = np.zeros(frames[0].shape[:2], bool)
        whole[box] = full
        out.append(whole)
    return out


def sway(frames: Sequence[U8], body: Bool) -> int:
    """How far a character moves from the middle of the shot, in pixels (DIS flow, Kroeger 2016)."""
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    middle = gray(frames[len(frames) // 2]).astype(np.uint8)
    steep = cv2.morphologyEx(middle, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 24
    where = body & steep if (body & steep).any() else body
    far = [0.0]
    for k in spread(len(frames), 7):
        flow = flow_of.calc(middle, gray(frames[k]).astype(np.uint8), None)
        far.append(float(np.percentile(np.hypot(flow[..., 0], flow[..., 1])[where], 90)))
    return int(np.ceil(min(max(far), 0.08 * frames[0].shape[1])))


def _cut(frames: Sequence[U8], bounds: U8) -> list[Bool]:
    """Who is there in each frame, within the same bounds."""
    cv2.setRNGSeed(7)
    models: tuple[NDArray[np.float64], NDArray[np.float64]] = np.zeros((1, 65)), np.zeros((1, 65))
    learned = spread(len(frames), LEARNED)
    tall, trimap = np.vstack([frames[k] for k in learned]), np.vstack([bounds] * len(learned))
    cv2.grabCut(tall, trimap, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    cuts = []
    for frame in frames:
        trimap = bounds.copy()
        cv2.grabCut(frame, trimap, None, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
        cut = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))
        cuts.append(without_specks(without_holes(cut, int(HOLE * cut.sum())), max(1, int(0.05 * cut.sum()))))
    return cuts


def beside_in_place(frames: Sequence[U8], cuts: Sequence[Bool], often: Bool) -> list[Bool]:
    """What goes beside the outlines of `outlines_in_place`, bool (H, W) per frame, in the same coordinates.

    Args:
        frames: uint8 (H, W, 3). cuts: the outlines. often: bool (H, W), where they are in many frames.
    """
    union = np.any(cuts, axis=0)
    if not union.any():
        return [np.zeros_like(union) for _ in cuts]
    unit = frames[0].shape[1] / 512
    near = max(3, round(NEAR * unit))
    box = around(union, 2 * near)
    parts, inside = [frame[box] for frame in frames], [cut[box] for cut in cuts]
    behind = _seen_from_afar(parts, inside)
    going = [
        often[box] | cut | grow(_changed(part, behind, cut, near), 1) for part, cut in zip(parts, inside, strict=True)
    ]
    always = grow(without_specks(_disagreeing(parts, going) & grow(np.any(going, axis=0), 4), 4), 1)
    always |= _feet(np.any(going, axis=0))
    out = []
    for part, cut in zip(going, cuts, strict=True):
        whole = np.zeros_like(cut)
        whole[box] = part | always
        out.append(whole & ~cut)
    return out


def _seen_from_afar(frames: Sequence[U8], cuts: Sequence[Bool]) -> Background:
    """What is behind somebody, from the frames in which he is farthest from each pixel."""
    away = np.stack([cv2.distanceTransform((~cut).astype(np.uint8), cv2.DIST_L2, 3) for cut in cuts])
    least = np.sort(away, axis=0)[len(cuts) - max(2, round(FAR_SHARE * len(cuts)))]
    return masked_background(frames, [far >= np.maximum(least, CLEAR) for far in away])


def _changed(frame: U8, behind: Background, cut: Bool, near: int) -> Bool:
    """The outline with all beside it that differs from what is behind."""
    soft = cv2.blur(frame.astype(np.float32), (3, 3)) - cv2.blur(behind.mean, (3, 3))
    away, noise = largest_channel(np.abs(soft)), np.minimum(behind.deviation, LOUD)
    known = (behind.seen > 0) & grow(cut, near)
    strong, weak = (known & (away > np.maximum(level, times * noise)) for level, times in (STRONG, WEAK))
    return cut | close_gaps(touching(weak | cut, strong | cut), 1)


def _disagreeing(frames: Sequence[U8], going: Sequence[Bool]) -> Bool:
    """Where the frames that show what is behind are few or show different things."""
    free = [~grow(part, 1) for part in going]
    behind = masked_background([np.asarray(cv2.blur(frame, (3, 3)), np.uint8) for frame in frames], free)
    square = np.zeros(behind.mean.shape, np.float32)
    for frame, unmasked in zip(frames, free, strict=True):
        cv2.accumulateSquare(cv2.blur(frame, (3, 3)), square, mask=unmasked.astype(np.uint8))
    count = np.maximum(behind.seen, 1).astype(np.float32)[..., None]
    deviation = np.sqrt(largest_channel(np.maximum(square / count - behind.mean**2, 0)))
    return np.asarray((deviation > AGREE) | ((behind.seen < FEWEST) & (behind.seen > 0)))


def _feet(body: Bool) -> Bool:
    """The lowest part of a body."""
    rows = np.nonzero(body.any(axis=1))[0]
    out = body.copy()
    out[: round(rows[0] + FEET * (rows[-1] - rows[0]))] = False
    return out
