"""Clean edges: how much of a pixel at an object's border is object.

In a narrow band the pixel's color is projected on the line from the background's color to the nearest sure object color
(the compositing equation with both ends known).
"""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around, grow, shrink

BAND = 2
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


def alpha_matte(frame: U8, mean: F32, objects: Bool, radius: int = BAND) -> F32:
    """Alpha of the objects, float32 (H, W) in 0 to 1.

    Args:
        frame: uint8 (H, W, 3); mean: background float32 (H, W, 3), both at one exposure.
        objects: bool (H, W). radius: half width in pixels of the band in which alpha is not 0 or 1.
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
    away = nearest_inside(picture, _solid(objects, inner, radius))[band] - behind
    length = np.einsum("pc,pc->p", away, away)
    part = np.einsum("pc,pc->p", picture[band] - behind, away) / np.maximum(length, 1.0)
    alpha[band] = np.where(length > 12.0**2 * 3, np.clip(part, 0, 1), objects[band])
    return alpha


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
