"""Clean edges: how much of a pixel at an object's border is object.

In a narrow band the pixel's color is projected on the line from the background's color to the nearest sure object color
(the compositing equation with both ends known).
"""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around, grow, shrink

BAND = 2
LIGHT = 1.6
"""Exponent from grey levels to light in mixtures: less than a display's 2.2, for compression mixes grey levels."""
SHUTTER_LIGHT = 2.2
"""The same exponent where motion blurs an edge: the shutter mixes light before anything makes grey levels of it."""
SLOPE, MIXED = 0.27, (0.3, 0.7)
"""Alpha per pixel below which a ramp is broader than optics and compression make an edge; alphas within a ramp."""
SHADE = (0.2, 1.15)
"""Least and most that shade beside an object makes of the background."""
PLAIN = 20.0
"""Grey levels by which object and background must differ for a pixel between them to be told."""
GUIDE_NOISE = 4.0
"""Grey levels by which a guide may differ without being an edge."""


def nearest_inside(picture: np.ndarray, inside: Bool) -> np.ndarray:
    """Each pixel's value replaced by that of the nearest pixel `inside`; (H, W, ...). `inside` must not be empty."""
    outside = (~inside).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    ys, xs = np.nonzero(inside)
    where = np.zeros(int(labels.max()) + 1, np.int64)
    where[labels[ys, xs]] = np.arange(len(ys))
    pick = where[labels]
    return picture[ys[pick], xs[pick]]


def alpha_matte(
    frame: U8, mean: F32, objects: Bool, radius: int = BAND, shaded: bool = True, light: float = LIGHT
) -> F32:
    """Alpha of the objects, float32 (H, W) in 0 to 1.

    Args:
        frame: uint8 (H, W, 3); mean: background float32 (H, W, 3), both at one exposure.
        objects: bool (H, W). radius: half width in pixels of the band in which alpha is not 0 or 1.
        shaded: whether the shade just outside the objects lies on the background at their border, too, and light is
            mixed instead of grey levels.
        light: exponent from grey levels to light.
    """
    if not objects.any():
        return objects.astype(np.float32)
    inner = shrink(objects, radius)
    if not inner.any():
        inner = objects
    alpha = inner.astype(np.float32)
    picture = frame.astype(np.float32)
    band = grow(objects, radius) & ~inner
    behind = mean[band]
    if shaded:
        behind = behind * _shade_outside(picture, mean, objects, radius)[band][:, None]
    front = nearest_inside(picture, _solid(objects, inner, radius))[band]
    away = front - behind
    length = np.maximum(np.einsum("pc,pc->p", away, away), 1.0)
    part = np.clip(np.einsum("pc,pc->p", picture[band] - behind, away) / length, 0, 1)
    if shaded:
        middle = ((front**light + behind**light) / 2) ** (1 / light)
        half = np.clip(np.einsum("pc,pc->p", middle - behind, away) / length, 0.1, 0.9)
        part = part ** (np.log(0.5) / np.log(half))
    alpha[band] = np.where(length > PLAIN**2, part, objects[band])
    return alpha


def ramps(frame: U8, mean: F32, objects: Bool) -> tuple[int, int]:
    """How many pixels lie within broad ramps at the objects' edges, as motion makes them, and how many within any.

    Args as in `alpha_matte`.
    """
    if not objects.any():
        return 0, 0
    box = around(objects, 4 * BAND)
    alpha = alpha_matte(frame[box], mean[box], objects[box], BAND + 1)
    dx, dy = cv2.Sobel(alpha, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(alpha, cv2.CV_32F, 0, 1, scale=0.125)
    slope = cv2.dilate(cv2.magnitude(dx, dy), np.ones((3, 3), np.uint8))
    mixed = (alpha > MIXED[0]) & (alpha < MIXED[1])
    return int((mixed & (slope < SLOPE)).sum()), int(mixed.sum())


def _shade_outside(picture: F32, mean: F32, objects: Bool, radius: int) -> F32:
    """Ratio of frame and background just outside the objects, carried to each pixel from the nearest; (H, W)."""
    outside = ~grow(objects, radius + 1)
    if not outside.any():
        return np.ones(objects.shape, np.float32)
    seen, known = (cv2.blur(p, (3, 3)).sum(2) + 8 for p in (picture, mean))
    return np.asarray(nearest_inside(np.clip(seen / known, *SHADE), outside), np.float32)


def _solid(objects: Bool, inner: Bool, radius: int) -> Bool:
    """Where objects show their own color: deeper inside than `inner`, which blur may reach; `inner` in thin parts."""
    deep = shrink(objects, 2 * radius)
    return deep | (inner & ~grow(deep, 2 * radius))


def cutout(frame: U8, alpha: U8) -> U8:
    """RGBA (H, W, 4): the object without the background that shines through its edge.

    Colors of partly covered pixels come from the nearest fully covered one.
    """
    solid = alpha >= 250
    color = nearest_inside(frame, solid) if solid.any() else frame
    clean = np.where(((alpha > 0) & ~solid)[..., None], color, frame)
    clean[alpha == 0] = 0
    return np.dstack([clean, alpha]).astype(np.uint8)


def soft_edges(frame: U8, objects: Bool, radius: int = BAND) -> U8:
    """Alpha of objects before an unknown background, uint8 (H, W): their mask smoothed along the frame's edges.

    A guided filter (He, Sun and Tang 2010) within a band around the outline; inside 255, outside 0.

    Args:
        frame: uint8 (H, W, 3). objects: bool (H, W). radius: half width of the band in pixels.
    """
    if not objects.any():
        return objects.astype(np.uint8)
    box = around(objects, 4 * radius + 2)
    part, own = np.ascontiguousarray(frame[box]), objects[box]
    soft = cv2.ximgproc.guidedFilter(part, own.astype(np.float32), 2 * radius, GUIDE_NOISE**2)
    soft = np.clip(soft, 0, 1)
    soft[shrink(own, radius)] = 1
    soft[~grow(own, radius)] = 0
    alpha = np.zeros(objects.shape, np.uint8)
    alpha[box] = np.rint(soft * 255)
    return alpha
