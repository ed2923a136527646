"""What the samples of a pixel agree upon: the background, and how much it moves by itself.

The mode of the samples, not their median: a slow walker covers a pixel more than half of the time. After that mean and
deviation of the samples outside the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, largest_channel

AGREE = 10
"""Grey levels (largest channel, 3 x 3 blurred) within which two samples show the same."""
MODE_SAMPLES = 32
FLOOR = 1.6
"""Deviation that video compression leaves at least, in grey levels."""

FAR_WIDTH = 128
FAR_SHARE, FAR_LEAST = 0.35, 6
"""Share of a pixel's samples, and how many at least, that are taken while objects are farthest from it."""


@dataclass(frozen=True)
class Background:
    """A background model in the coordinates of one frame.

    Attributes:
        mean: float32 (H, W, 3), grey levels at the reference's exposure.
        deviation: float32 (H, W), largest channel, not below `FLOOR`.
        seen: uint8 (H, W), how many samples it rests on (0: unknown).
    """

    mean: F32
    deviation: F32
    seen: U8

    def inside(self, box: tuple[slice, slice]) -> Background:
        """The part of it in a box."""
        return Background(self.mean[box], self.deviation[box], self.seen[box])


def agreed(samples: Sequence[U8], valid: Sequence[Bool | None]) -> U8:
    """Index of the sample that most others agree with, per pixel: uint8 (H, W).

    Args:
        samples: pictures in the same coordinates and exposure.
        valid: per sample where it shows the picture; None: everywhere.
    """
    soft = [cv2.blur(sample, (3, 3)) for sample in samples]
    count = len(soft)
    votes = np.zeros((count, *soft[0].shape[:2]), np.uint8)
    for a in range(count):
        for b in range(a + 1, count):
            near = cv2.compare(largest_channel(cv2.absdiff(soft[a], soft[b])), AGREE, cv2.CMP_LE)
            for mask in (valid[a], valid[b]):
                if mask is not None:
                    near = cv2.bitwise_and(near, mask.astype(np.uint8) * 255)
            one = cv2.bitwise_and(near, 1)
            cv2.add(votes[a], one, dst=votes[a])
            cv2.add(votes[b], one, dst=votes[b])
    for a in range(count):
        mask = valid[a]
        votes[a] += 1
        if mask is not None:
            votes[a][~mask] = 0
    return np.asarray(votes.argmax(0), np.uint8)


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` indices evenly spread over `count`."""
    if count <= limit:
        return list(range(count))
    return sorted({round(k * (count - 1) / (limit - 1)) for k in range(limit)})


def first_background(samples: Sequence[U8], valid: Sequence[Bool | None]) -> Background:
    """The background by agreement alone, before any mask is known."""
    chosen = spread(len(samples), MODE_SAMPLES)
    some = [samples[k] for k in chosen]
    winner = agreed(some, [valid[k] for k in chosen])
    core = np.zeros_like(some[0])
    for k, sample in enumerate(some):
        np.copyto(core, sample, where=(winner == k)[..., None])
    soft = cv2.blur(core, (3, 3))
    weights = []
    for sample, mask in zip(samples, valid, strict=True):
        near = largest_channel(cv2.absdiff(cv2.blur(sample, (3, 3)), soft)) <= AGREE
        weights.append(near if mask is None else near & mask)
    return _statistics(samples, weights, core)


def masked_background(samples: Sequence[U8], unmasked: Sequence[Bool]) -> Background:
    """Mean and deviation of the samples outside the masks; `seen` is 0 where none is left."""
    return _statistics(samples, unmasked, None)


def farthest(objects: Sequence[Bool], free: Sequence[Bool]) -> list[Bool]:
    """Of the free samples of each pixel those of the frames in which objects are farthest from it.

    A character's shade is near the character: the samples taken while it was far away show the background without it.

    Args:
        objects, free: per sample bool (H, W), in the coordinates of the background.
    """
    height, width = free[0].shape
    scale = min(1.0, FAR_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    away = np.stack([_distance(solid, unmasked, size) for solid, unmasked in zip(objects, free, strict=True)])
    keep = max(FAR_LEAST, round(FAR_SHARE * len(free)))
    enough = np.sort(away, axis=0)[max(0, len(free) - keep)]
    return [
        unmasked
        & (
            cv2.resize(
                (far >= np.maximum(enough, 1)).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
            )
            > 0
        )
        for far, unmasked in zip(away, free, strict=True)
    ]


def _distance(solid: Bool, unmasked: Bool, size: tuple[int, int]) -> U8:
    """Distance to the nearest object in small pixels, at most 255; 0 where the sample is masked."""
    near = cv2.resize(solid.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    free = cv2.resize(unmasked.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    if not near.any():
        return np.asarray(free * 255, np.uint8)
    away = cv2.distanceTransform((~near).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(np.where(free > 0, np.clip(away, 1, 254), 0), np.uint8)


def _statistics(samples: Sequence[U8], weights: Sequence[Bool], core: U8 | None) -> Background:
    shape = samples[0].shape
    total = np.zeros(shape, np.float32)
    square = np.zeros(shape, np.float32)
    seen = np.zeros(shape[:2], np.uint8)
    for sample, weight in zip(samples, weights, strict=True):
        inside = weight.astype(np.uint8)
        cv2.accumulate(sample, total, mask=inside)
        cv2.accumulateSquare(sample, square, mask=inside)
        cv2.add(seen, inside, dst=seen)
    count = np.maximum(seen, 1).astype(np.float32)[..., None]
    mean = total / count
    variance = largest_channel(np.maximum(square / count - mean * mean, 0))
    few = np.sqrt(variance * (seen / np.maximum(seen - 1.0, 1.0)).astype(np.float32))
    deviation = np.maximum(cv2.GaussianBlur(cv2.dilate(few, np.ones((3, 3), np.uint8)), (7, 7), 2.0), FLOOR)
    nothing = seen == 0
    if core is not None:
        mean[nothing] = core[nothing]
    return Background(mean, deviation.astype(np.float32), seen)
