"""One fill for a whole shot: what was guessed for one frame is shown in the others, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.camera import Camera
from bglora.vision.structure import around, as_bytes

Fill = Callable[[U8, Bool], U8]


SEAM = 6
"""Pixels around a carried guess whose brightness is compared with the frame's own."""
SEAM_REACH = 8.0
"""Standard deviation (pixels) over which a difference found there fades into the guess."""
SEAM_MOST = 16.0
"""Grey levels by which a guess may be corrected at its seam; more is no exposure but another content."""


@dataclass(frozen=True)
class _Guess:
    """What was guessed in frame `frame`: a cut-out at `corner` (x, y) at the reference's exposure, and which pixels."""

    frame: int
    corner: tuple[int, int]
    level: F32
    guessed: Bool


@dataclass
class ShotFill:
    """Remembers the guesses of a shot at the reference's exposure and carries them to the frames that follow.

    A guess is always carried from the frame it was made in, so it is resampled once however long the shot is, and the
    first guess of a place is the one that all frames show.

    Attributes:
        camera, gains: of the frames that are filled.
    """

    camera: Camera
    gains: NDArray[np.float64]
    _made: list[_Guess] = field(default_factory=list)

    def apply(self, k: int, picture: U8, hole: Bool, fill: Fill) -> U8:
        """Frame `k`'s picture with the hole filled: by what was guessed before where there is something, else anew.

        Args:
            picture: uint8 (H, W, 3), true outside the hole. hole: bool (H, W). fill: makes a new guess.
        """
        gain = self.gains[k].astype(np.float32)
        out, rest = picture.copy(), hole.copy()
        for guess in self._made:
            if not rest.any():
                break
            rest &= ~self._carry(guess, k, out, rest, hole, gain)
        if rest.any():
            out = fill(out, rest)
            self._made.append(_cut_out(k, out, rest, gain))
        return out

    def _carry(self, guess: _Guess, k: int, out: U8, rest: Bool, hole: Bool, gain: F32) -> Bool:
        """Writes a guess into `out` where it covers the rest of the hole; returns what it covered."""
        box = around(rest, 2 * SEAM)
        view, covered = np.asarray(rest[box]), np.zeros_like(rest)
        height, width = view.shape
        shift = np.array([[1, 0, guess.corner[0]], [0, 1, guess.corner[1]], [0, 0, 1]], np.float64)
        back = np.array([[1, 0, -box[1].start], [0, 1, -box[0].start], [0, 0, 1]], np.float64)
        still = self.camera.kind == "still" or guess.frame == k
        pose = back @ (np.eye(3) if still else self.camera.between(guess.frame, k)) @ shift
        valid = np.ones(guess.guessed.shape, np.uint8)

        def seen(values: np.ndarray, way: int) -> np.ndarray:
            return np.asarray(cv2.warpPerspective(values, pose, (width, height), flags=way))

        # A pixel more where the camera moves: what is beside a guess is true, and rounding leaves no thin gaps.
        shown = grow(guess.guessed, 0 if still else 1)
        take = view & (seen(shown.astype(np.uint8), cv2.INTER_NEAREST) > 0)
        if not take.any():
            return covered
        level = seen(guess.level, cv2.INTER_NEAREST if still else cv2.INTER_CUBIC).astype(np.float32)
        if not still:
            ring = grow(take, SEAM) & ~hole[box] & (seen(valid, cv2.INTER_NEAREST) > 0)
            level += seam(out[box].astype(np.float32) / gain - level, ring)
        out[box][take] = as_bytes(level * gain)[take]
        covered[box] = take
        return covered


def _cut_out(k: int, picture: U8, guessed: Bool, gain: F32) -> _Guess:
    # Around the guess the frame's own pixels, so that carrying it on interpolates into picture, not into black.
    box = around(guessed, 2 * SEAM)
    return _Guess(k, (box[1].start, box[0].start), picture[box].astype(np.float32) / gain, np.asarray(guessed[box]))


def seam(difference: F32, ring: Bool) -> F32:
    """What to add to a guess so that it joins the picture: the difference on the ring, faded into the inside."""
    weight = ring.astype(np.float32)
    amount = cv2.GaussianBlur(np.clip(difference, -SEAM_MOST, SEAM_MOST) * weight[..., None], (0, 0), SEAM_REACH)
    total = cv2.GaussianBlur(weight, (0, 0), SEAM_REACH)
    return np.asarray(amount / (total + 0.02)[..., None], np.float32)
