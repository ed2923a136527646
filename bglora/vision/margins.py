"""What the margin of the masks shows where no frame is free.

Beside somebody who stays in place a pixel may be free in no frame, or in one, though it is seen: masks are wider than
characters. Such a sample is believed only where it goes on what is already known right beside it: its value must lie in
the range of the trusted pixels around it, ring by ring from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from bglora.vision.arrays import U8, Bool, disk, shrink
from bglora.vision.recovery import AGREE
from bglora.vision.steady import Steady, steady

MARGIN = 2
"""Pixels by which removal masks are wider than what they remove."""
RANGE_LEVELS = 8.0
"""Grey levels by which a pixel may leave the range of its trusted neighbors."""
NEIGHBORS = 2
"""Radius in pixels of the neighborhood that must be trusted already."""


def reach_in(found: Steady, pictures: Sequence[U8], masks: Sequence[Bool], holes: Bool) -> Steady:
    """Adds what the margins of the masks show to what free samples agree upon.

    Args:
        found: what free samples agree upon. pictures: uint8 (H, W, 3) at one exposure. masks: bool (H, W).
        holes: bool (H, W), pixels that any mask covers; outside them every frame shows the background.
    """
    missing = holes & ~found.known & (found.seen < 2)
    if not missing.any():
        return found
    outside = np.median(np.stack([p for p in pictures[:: max(1, len(pictures) // 5)]]), axis=0).astype(np.float32)
    picture = np.where(holes[..., None], found.picture, outside)
    known, seen, share = found.known.copy(), found.seen.copy(), found.share.copy()
    for depth in range(MARGIN + 1):
        if not missing.any():
            break
        inner = [~shrink(mask, depth) for mask in masks]
        more = steady(pictures, inner, missing, AGREE)
        candidate = missing & (more.seen > 0)
        picture[candidate] = more.picture[candidate]
        good = candidate & _goes_on(picture, known | ~holes, candidate)
        known |= good
        seen[good] = np.maximum(more.seen[good], 1)
        share[good] = more.share[good]
        missing &= ~good
    return replace(found, picture=picture, known=known, seen=seen, share=share)


def _goes_on(picture: np.ndarray, trusted: Bool, candidate: Bool) -> Bool:
    """Candidates (bool (H, W)) in the range of the trusted pixels around them."""
    around = disk(NEIGHBORS)
    blank = ~trusted
    low, high = picture.copy(), picture.copy()
    low[blank], high[blank] = 1e4, -1e4
    low, high = cv2.erode(low, around), cv2.dilate(high, around)
    inside = ((picture >= low - RANGE_LEVELS) & (picture <= high + RANGE_LEVELS)).all(2)
    return candidate & inside
