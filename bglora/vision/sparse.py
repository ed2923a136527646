"""A hole guessed from few waves: what makes the blocks over its rim simplest is what most likely lies in it.

Iterated denoising (Guleryuz 2006: nonlinear approximation based image recovery using adaptive sparse reconstructions):
overlapping blocks are transformed by the discrete cosine transform, weak coefficients are dropped, and what the
remaining ones show takes the hole's place, again and again with a falling threshold, coarse to fine. Blocks that know
much count more than blocks that lie in the hole themselves, so content grows in from the rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.sparse import csr_matrix

from bglora.vision.arrays import F32, Bool, around
from bglora.vision.structure import depth, enlarged, half

OVERLAP = 4
"""Blocks lie a quarter of their side apart, so that each pixel is in sixteen of them."""
ROUNDS = 36
"""Thresholds on the coarsest level; half as many on every other."""
STRONG, MIDDLE, WEAK = 1.5, 1.2, 0.5
"""Thresholds per pixel of a block's side: at first, at first on a finer level, at last."""
LEAST_KNOWN = 0.01
"""Trust in a block without any known pixel, against 1 for one that is nearly all known."""
LEVELS = 3
AFFORDABLE = 48000
"""Pixels of a hole up to which it is guessed in full size, else in the half."""


def sparse(picture: F32, hole: Bool, side: int, first: F32) -> F32:
    """The hole filled so that blocks of `side` x `side` pixels need few cosine coefficients.

    Args:
        picture: float32 (H, W, 3), 0 to 255; the hole's content is not read. hole: bool (H, W), not everything.
        side: of a block, pixels, a multiple of 4: short ones follow detail, long ones carry lines further.
        first: float32 (H, W, 3), a guess to start from. Waves alone do not find a slanting line again; they keep one.
    """
    out = picture.copy()
    if not hole.any():
        return out
    box = around(hole, 3 * side)
    levels = _pyramid(picture[box], hole[box], side)
    guess: F32 | None = None
    for known, inside in reversed(levels):
        start = known.copy()
        if guess is None:
            height, width = inside.shape
            start[inside] = cv2.resize(first[box], (width, height), interpolation=cv2.INTER_AREA)[inside]
            thresholds = np.geomspace(STRONG * side, WEAK * side, ROUNDS)
        else:
            start[inside] = enlarged(guess, inside.shape)[inside]
            thresholds = np.geomspace(MIDDLE * side, WEAK * side, ROUNDS // 2)
        guess = start if int(inside.sum()) > AFFORDABLE else _Blocks.over(inside, side).simplified(start, thresholds)
    assert guess is not None
    out[hole] = guess[hole[box]]
    return out


def _pyramid(picture: F32, hole: Bool, side: int) -> list[tuple[F32, Bool]]:
    """Finest first, down to where the middle of the hole lies in the same block as its rim."""
    blank = picture.copy()
    blank[hole] = 0
    levels = [(blank, hole)]
    while len(levels) < LEVELS or float(depth(levels[-1][1]).max()) > side / 2:
        small, inside = half(*levels[-1])
        if not inside.any() or inside.all() or min(inside.shape) < 2 * side:
            break
        levels.append((small, inside))
    return levels


@dataclass(frozen=True)
class _Blocks:
    """The blocks that meet a hole, in a picture with a margin of one block.

    Blocks are held as (side, N, side), rows first: both transforms are then one product of two matrices.

    Attributes:
        at: int64 (side * N * side), their pixels in the flat picture. filled: int64, the hole's. spread: float32 sparse
            (pixels of the hole, side * N * side), 1 where a block's pixel is the hole's. member: float32 sparse
            (pixels of the hole, N), 1 where a block has the pixel. trust: float32 (N).
    """

    hole: Bool
    side: int
    margins: tuple[int, int, int, int]
    filled: NDArray[np.int64]
    at: NDArray[np.int64]
    spread: csr_matrix
    member: csr_matrix
    trust: F32

    @classmethod
    def over(cls, hole: Bool, side: int) -> _Blocks:
        step = side // OVERLAP
        margins = (side, side + -hole.shape[0] % step, side, side + -hole.shape[1] % step)
        wide = cv2.copyMakeBorder(hole.astype(np.uint8), *margins, cv2.BORDER_CONSTANT)
        height, width = wide.shape
        sums = cv2.integral(wide)
        ys, xs = (np.arange(0, length - side + 1, step) for length in wide.shape)
        low, high = sums[ys][:, xs] - sums[ys + side][:, xs], sums[ys][:, xs + side] - sums[ys + side][:, xs + side]
        unknown = low - high
        row, column = np.nonzero(unknown)
        k = np.arange(side)
        at = (k[:, None, None] * width + (ys[row] * width + xs[column])[:, None] + k).ravel()
        filled = np.flatnonzero(wide)
        number = np.full(height * width, -1, np.int64)
        number[filled] = np.arange(len(filled))
        into = number[at]
        inside = np.flatnonzero(into >= 0)
        into, ones = into[inside], np.ones(len(inside), np.float32)
        spread = csr_matrix((ones, (into, inside)), (len(filled), len(at)))
        member = csr_matrix((ones, (into, inside // side % len(row))), (len(filled), len(row)))
        trust = 1 - unknown[row, column] / side**2 + LEAST_KNOWN
        return cls(hole, side, margins, filled, at, spread, member, np.asarray(trust, np.float32))

    def simplified(self, picture: F32, thresholds: NDArray[np.float64]) -> F32:
        """The picture with the hole's content replaced once per threshold (grey levels, orthonormal transform)."""
        flat = [
            cv2.copyMakeBorder(channel, *self.margins, cv2.BORDER_REFLECT_101).ravel() for channel in cv2.split(picture)
        ]
        for threshold in thresholds:
            for channel in flat:
                channel[self.filled] = self._voted(channel, float(threshold))
        out = picture.copy()
        out[self.hole] = np.stack([channel[self.filled] for channel in flat], 1)
        return out

    def _voted(self, channel: F32, threshold: float) -> F32:
        waves = np.asarray(dct(np.eye(self.side), axis=0, norm="ortho"), np.float32)
        found = self._turned(channel[self.at], waves)
        keep = np.abs(found) > threshold
        keep[0, :, 0] = True
        weight = np.asarray(self.trust / keep.view(np.uint8).sum(0, dtype=np.uint16).sum(1), np.float32)
        found *= keep
        found *= weight[:, None]
        return np.asarray(
            self.spread @ self._turned(found, np.ascontiguousarray(waves.T)).ravel() / (self.member @ weight),
            np.float32,
        )

    def _turned(self, blocks: F32, by: F32) -> F32:
        """`by` times each block times `by` transposed."""
        half_way = by @ blocks.reshape(self.side, -1)
        return np.asarray((half_way.reshape(-1, self.side) @ by.T).reshape(self.side, -1, self.side), np.float32)
