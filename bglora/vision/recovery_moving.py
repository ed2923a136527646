"""Recovery where the camera moves: other frames brought into this one, in a box around its hole.

For cameras of the kinds pan, parallax and unknown; `recovery_still` serves those at rest.

Many registered samples are averaged, which takes noise away and, with it, some sharpness: every sample was resampled
between pixels. How much is measured where the frame itself shows what the samples predict, around the hole, and given
back there by an unsharp mask of that strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around, gray, grow, largest_channel
from bglora.vision.camera import Camera
from bglora.vision.exposure import matched
from bglora.vision.flow import aligned
from bglora.vision.metrics import psnr_db
from bglora.vision.recovery import AGREE, Recovery, Samples, recover

AROUND = 40
"""Pixels around hole and probe that are looked at, too."""
SOURCES = {"pan": 12, "parallax": 14, "unknown": 12}
NEAREST = {"pan": 12, "parallax": 4, "unknown": 4}
ENOUGH = 4
"""Samples per pixel from which no farther frame is asked."""
EDGE_SLOPE = {"pan": 0.35}
"""Share of a pixel's local range that samples may differ by: edges fall between pixels differently in every frame."""
MOST_SPREAD = {"pan": 18.0, "parallax": 9.0}
"""Grey levels by which all samples may lie off the answer; where a camera travels that is how wrong flow shows."""
RING = 14
FEWEST_CHECKED = 50
"""Pixels below which a check says nothing."""
MOST_SHARPENING = 1.5
SHARPNESS = 0.87
"""Energy of the second derivative to reach, as a share of what the frame has around the hole: the rest is noise."""

Box = tuple[slice, slice]


@dataclass(frozen=True)
class MovingRecovery:
    """Recovers the holes of a shot whose camera moves.

    Attributes:
        level: uint8 (H, W, 3) per frame, at one exposure. masks: removal masks bool (H, W).
        numbers: frame numbers, ascending. camera: kind pan, parallax or unknown.
    """

    level: Sequence[U8]
    masks: Sequence[Bool]
    numbers: Sequence[int]
    camera: Camera

    def recover(self, k: int, probe: Bool) -> tuple[Recovery, float | None]:
        """Recovers the hole of frame `k`.

        Args:
            probe: bool (H, W), pixels that the frame shows itself; the recovery is checked there.

        Returns:
            The recovery, and its PSNR (dB) on the probe; None where too little of it is recovered.
        """
        hole = self.masks[k]
        box = around(hole | probe, AROUND)
        target, inside = self.level[k][box], hole[box]
        samples, plain = self._samples(k, box, inside | probe[box])
        if not samples.pictures:
            nothing = np.zeros_like(hole)
            return Recovery(np.zeros((*hole.shape, 3), np.float32), nothing, hole, nothing), None
        # A camera that turns and travels a little passes for one that turns; what the views say here decides.
        kind = "pan" if self.camera.kind == "pan" and plain else "parallax"
        tolerance = _tolerance(samples, EDGE_SLOPE.get(kind, 0.0))
        found = recover(inside | probe[box], samples, NEAREST[kind], tolerance, MOST_SPREAD[kind])
        picture = _sharpened(found, target, inside, samples)
        checked = found.recovered & probe[box]
        good = psnr_db(picture, target, checked) if checked.sum() >= FEWEST_CHECKED else None
        return _in_whole(found, picture, inside, box, hole.shape), good

    def _samples(self, k: int, box: Box, where: Bool) -> tuple[Samples, bool]:
        """Other frames seen from frame `k` within the box, nearest in time first; whether homographies explain them."""
        kind = self.camera.kind
        order = sorted(
            (j for j in range(len(self.level)) if j != k), key=lambda j: abs(self.numbers[j] - self.numbers[k])
        )
        move = np.array([[1, 0, -box[1].start], [0, 1, -box[0].start], [0, 0, 1]], np.float64)
        target, hole = self.level[k][box], self.masks[k][box]
        known = ~grow(hole, 2)
        pictures: list[U8] = []
        free: list[Bool] = []
        plain = 0
        seen = np.zeros(where.shape, np.uint8)
        for j in order:
            lacking = where & (seen < (NEAREST[kind] if len(pictures) < SOURCES[kind] else ENOUGH))
            if not lacking.any() or len(pictures) >= 2 * SOURCES[kind]:
                break
            pose = move @ self.camera.between(j, k)
            view = aligned(target, hole, self.level[j], self.masks[j], pose)
            if view is None or not (view.free & lacking).any():
                continue
            pictures.append(matched(view.picture, target, view.free & known))
            free.append(view.free)
            seen += view.free
            plain += view.plain
        return Samples(pictures, free), 2 * plain > len(pictures)


def _tolerance(samples: Samples, slope: float) -> F32 | float:
    """Grey levels within which two samples show the same: float, or (H, W) where it depends on edges."""
    if slope == 0 or not samples.pictures:
        return AGREE
    kernel = np.ones((3, 3), np.uint8)
    ranges = [largest_channel(cv2.morphologyEx(p, cv2.MORPH_GRADIENT, kernel)) for p in samples.pictures[:5]]
    return np.asarray(AGREE + slope * np.mean(ranges, axis=0), np.float32)


def _sharpened(found: Recovery, target: U8, hole: Bool, samples: Samples) -> F32:
    """The recovered picture with the sharpness that averaging took, as measured around the hole; float32 (H, W, 3)."""
    mean, known = _mean(samples)
    answered = found.recovered | found.untrusted
    whole = np.where(answered[..., None], found.picture, np.where(hole[..., None], mean, target))
    whole = whole.astype(np.float32)
    ring = grow(hole, RING) & ~grow(hole, 3) & known
    if ring.sum() < FEWEST_CHECKED:
        return whole
    lost = mean - cv2.GaussianBlur(mean, (0, 0), 1.0)
    strength = _strength(*(cv2.Laplacian(gray(p), cv2.CV_32F)[ring] for p in (mean, lost, target)))
    return whole + strength * (whole - cv2.GaussianBlur(whole, (0, 0), 1.0))


def _strength(soft: F32, lost: F32, sharp: F32) -> float:
    """How much of `lost` must be added to `soft` for `SHARPNESS` of the energy of `sharp` (all (N,) Laplacians)."""
    a, b, c = (float((p * q).sum()) for p, q in ((lost, lost), (soft, lost), (soft, soft)))
    missing = SHARPNESS * float((sharp * sharp).sum()) - c
    if missing <= 0 or a <= 0:
        return 0.0
    return min((np.sqrt(b * b + a * missing) - b) / a, MOST_SHARPENING)


def _mean(samples: Samples) -> tuple[F32, Bool]:
    """Mean (H, W, 3) of the free samples, and where there is one."""
    total = np.zeros(samples.pictures[0].shape, np.float32)
    count = np.zeros(total.shape[:2], np.float32)
    for picture, free in zip(samples.pictures, samples.free, strict=True):
        cv2.accumulate(np.ascontiguousarray(picture), total, mask=free.astype(np.uint8))
        count += free
    return np.asarray(total / np.maximum(count, 1)[..., None], np.float32), np.asarray(count >= 2)


def _in_whole(found: Recovery, picture: F32, hole: Bool, box: Box, shape: tuple[int, ...]) -> Recovery:
    """The part of a recovery in the box that lies in the hole, in the whole frame."""
    whole = np.zeros((*shape, 3), np.float32)
    whole[box] = picture
    parts = []
    for part in (found.recovered, found.unseen, found.untrusted):
        full = np.zeros(shape, bool)
        full[box] = part & hole
        parts.append(full)
    return Recovery(whole, *parts)
