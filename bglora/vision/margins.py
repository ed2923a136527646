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

from bglora.vision.agreement import Agreement, agreement
from bglora.vision.arrays import U8, Bool, around, disk, shrink
from bglora.vision.recovery import AGREE

MARGIN = 5
"""Pixels by which removal masks are wider than what they remove."""
RANGE_LEVELS, LESS = 7.0, 0.5
"""Grey levels by which a pixel may leave the range of its trusted neighbors, and by how much less for every pixel that
the mask is opened: the further in, the more of a sample may be the character's."""
OUTSIDE = 5
"""Frames whose median is the picture outside all masks."""
NEIGHBORS = 2
"""Radius in pixels of the neighborhood that must be trusted already."""


def reach_in(found: Agreement, pictures: Sequence[U8], masks: Sequence[Bool], holes: Bool) -> Agreement:
    """Adds what the margins of the masks show to what free samples agree upon.

    Args:
        found: what free samples agree upon. pictures: uint8 (H, W, 3) at one exposure. masks: bool (H, W).
        holes: bool (H, W), pixels that any mask covers; outside them every frame shows the background.
    """
    missing = holes & ~found.known & (found.seen < 2)
    if not missing.any():
        return found
    picture, known = found.picture.copy(), found.known.copy()
    seen, share = found.seen.copy(), found.share.copy()
    box = around(missing, MARGIN + NEIGHBORS + 1)
    outside = np.median([p[box] for p in pictures[:: max(1, len(pictures) // OUTSIDE)]], axis=0)
    frame = np.where(holes[box][..., None], picture[box], outside).astype(np.float32)
    inner = [mask[box] for mask in masks]
    for ring in range(MARGIN + 1):
        open_ = missing[box]
        more = agreement([p[box] for p in pictures], [~mask for mask in inner], open_, AGREE)
        candidate = open_ & (more.seen > 0)
        frame[candidate] = more.picture[candidate]
        good = candidate & _goes_on(frame, known[box] | ~holes[box], candidate, RANGE_LEVELS - LESS * ring)
        known[box] |= good
        seen[box][good] = more.seen[good]
        share[box][good] = more.share[good]
        missing[box] &= ~good
        if not missing.any():
            break
        inner = [shrink(mask, 1) for mask in inner]
    picture[box][known[box]] = frame[known[box]]
    return replace(found, picture=picture, known=known, seen=seen, share=share)


def _goes_on(picture: np.ndarray, trusted: Bool, candidate: Bool, levels: float) -> Bool:
    """Candidates (bool (H, W)) in the range of the trusted pixels around them."""
    near = disk(NEIGHBORS)
    blank = ~trusted
    low, high = picture.copy(), picture.copy()
    low[blank], high[blank] = 1e4, -1e4
    low, high = cv2.erode(low, near), cv2.dilate(high, near)
    inside = ((picture >= low - levels) & (picture <= high + levels)).all(2)
    return candidate & inside
