"""Shade that never leaves: beside somebody who stays in place every frame that shows a pixel may show his shade, too.

Agreement can't tell, since all frames agree on the shade. Two things do. Light comes from above, so shade lies beside
the lower half of whoever casts it, and at his feet always. And shade ends: where it lies the same surface is brighter
farther away from him, whatever its color, along a whole stretch of his outline (in the line of Horprasert 1999: a
shadow changes brightness, not chromaticity). Where masks tell his shade themselves, what lies beyond it is background.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, close_gaps, grow, without_specks

STAYS = 0.005
"""Share of the picture that no frame shows from which somebody stays there."""
GAPS = 3
"""Pixels over which parts of him belong together."""
CLEAR = 0.15
"""Heights of a body from which a frame in which he stands so far away shows a pixel without his shade."""
MIDDLE, FEET = 0.5, 0.8
"""Shares of a height: shade is looked for below the first, and lies in any case below the second."""
FROM, TO, STEPS = 0.08, 0.2, 9
"""Heights of a body away from a pixel between which its surface is looked for outside of the shade."""
SAME = 0.05
"""Difference of chromaticity (shares of red, green and blue) up to which two pixels are of one surface."""
STRETCH = 0.06
"""Heights of a body along his outline over which brightness is compared (standard deviation)."""
BRIGHTER = 1.08
"""How much brighter a surface is outside of the shade, at least."""
TOLD, TOLD_SHARE = 16, 0.02
"""Pixels at a picture width of 512 from objects beyond which an effect is shade and no margin, and the share of a body
that it covers where the body's shade is told."""
EFFECT, OBJECT = 128, 192
"""Values of a mask that is an effect, and from which on it is an object."""
DARK = 8.0
"""Grey levels added to every channel, so that noise in the dark has no chromaticity."""


def told_shade(mask: U8) -> Bool:
    """The effects that a mask, uint8 (H, W), tells away from its objects: shade, no margin; bool (H, W)."""
    effects = (mask >= EFFECT) & (mask < OBJECT)
    return effects & ~grow(mask >= OBJECT, max(1, round(TOLD * mask.shape[1] / 512)))


def lasting_shade(pictures: Sequence[U8], free: Sequence[Bool], holes: Bool, never: Bool, told: Bool | None) -> Bool:
    """The pixels of `holes` that may lie in somebody's shade whenever they are seen, bool (H, W).

    Args:
        pictures: uint8 (H, W, 3) at one exposure. free: bool (H, W) per picture, where it shows background.
        holes: bool (H, W), pixels that any mask covers. never: bool (H, W), those that no frame shows.
        told: bool (H, W), see `told_shade`, of any frames; None: masks know of no effects.
    """
    out = np.zeros_like(holes)
    bodies = without_specks(close_gaps(never, GAPS), int(STAYS * never.size) + 1)
    if not bodies.any():
        return out
    away = np.zeros(holes.shape, np.float32)
    for part in free:
        np.maximum(away, cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3), out=away)
    seen = np.asarray(np.median(np.stack(pictures[:: max(1, len(pictures) // 5)]), axis=0), np.float32)
    outside = ~holes
    slope = _outward(holes)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bodies.astype(np.uint8), connectivity=8)
    for k in range(1, count):
        if told is not None and (told & (labels == k)).sum() > TOLD_SHARE * stats[k, cv2.CC_STAT_AREA]:
            continue
        top, height = int(stats[k, cv2.CC_STAT_TOP]), int(stats[k, cv2.CC_STAT_HEIGHT])
        distance = cv2.distanceTransform((labels != k).astype(np.uint8), cv2.DIST_L2, 3)
        near = holes & (away < CLEAR * height) & (distance < 2 * CLEAR * height)
        near[: top + round(MIDDLE * height)] = False
        feet = near.copy()
        feet[: top + round(FEET * height)] = False
        out |= feet | (near & ~feet & (_brightening(seen, outside, near, slope, height) > np.log(BRIGHTER)))
    return out


def _outward(holes: Bool) -> F32:
    """The direction (x, y) away from the holes, unit vectors float32 (H, W, 2)."""
    inside = cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_L2, 3)
    signed = cv2.distanceTransform((~holes).astype(np.uint8), cv2.DIST_L2, 3) - inside
    soft = cv2.GaussianBlur(signed, (0, 0), 3.0)
    slope = np.dstack([cv2.Scharr(soft, cv2.CV_32F, 1, 0), cv2.Scharr(soft, cv2.CV_32F, 0, 1)])
    return np.asarray(slope / np.maximum(np.linalg.norm(slope, axis=2, keepdims=True), 1e-6), np.float32)


def _brightening(picture: F32, outside: Bool, where: Bool, slope: F32, height: int) -> F32:
    """Log ratio by which the surface of a pixel of `where` is brighter outside, over a stretch; (H, W), 0: unknown."""
    soft = cv2.blur(picture, (3, 3)) + DARK
    total = soft.sum(2)
    chroma, level = soft / total[..., None], np.log(total)
    ys, xs = np.nonzero(where)
    steps = np.linspace(FROM, TO, STEPS, dtype=np.float32) * height
    direction = slope[ys, xs]
    there = np.stack([xs, ys], 1)[:, None] + steps[None, :, None] * direction[:, None]
    x, y = (np.rint(there[..., axis]).astype(int) for axis in (0, 1))
    rows, columns = where.shape
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    x, y = x.clip(0, columns - 1), y.clip(0, rows - 1)
    same = inside & outside[y, x] & (np.abs(chroma[y, x] - chroma[ys, xs][:, None]).max(2) < SAME)
    gain = ((level[y, x] - level[ys, xs][:, None]) * same).sum(1) / np.maximum(same.sum(1), 1)
    values, weight = np.zeros(where.shape, np.float32), np.zeros(where.shape, np.float32)
    values[ys, xs], weight[ys, xs] = gain, 2 * same.sum(1) >= STEPS
    sigma = max(1.0, STRETCH * height)
    values, weight = (cv2.GaussianBlur(part, (0, 0), sigma) for part in (values * weight, weight))
    return np.asarray(np.where(weight > 1e-3, values / np.maximum(weight, 1e-3), 0), np.float32)
