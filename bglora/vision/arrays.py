"""Small array operations that the rooms of `vision` share. All pictures are uint8 or float32 (H, W, 3) RGB."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def largest_channel(picture: np.ndarray) -> np.ndarray:
    """Per pixel the largest of the three channels; (H, W), same type."""
    r, g, b = cv2.split(picture)
    return np.asarray(cv2.max(cv2.max(r, g), b))


def gray(picture: np.ndarray) -> F32:
    """Luma of an RGB picture, float32 (H, W), 0 to 255."""
    return np.asarray(cv2.transform(picture.astype(np.float32, copy=False), LUMA[None]), np.float32).reshape(
        picture.shape[:2]
    )


def disk(radius: int) -> U8:
    """A round structuring element of that radius in pixels."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def grow(mask: Bool, radius: int) -> Bool:
    """The mask dilated by a disk; radius 0 returns it as it is."""
    if radius <= 0:
        return mask
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk(radius)) > 0)


def shrink(mask: Bool, radius: int) -> Bool:
    """The mask eroded by a disk; what lies outside the picture counts as mask, so borders don't eat it."""
    if radius <= 0:
        return mask
    return np.asarray(cv2.erode(mask.astype(np.uint8), disk(radius), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0)


def close_gaps(mask: Bool, radius: int) -> Bool:
    """Morphological closing whose result keeps to the picture's border."""
    return shrink(grow(mask, radius), radius) | mask


def without_specks(mask: Bool, min_area: int) -> Bool:
    """The mask without 8-connected spots of fewer than `min_area` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    keep = stats[:, cv2.CC_STAT_AREA] >= min_area
    keep[0] = False
    return np.asarray(keep[labels])


def touching(mask: Bool, seeds: Bool) -> Bool:
    """The 8-connected parts of `mask` that contain a pixel of `seeds` (hysteresis)."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    hit = np.zeros(count, bool)
    hit[np.unique(labels[seeds & mask])] = True
    hit[0] = False
    return np.asarray(hit[labels])


def without_holes(mask: Bool, max_area: int) -> Bool:
    """The mask with enclosed gaps of at most `max_area` pixels filled; gaps open to the border stay."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    if count <= 1:
        return mask
    height, width = mask.shape
    small = stats[:, cv2.CC_STAT_AREA] <= max_area
    x, y, w, h = (stats[:, k] for k in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    enclosed = small & (x > 0) & (y > 0) & (x + w < width) & (y + h < height)
    enclosed[0] = False
    return mask | enclosed[labels]


def enclosed(mask: Bool) -> Bool:
    """The mask with all that it encloses, also together with the picture's border where it reaches it."""
    padded = np.pad(mask, 1)
    for line, edge in (
        (padded[0], padded[1]), (padded[-1], padded[-2]), (padded[:, 0], padded[:, 1]), (padded[:, -1], padded[:, -2])
    ):  # fmt: skip
        places = np.nonzero(edge)[0]
        if len(places) > 1:
            line[places[0] : places[-1] + 1] = True
    height, width = padded.shape
    outside = np.pad(padded, 1).astype(np.uint8)
    cv2.floodFill(outside, None, (0, 0), 2)
    return np.asarray(outside[2:height, 2:width] != 2)


def around(mask: Bool, margin: int) -> tuple[slice, slice]:
    """Slices (rows, columns) of the box of a mask that is not empty, grown by a margin, within the picture."""
    ys, xs = np.nonzero(mask)
    height, width = mask.shape
    y0, y1 = max(0, int(ys.min()) - margin), min(height, int(ys.max()) + margin + 1)
    x0, x1 = max(0, int(xs.min()) - margin), min(width, int(xs.max()) + margin + 1)
    return slice(y0, y1), slice(x0, x1)


def within_heights(objects: Bool, heights: float) -> Bool:
    """Pixels no farther from an object (a connected part of the mask) than so many times its height; bool (H, W)."""
    out = np.zeros_like(objects)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(objects.astype(np.uint8), connectivity=8)
    for k in range(1, count):
        distance = cv2.distanceTransform((labels != k).astype(np.uint8), cv2.DIST_L2, 3)
        out |= distance <= heights * stats[k, cv2.CC_STAT_HEIGHT]
    return out
