"""Real background from other frames of the shot, for the pixels that a mask takes away.

Every answer is one of three: recovered (enough samples agree), never revealed (no sample shows it), not trusted
(samples disagree). Samples are averaged, so that a recovered pixel carries less noise than the film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bglora.vision.arrays import F32, Bool

AGREE = 14.0
"""Grey levels (largest channel) within which two samples show the same."""
NEAREST = 15
CHUNK = 20_000

ORIGINAL, RECOVERED, GUESSED, UNTRUSTED = 0, 1, 2, 3
"""Provenance of a plate's pixel."""


@dataclass(frozen=True)
class Samples:
    """Other frames in the coordinates and exposure of the frame to mend, nearest in time first.

    Attributes:
        pictures: float32 or uint8 (H, W, 3). free: bool (H, W), valid and unmasked.
    """

    pictures: Sequence[np.ndarray]
    free: Sequence[Bool]


@dataclass(frozen=True)
class Recovery:
    """What was found for a hole; `recovered`, `unseen`, `untrusted` (bool (H, W)) part it.

    The picture, float32 (H, W, 3), is meaningful where `recovered`, and the best there is where `untrusted`; in the
    part `agreed` of those (None: nowhere) the samples agree, and only what they show is in doubt.
    """

    picture: F32
    recovered: Bool
    unseen: Bool
    untrusted: Bool
    agreed: Bool | None = None


def recover(
    hole: Bool,
    samples: Samples,
    nearest: int = NEAREST,
    agree: float | F32 = AGREE,
    most_spread: float = np.inf,
) -> Recovery:
    """Recovers the pixels of `hole` from the samples.

    A pixel is recovered from the largest group of its `nearest` free samples that agree, if that has at least two
    members and at least half of them. A single sample is not trusted.

    Args:
        agree: grey levels within which two samples agree, one number or per pixel (H, W).
        most_spread: grey levels (root mean square, largest channel) by which all samples, also those outside the
            group, may lie off its mean: what the geometry of the views leaves open shows there.
    """
    height, width = hole.shape
    picture = np.zeros((height, width, 3), np.float32)
    recovered, unseen = np.zeros_like(hole), np.zeros_like(hole)
    ys, xs = np.nonzero(hole)
    for start in range(0, len(ys), CHUNK):
        y, x = ys[start : start + CHUNK], xs[start : start + CHUNK]
        values, present = _gather(samples, y, x, nearest)
        mean, size, available = _largest_group(values, present, agree if isinstance(agree, float) else agree[y, x])
        good = (size >= 2) & (2 * size >= available)
        if np.isfinite(most_spread):
            good &= _spread(values, present, mean) <= most_spread
        picture[y, x] = mean
        recovered[y[good], x[good]] = True
        unseen[y[available == 0], x[available == 0]] = True
    return Recovery(picture, recovered, unseen, hole & ~recovered & ~unseen)


def _gather(samples: Samples, y: np.ndarray, x: np.ndarray, nearest: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `nearest` free samples of each pixel: values float32 (K, P, 3) and presence bool (K, P)."""
    values = np.zeros((nearest, len(y), 3), np.float32)
    count = np.zeros(len(y), np.int64)
    for picture, free in zip(samples.pictures, samples.free, strict=True):
        take = np.nonzero(free[y, x] & (count < nearest))[0]
        values[count[take], take] = picture[y[take], x[take]]
        count[take] += 1
    return values, np.arange(nearest)[:, None] < count[None]


def _largest_group(values: np.ndarray, present: np.ndarray, agree: float | F32) -> tuple[F32, np.ndarray, np.ndarray]:
    """Mean (P, 3) and size (P,) of the largest group around one sample; number of samples (P,)."""
    total = len(values)
    votes = np.zeros(present.shape, np.int16)
    near = np.zeros((total, total, values.shape[1]), bool)
    for a in range(total):
        near[a, a] = present[a]
        for b in range(a + 1, total):
            both = (np.abs(values[a] - values[b]).max(1) <= agree) & present[a] & present[b]
            near[a, b] = near[b, a] = both
    votes = near.sum(1)
    best = votes.argmax(0)
    group = near[best, :, np.arange(values.shape[1])].T
    size = group.sum(0)
    mean = (values * group[..., None]).sum(0) / np.maximum(size, 1)[:, None]
    return mean.astype(np.float32), size, present.sum(0)


def _spread(values: np.ndarray, present: np.ndarray, mean: F32) -> np.ndarray:
    """Root mean square (P,) of the largest channel by which the samples (K, P, 3) lie off the mean (P, 3)."""
    square = (values - mean[None]) ** 2 * present[..., None]
    return np.asarray(np.sqrt((square.sum(0) / np.maximum(present.sum(0), 1)[:, None]).max(1)))
