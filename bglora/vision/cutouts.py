"""Cut-outs of characters for a character LoRA: clean edges, nothing tiny, nothing blurred."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import U8, Bool, gray, grow, shrink
from bglora.vision.edges import cutout

SHARPNESS = 15.0
"""Variance of the Laplacian inside the object below which it is blurred."""
HEIGHT = 0.08
"""Share of the picture's height that an object has at least."""
MARGIN = 4


def cut_out(
    picture: U8, inside: Bool, alpha: U8 | None, box: tuple[int, int, int, int], alpha_threshold: float
) -> U8 | None:
    """One object as RGBA, cropped to its box with a margin of 4 px; None if it is too small or blurred.

    Args:
        picture: uint8 (H, W, 3). inside: the object, bool (H, W). box: left, top, width, height of it.
        alpha: uint8 (H, W) of all objects, or None: edges as hard as the mask.
        alpha_threshold: alpha (0 to 1) below which a pixel is background.
    """
    height, width = inside.shape
    x, y, w, h = box
    if h < HEIGHT * height:
        return None
    crop = (
        slice(max(0, y - MARGIN), min(height, y + h + MARGIN)),
        slice(max(0, x - MARGIN), min(width, x + w + MARGIN)),
    )
    part, own = picture[crop], inside[crop]
    core = shrink(own, 3)
    if core.sum() < 30 or float(cv2.Laplacian(gray(part), cv2.CV_32F)[core].var()) < SHARPNESS:
        return None
    matte = own.astype(np.uint8) * 255
    if alpha is not None:
        matte = np.where(grow(own, 2), alpha[crop], 0).astype(np.uint8)
        matte[matte < alpha_threshold * 255] = 0
    return cutout(part, matte)
