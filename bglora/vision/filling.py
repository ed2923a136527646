"""One fill for a whole shot: what was guessed for one frame is shown in the others, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool
from bglora.vision.camera import Camera

Fill = Callable[[U8, Bool], U8]


@dataclass
class ShotFill:
    """Remembers the guesses of a shot at the reference's exposure and carries them from frame to frame.

    Attributes:
        camera, gains: of the frames that are filled.
    """

    camera: Camera
    gains: NDArray[np.float64]
    _picture: F32 | None = None
    _known: Bool | None = None
    _last: int = 0

    def apply(self, k: int, picture: U8, hole: Bool, fill: Fill) -> U8:
        """Frame `k`'s picture with the hole filled: by what was guessed before where there is something, else anew."""
        gain = self.gains[k].astype(np.float32)
        out, rest = picture.copy(), hole.copy()
        if self._picture is not None and self._known is not None and hole.any():
            before, known = self._seen_from(k)
            take = hole & known
            out[take] = np.clip(np.rint(before[take] * gain), 0, 255).astype(np.uint8)
            rest &= ~take
        if rest.any():
            out = fill(out, rest)
        self._remember(k, out, hole, gain)
        return out

    def _seen_from(self, k: int) -> tuple[F32, Bool]:
        assert self._picture is not None and self._known is not None
        if self.camera.kind == "still" or k == self._last:
            return self._picture, self._known
        height, width = self._known.shape
        pose = self.camera.between(self._last, k)
        moved = cv2.warpPerspective(self._picture, pose, (width, height), flags=cv2.INTER_CUBIC)
        part = cv2.warpPerspective(self._known.astype(np.uint8), pose, (width, height), flags=cv2.INTER_NEAREST)
        return np.asarray(moved, np.float32), np.asarray(part > 0)

    def _remember(self, k: int, picture: U8, hole: Bool, gain: F32) -> None:
        level = picture.astype(np.float32) / gain
        if self._picture is None or self._known is None:
            self._picture, self._known = level, hole.copy()
        else:
            before, known = self._seen_from(k)
            # Around the guess the frame's own pixels, so that carrying it on interpolates into picture, not into black.
            self._picture = np.where((known & ~hole)[..., None], before, level)
            self._known = known | hole
        self._last = k
