"""Plates of a shot: real pixels from other frames first, a guess where no frame shows anything, and which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.camera import Camera
from bglora.vision.exposure import leveled
from bglora.vision.flow import aligned
from bglora.vision.metrics import psnr_db
from bglora.vision.motion import warp_mask
from bglora.vision.recovery import GUESSED, ORIGINAL, RECOVERED, UNTRUSTED, Recovery, Samples, recover
from bglora.vision.stills import StillRecovery

MOVING_SOURCES = 16
MOVING_NEAREST = 7
TRAVELING_SOURCES = 10
FEWEST_CHECKED = 50
"""Pixels below which a check says nothing."""


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
    """

    frames: Sequence[U8]
    numbers: Sequence[int]
    masks: Sequence[Bool]
    camera: Camera
    gains: NDArray[np.float64]
    _level: list[U8] = field(default_factory=list)
    _still: StillRecovery | None = None

    def __post_init__(self) -> None:
        self._level = [leveled(frame, gain) for frame, gain in zip(self.frames, self.gains, strict=True)]
        if self.camera.kind == "still" and len(self.frames) >= 2:
            self._still = StillRecovery(self._level, self.masks, self.numbers)

    def plate(self, k: int, use_recovery: bool = True) -> tuple[Plate, Bool]:
        """The plate of frame `k` with what could be recovered, and the hole that is left (bool (H, W))."""
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
        picture[found.recovered] = real[found.recovered]
        provenance[found.recovered] = RECOVERED
        provenance[found.unseen] = GUESSED
        provenance[found.untrusted] = UNTRUSTED
        return Plate(picture, provenance, check), hole & ~found.recovered

    def _recover(self, k: int, hole: Bool) -> tuple[Recovery, float | None]:
        """What other frames show of the hole of frame `k`, and how well (dB) they show what it shows itself."""
        if self._still is not None:
            answer, truth, where = self._still.check(k)
            good = psnr_db(answer, truth, where) if where.sum() >= FEWEST_CHECKED else None
            return self._still.recover(k), good
        probe = withheld(hole)
        samples = self._samples(k, hole | probe)
        return recover(hole, samples, MOVING_NEAREST), self._check(k, probe, samples)

    def _samples(self, k: int, where: Bool) -> Samples:
        """Other frames seen from frame `k`, nearest in time first."""
        order = sorted(
            (j for j in range(len(self.frames)) if j != k), key=lambda j: abs(self.numbers[j] - self.numbers[k])
        )
        if self.camera.kind in ("parallax", "unknown"):
            return self._flowing(k, order[:TRAVELING_SOURCES], where)
        pictures: list[F32 | U8] = []
        free: list[Bool] = []
        height, width = where.shape
        for j in order:
            if len(pictures) == MOVING_SOURCES:
                break
            pose = self.camera.between(j, k)
            inner = np.zeros((height, width), np.uint8)
            inner[3:-3, 3:-3] = 1
            valid = cv2.warpPerspective(inner, pose, (width, height), flags=cv2.INTER_NEAREST) > 0
            unmasked = valid & ~warp_mask(grow(self.masks[j], 2), pose)
            if not (unmasked & where).any():
                continue
            warped = cv2.warpPerspective(
                self._level[j], pose, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
            )
            pictures.append(np.asarray(warped, np.uint8))
            free.append(unmasked)
        return Samples(pictures, free)

    def _flowing(self, k: int, order: Sequence[int], where: Bool) -> Samples:
        """Other frames brought into frame `k` by flow."""
        views = [
            aligned(self._level[k], self.masks[k], self._level[j], self.masks[j], self.camera.between(j, k))
            for j in order
        ]
        useful = [(picture, free) for picture, free in views if (free & where).any()]
        return Samples([picture for picture, _ in useful], [free for _, free in useful])

    def _check(self, k: int, probe: Bool, samples: Samples) -> float | None:
        """PSNR (dB) of recovery on pixels that the frame itself shows, at the reference's exposure."""
        if probe.sum() < FEWEST_CHECKED:
            return None
        found = recover(probe, samples, MOVING_NEAREST)
        if found.recovered.sum() < FEWEST_CHECKED:
            return None
        return psnr_db(found.picture, self._level[k], found.recovered)


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
