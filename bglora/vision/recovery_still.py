"""Recovery where the camera stands: what holds for the whole shot once, the rest near each frame in time.

For cameras of the kind still; all frames lie on each other as they are. `recovery_moving` serves all other kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np

from bglora.vision.agreement import Agreement, agreement
from bglora.vision.arrays import F32, U8, Bool, grow, without_specks
from bglora.vision.difference import SHIMMER
from bglora.vision.lasting import lasting_shade
from bglora.vision.margins import reach_in
from bglora.vision.moments import Moment, from_moments
from bglora.vision.recovery import AGREE, Recovery, Samples, recover

NEAREST = 15
SPECK = 40
"""Restless spots of fewer pixels are noise, or too small for waves to be seen in them."""


class StillRecovery:
    """Recovers the holes of a shot whose camera stands.

    Args:
        level: uint8 (H, W, 3) per frame, at one exposure. masks: removal masks bool (H, W).
        numbers: frame numbers, ascending. told: see `lasting_shade`.
    """

    def __init__(
        self, level: Sequence[U8], masks: Sequence[Bool], numbers: Sequence[int], told: Bool | None = None
    ) -> None:
        self._level, self._masks, self._numbers, self._told = level, masks, numbers, told
        self._free = [~grow(mask, 1) for mask in masks]
        self.holes = np.any(np.stack(masks), axis=0)

    @cached_property
    def whole(self) -> Agreement:
        """What the frames agree upon where any of them has a hole, and what its edge gives where none is free."""
        found = agreement(self._level, self._free, self.holes, AGREE)
        return reach_in(found, self._level, self._masks, self.holes)

    @cached_property
    def shaded(self) -> Bool:
        """Where all frames may show the shade of somebody who stays in place, bool (H, W), within the holes."""
        never = self.holes & ~self.whole.known & (self.whole.seen == 0)
        return lasting_shade(self._level, self._free, self.holes, never, self._told)

    @cached_property
    def restless(self) -> Bool:
        """Where the background moves by itself, bool (H, W), within the holes."""
        soft = cv2.GaussianBlur(cv2.dilate(self.whole.deviation, np.ones((3, 3), np.uint8)), (7, 7), 2.0)
        return grow(soft > SHIMMER, 2) & self.holes

    def recover(self, k: int) -> Recovery:
        """Recovers the hole of frame `k`."""
        hole, whole = self._masks[k], self.whole
        picture = whole.picture.copy()
        recovered = hole & whole.known & ~self.shaded
        split = hole & ~whole.known & (whole.seen >= 2) & ~self.shaded
        order = sorted(
            (j for j in range(len(self._level)) if j != k), key=lambda j: abs(self._numbers[j] - self._numbers[k])
        )
        pictures, free = [self._level[j] for j in order], [self._free[j] for j in order]
        moving = without_specks(hole & self.restless & (whole.seen > 0) & ~self.shaded, SPECK)
        split &= ~moving
        if split.any():
            near = recover(split, Samples(pictures, free), NEAREST)
            picture[split] = near.picture[split]
            recovered |= near.recovered
        if moving.any():
            now = self._numbers[k]
            moments = [Moment(self._level[j], self._free[j], self._numbers[j] - now) for j in order]
            recovered |= from_moments(picture, moving, self._level[k], ~grow(hole, 1), moments)
        unseen = hole & ~recovered & (whole.seen == 0)
        return Recovery(picture, recovered, unseen, hole & ~recovered & ~unseen, hole & whole.known & self.shaded)

    def check(self, k: int) -> tuple[F32, U8]:
        """What the other frames say of pixels that frame `k` shows, too: their answer and the frame's, both (P, 3)."""
        whole = self.whole
        where = self._checkable & ~grow(self._masks[k], 2)
        frame = self._level[k][where]
        own = whole.share[where][:, None]
        others = (whole.picture[where] - own * frame) / np.maximum(1 - own, 0.5)
        return others.astype(np.float32), frame

    @cached_property
    def _checkable(self) -> Bool:
        return self.holes & self.whole.known & ~self.restless & (self.whole.seen > 1)
