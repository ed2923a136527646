"""Ghosts: the background model shows somebody who stood still for most of a shot, and frames without him differ there.

A ghost is an object mask whose outline runs along an edge of the background model, not of the frame (the frame shows
what is behind), at the same place in frame after frame. There the frames with the ghost show the true background and
the others the character, so the two are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, largest_channel, shrink

SHORTEST = 20
"""Pixels of outline from which a part is judged."""
MOSTLY = 2.0
"""A part is a ghost when the model's edges explain this many times more of its outline than the frame's."""
FEWEST, SHARE = 3, 0.12
"""Frames of the shot, and their share, that show the same ghost at least."""

Carry = Callable[[Bool, int, int], Bool]
"""Takes a mask from one frame's coordinates to another's."""


def outlines(frame: U8, mean: F32, objects: Bool) -> tuple[Bool, Bool]:
    """Pixels of the objects' outline, bool (H, W), that the frame's and that the background model's edges explain."""
    line = objects & ~shrink(objects, 1)
    if not line.any():
        return line, line
    kernel = np.ones((5, 5), np.uint8)
    own, model = (
        largest_channel(cv2.morphologyEx(cv2.blur(p, (3, 3)), cv2.MORPH_GRADIENT, kernel))
        for p in (frame.astype(np.float32), mean)
    )
    return line & (own > 1.3 * model + 6), line & (model > 1.3 * own + 6)


def ghost_parts(own: Bool, model: Bool, objects: Bool, effects: Bool) -> Bool:
    """The connected parts of a frame's masks whose `outlines` follow the model, bool (H, W)."""
    if not model.any():
        return model
    count, labels = cv2.connectedComponents((objects | effects).astype(np.uint8), connectivity=8)
    real, false = (np.bincount(labels[side], minlength=count) for side in (own, model))
    ghost = (false >= SHORTEST) & (false > MOSTLY * real)
    ghost[0] = False
    return np.asarray(ghost[labels])


def standing_still(ghosts: Sequence[Bool], carry: Carry, reference: int) -> Bool | None:
    """Where enough frames show a ghost at the same place, in the reference frame's coordinates; None: nowhere."""
    seen = [k for k, ghost in enumerate(ghosts) if ghost.any()]
    least = max(FEWEST, round(SHARE * len(ghosts)))
    if len(seen) < least:
        return None
    votes = np.zeros(ghosts[0].shape, np.uint16)
    for k in seen:
        votes += carry(ghosts[k], k, reference)
    place = votes >= least
    return np.asarray(place) if place.any() else None
