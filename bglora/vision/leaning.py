"""What leans into the picture over its border without ever coming in: a leaf that swings near the camera.

Where the place moves by itself, such a thing is the place's own rather than somebody's: it is small, hangs on the
border for much of the shot, touches nobody, and has colors that nobody in the shot has. Somebody who enters or leaves
comes farther in, or is there for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

from bglora.vision.appearance import BINS, color_bins
from bglora.vision.arrays import U8, Bool, grow

WORKING_WIDTH = 256
RESTLESS = 0.02
"""Share of the picture that moves by itself from which things at its border may, too."""
SMALL, DEEP = 0.006, 0.06
"""Share of the picture that such a part covers, and of the width by which it comes in, at most."""
STAYS = 0.4
"""Share of the frames in which it is there, at least."""
COMMON, ALIKE = 0.0005, 0.25
"""Share of all pixels of others from which a color is theirs, and share of a part's pixels of such colors from which it
may be one of them."""
FEWEST = 300
"""Pixels of others from which their colors are known."""


def leaning_parts(frames: Sequence[U8], objects: Sequence[Bool]) -> list[Bool]:
    """Per frame of a still shot whose place moves by itself the objects that only lean in, bool (H, W).

    Args:
        frames: uint8 (H, W, 3) at one exposure, in time order. objects: bool (H, W).
    """
    height, width = objects[0].shape
    scale = min(1.0, WORKING_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.stack([cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0 for one in objects])
    labels, count = ndimage.label(small, np.ones((3, 3, 3)))
    found = np.zeros_like(small)
    for k, place in enumerate(ndimage.find_objects(labels), 1):
        body = labels[place] == k
        if _leans(body, place, small.shape):
            found[place] |= body
    nothing = [np.zeros_like(one) for one in objects]
    if not found.any():
        return nothing
    parts = [
        one & (cv2.resize(part.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0)
        for one, part in zip(objects, found, strict=True)
    ]
    return parts if _looks_foreign(frames, objects, parts) else nothing


def _leans(body: Bool, place: tuple[slice, slice, slice], shape: tuple[int, ...]) -> bool:
    """Whether a body in space and time (T, h, w), at a place of the shot (N, H, W), hangs on one border throughout."""
    count, height, width = shape
    there = np.asarray(body.any(axis=(1, 2)))
    if there.sum() < STAYS * count or body.sum(axis=(1, 2)).max() > SMALL * height * width:
        return False
    deep, (_, rows, columns) = DEEP * width, place
    sides = (
        (columns.start == 0 and columns.stop <= deep, body[:, :, 0]),
        (columns.stop == width and columns.start >= width - deep, body[:, :, -1]),
        (rows.start == 0 and rows.stop <= deep, body[:, 0]),
        (rows.stop == height and rows.start >= height - deep, body[:, -1]),
    )
    return any(near and np.asarray(line.any(axis=1))[there].all() for near, line in sides)


def _looks_foreign(frames: Sequence[U8], objects: Sequence[Bool], parts: Sequence[Bool]) -> bool:
    """Whether the parts have colors that the other objects of the shot don't have; False where there are no others."""
    others, own = np.zeros(BINS**3), np.zeros(BINS**3)
    for frame, one, part in zip(frames, objects, parts, strict=True):
        colors = color_bins(frame)
        others += np.bincount(colors[one & ~grow(part, 2)], minlength=BINS**3)
        own += np.bincount(colors[part], minlength=BINS**3)
    if others.sum() < FEWEST or not own.sum():
        return False
    return bool(own[others > COMMON * others.sum()].sum() <= ALIKE * own.sum())
