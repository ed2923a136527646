"""The background that the frames of a still camera agree upon, found once for the whole shot.

For cameras at rest only: `recovery_still` takes it first, and `margins` and `lasting` say what of it can't be believed.

Per pixel the median of the samples from frames whose character stands farthest away (what a mask misses of a shadow or
of a soft rim lies beside the character), then the mean of the samples that agree with it. Pixels whose samples don't
agree well over the whole shot (something was put down, a door opened) are left to a search near each frame in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool

CHUNK = 16_384
REACH = 120.0
"""Pixels from a mask beyond which a sample is as good as any: soft shadows end there."""
AGREE_SHARE = 0.7
"""Share of all samples that must agree for one answer to hold for the whole shot."""
FEWEST = 3
TIGHT = 6.0
"""Grey levels (largest channel) within which samples differ by noise alone."""


@dataclass(frozen=True)
class Agreement:
    """What holds for a whole shot, at the reference's exposure.

    Attributes:
        picture: float32 (H, W, 3), meaningful where `known`.
        known: bool (H, W), the samples agree over the whole shot.
        seen: uint8 (H, W), in how many frames a pixel is free (counted within the asked area only, 255 at most).
        share: float32 (H, W), the weight of each of the samples that `picture` is the mean of.
        deviation: float32 (H, W), grey levels by which the samples farthest from the masks differ from one another.
    """

    picture: F32
    known: Bool
    seen: U8
    share: F32
    deviation: F32


def agreement(pictures: Sequence[U8], free: Sequence[Bool], where: Bool, agree: float) -> Agreement:
    """Finds the pixels of `where` whose free samples agree over the whole shot.

    Args:
        pictures: uint8 (H, W, 3) at one exposure. free: bool (H, W) per picture, where it shows background.
        where: bool (H, W). agree: grey levels (largest channel) within which two samples show the same.
    """
    shape = where.shape
    picture, known, seen = np.zeros((*shape, 3), np.float32), np.zeros(shape, bool), np.zeros(shape, np.uint8)
    out = Agreement(picture, known, seen, np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    ys, xs = np.nonzero(where)
    if not len(ys):
        return out
    away = [_distance(mask) for mask in free]
    for start in range(0, len(ys), CHUNK):
        y, x = ys[start : start + CHUNK], xs[start : start + CHUNK]
        values = np.stack([picture[y, x] for picture in pictures], 1)
        distance = np.stack([part[y, x] for part in away], 1)
        found = _agreed(values, distance, agree)
        out.picture[y, x], out.known[y, x], out.seen[y, x] = found.picture, found.known, found.seen
        out.share[y, x], out.deviation[y, x] = found.share, found.deviation
    return out


def _distance(free: Bool) -> U8:
    """Pixels to the mask, rounded up (0 under it), up to `REACH`."""
    if free.all():
        return np.full(free.shape, REACH, np.uint8)
    away = cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(np.minimum(np.ceil(away), REACH), np.uint8)


def _agreed(values: U8, distance: U8, agree: float) -> Agreement:
    """The answer for P pixels with samples (P, N, 3) at distances (P, N) from the masks; its fields are (P, ...)."""
    present = distance > 0
    seen = present.sum(1)
    far = _far_half(distance, present, seen)
    middle = _median(values, far)
    away = np.abs(values.astype(np.int16) - middle[:, None]).max(2)
    near = (away <= agree) & present
    known = (near.sum(1) >= np.maximum(FEWEST, AGREE_SHARE * seen)) | ((seen == 2) & (near.sum(1) == 2))
    close = far & (away <= TIGHT)
    few = close.sum(1) < 2
    close[few] = (near & far)[few]
    total = np.maximum(close.sum(1), 1).astype(np.float32)
    mean = np.einsum("pnc,pn->pc", values.astype(np.float32), close.astype(np.float32)) / total[:, None]
    square = (np.where(far, away, 0).astype(np.float32) ** 2).sum(1)
    deviation = np.sqrt(square / np.maximum(far.sum(1), 1))
    return Agreement(mean, known, np.minimum(seen, 255).astype(np.uint8), 1 / total, deviation)


def _far_half(distance: U8, present: Bool, seen: np.ndarray) -> Bool:
    """The half of the present samples (three at least) farthest from the masks; all that are equally far, too."""
    rank = np.sort(distance, axis=1)[:, ::-1]
    last = np.clip(np.maximum((seen + 1) // 2, 3), 1, distance.shape[1]) - 1
    limit = np.take_along_axis(rank, last[:, None], 1)
    return present & (distance >= np.maximum(limit, 1))


def _median(values: U8, use: Bool) -> np.ndarray:
    """The lower median over the samples in use, int16 (P, 3); zero where there is none."""
    count = use.sum(1)
    flat = np.where(use[:, None, :], values.transpose(0, 2, 1), np.uint8(255))
    flat.sort(axis=2)
    place = np.maximum((count - 1) // 2, 0)
    middle = np.take_along_axis(flat, np.broadcast_to(place[:, None, None], (len(flat), 3, 1)), 2)[..., 0]
    return np.asarray(np.where(count[:, None] > 0, middle, 0), np.int16)
