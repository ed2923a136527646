"""Tips of plants and crests of waves that stick out of what the background does by itself, again and again.

Somebody who passes covers a place once; what sways comes back to it. So small parts of masks, apart from everybody, at
places that were covered and free several times in a shot are the background's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import Bool

SMALL = 0.003
"""Share of the picture below which a part may be such a tip; a larger one is somebody."""
RETURNS = 2
"""How often a place was covered anew."""
SHARE = 0.2
"""Share of the frames in which it was covered."""


def swaying_parts(masks: Sequence[Bool]) -> list[Bool]:
    """Per frame of a still shot the parts of its mask, bool (H, W), that come and go at one place.

    Args:
        masks: bool (H, W), ascending in time.
    """
    covered, came = np.zeros(masks[0].shape, np.uint16), np.zeros(masks[0].shape, np.uint16)
    before = np.ones_like(masks[0])
    for mask in masks:
        covered += mask
        came += mask & ~before
        before = mask
    window = np.ones((5, 5), np.uint8)
    comes_back = (cv2.dilate(came, window) >= RETURNS) & (cv2.dilate(covered, window) >= SHARE * len(masks))
    return [_small_parts(mask, comes_back) for mask in masks]


def _small_parts(mask: Bool, where: Bool) -> Bool:
    """The connected parts of a mask that are small and lie mostly in `where`."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    inside = np.bincount(labels[where], minlength=count)
    small = (area <= SMALL * mask.size) & (2 * inside >= area)
    small[0] = False
    return np.asarray(small[labels])
