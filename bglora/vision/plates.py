"""Plates of a shot: real pixels from other frames first, a guess where no frame shows anything, and which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool, grow, shrink
from bglora.vision.camera import Camera
from bglora.vision.exposure import leveled
from bglora.vision.metrics import psnr_db
from bglora.vision.recovery import GUESSED, ORIGINAL, RECOVERED, UNTRUSTED, Recovery
from bglora.vision.recovery_moving import FEWEST_CHECKED, MovingRecovery
from bglora.vision.recovery_still import StillRecovery

THIN_PX = 3
"""Half the width in pixels of untrusted parts that keep what the samples say."""


@dataclass(frozen=True)
class Plate:
    """A plate before and after filling.

    Attributes:
        picture: uint8 (H, W, 3). provenance: uint8 (H, W), 0 original, 1 recovered, 2 guessed, 3 not trusted.
        recovered_psnr_db: how well the same recovery gave back pixels that the frame itself shows; None: not measured.
    """

    picture: U8
    provenance: U8
    recovered_psnr_db: float | None


@dataclass
class ShotPlates:
    """Makes the plates of frames that were looked at together.

    Attributes:
        frames: uint8 RGB (H, W, 3), ascending. numbers: their frame numbers. masks: removal masks bool (H, W).
        camera, gains: as found with the masks.
        told: bool (H, W), where masks tell shade away from characters, see `told_shade`; None: they know of none.
    """

    frames: Sequence[U8]
    numbers: Sequence[int]
    masks: Sequence[Bool]
    camera: Camera
    gains: NDArray[np.float64]
    told: Bool | None = None
    _level: list[U8] = field(default_factory=list, init=False)
    _still: StillRecovery | None = field(default=None, init=False)
    _moving: MovingRecovery = field(init=False)

    def __post_init__(self) -> None:
        self._level = [leveled(frame, gain) for frame, gain in zip(self.frames, self.gains, strict=True)]
        self._moving = MovingRecovery(self._level, self.masks, self.numbers, self.camera)
        if self.camera.kind == "still" and len(self.frames) >= 2:
            self._still = StillRecovery(self._level, self.masks, self.numbers, self.told)

    def plate(self, k: int, use_recovery: bool = True) -> tuple[Plate, Bool]:
        """The plate of frame `k` with what could be recovered, and the hole that is left to fill (bool (H, W)).

        The hole is not all that is untrusted: thin parts, and those whose samples agree, keep the best there is.
        """
        frame, hole = self.frames[k], self.masks[k]
        provenance = np.full(hole.shape, ORIGINAL, np.uint8)
        if not hole.any():
            return Plate(frame.copy(), provenance, None), hole
        if not use_recovery or len(self.frames) < 2:
            provenance[hole] = GUESSED
            return Plate(frame.copy(), provenance, None), hole
        found, check = self._recover(k, hole)
        picture = frame.copy()
        gain = self.gains[k].astype(np.float32)
        real = np.clip(np.rint(found.picture * gain), 0, 255).astype(np.uint8)
        kept = found.recovered | _thin(found)
        if found.agreed is not None:
            kept |= found.agreed
        picture[kept] = real[kept]
        provenance[found.recovered] = RECOVERED
        provenance[found.unseen] = GUESSED
        provenance[found.untrusted] = UNTRUSTED
        return Plate(picture, provenance, check), hole & ~kept

    def _recover(self, k: int, hole: Bool) -> tuple[Recovery, float | None]:
        """What other frames show of the hole of frame `k`, and how well (dB) they show what it shows itself."""
        if self._still is not None:
            answer, truth = self._still.check(k)
            good = psnr_db(answer, truth) if len(truth) >= FEWEST_CHECKED else None
            return self._still.recover(k), good
        return self._moving.recover(k, withheld(hole))


def _thin(found: Recovery) -> Bool:
    """Untrusted pixels beside recovered ones, edges mostly, that samples show a little differently.

    Their mean is a better guess than any fill, and continues what is around it; it stays marked as not trusted.
    """
    missing = found.untrusted | found.unseen
    return found.untrusted & ~grow(shrink(missing, THIN_PX), THIN_PX + 1)


def withheld(hole: Bool) -> Bool:
    """Pixels outside the hole in the shape of the hole: the hole moved to where most of it lies on known picture."""
    height, width = hole.shape
    ys, xs = np.nonzero(hole)
    h, w = int(np.ptp(ys)) + 6, int(np.ptp(xs)) + 6
    best, found = np.zeros_like(hole), -1
    near = grow(hole, 2)
    for dy, dx in ((0, w), (0, -w), (h, 0), (-h, 0), (0, w // 2), (0, -w // 2), (h // 2, 0), (-h // 2, 0)):
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = cv2.warpAffine(hole.astype(np.uint8), matrix, (width, height)) > 0
        moved &= ~near
        if int(moved.sum()) > found:
            best, found = moved, int(moved.sum())
    return best
