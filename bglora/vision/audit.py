"""Does something of a character remain? Judged from frames and plates, whoever made the masks.

Two signs. The plates of a shot show one background: what is in one plate and not in the others at the same place moves,
and what moves and is no restless background (water, leaves: it moves everywhere around) is suspicious. And a mask that
cuts through somebody leaves a fringe: pixels beside the hole that look like what was taken out rather than like what
was put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, close_gaps, grow, largest_channel, shrink, without_specks
from bglora.vision.background import spread
from bglora.vision.camera import Camera

COMPARED = 9
DIFFERENT = 28.0
"""Grey levels at quarter size by which a moving remainder differs."""
SMALLEST = 0.0006
"""Share of the picture that a remainder has at least."""
STILL_MOVING = 0.004
"""Share of a plate that may differ from the shot's other plates."""
TAKEN_OUT = 20.0
"""Grey levels by which a removed pixel differs from the plate where somebody was taken out."""
ALIKE, APART = 14.0, 12.0
"""A pixel of the fringe is this near to what was taken out, and by so much further from what was put there."""
BAND, REACH = 4, 8
"""Pixels within the outline that are compared, and how far from a pixel."""
MISSING = 999.0
FEWEST_RING = 60
FRINGE, SHOT_FRINGE = 0.12, 0.02
"""Share of the pixels around a plate's holes, and of a shot's in the mean, that may look like what was taken out:
one plate may end in something of the same color, a shot that was cut through shows it in every plate."""


@dataclass(frozen=True)
class Leak:
    """What may remain of a character in a plate.

    Attributes:
        moving: share of the plate (0 to 1) that differs from what the shot's other plates show there.
        fringe: share of the pixels around its holes (0 to 1) that look like what was taken out.
        words: why a character may be left in it, for people; empty where nothing speaks for it.
    """

    moving: float
    fringe: float
    words: str


def leaks(
    frames: Sequence[U8],
    removed: Sequence[Bool],
    plates: Sequence[U8],
    camera: Camera,
    gains: NDArray[np.float64],
) -> list[Leak]:
    """Judges the plates of frames that were looked at together.

    Args:
        frames: uint8 (H, W, 3). removed: bool (H, W), what was to be taken out of each. plates: the finished plates.
        camera, gains: of these frames.
    """
    moving = audit(plates, camera, gains)
    fringes = [fringe(*three) for three in zip(frames, removed, plates, strict=True)]
    known = [share for share in fringes if share is not None]
    everywhere = float(np.mean(known)) if known else 0.0
    return [
        Leak(share, cut or 0.0, _words(share, cut or 0.0, everywhere if where.any() else 0.0))
        for share, cut, where in zip(moving, fringes, removed, strict=True)
    ]


def _words(moving: float, cut: float, everywhere: float) -> str:
    if moving > STILL_MOVING:
        return f"a character may be left in it: {moving:.1%} of the plate still moves"
    if cut > FRINGE:
        return f"a character may be left in it: {cut:.0%} of the pixels around the hole look like what was taken out"
    if everywhere > SHOT_FRINGE:
        return (
            "a character may be left in the shot: "
            f"{everywhere:.0%} of the pixels around the holes of its plates look like what was taken out"
        )
    return ""


def fringe(frame: U8, removed: Bool, plate: U8) -> float | None:
    """Share of the pixels around the holes that look like what was taken out rather than like what was put there.

    None where the holes are too small to tell, or nothing that differs was taken out.
    """
    before, after = (np.asarray(cv2.blur(p.astype(np.float32), (3, 3)), np.float32) for p in (frame, plate))
    somebody = removed & (largest_channel(np.abs(before - after)) > TAKEN_OUT)
    somebody = without_specks(close_gaps(somebody, 2) & removed, FEWEST_RING)
    ring = grow(removed, 3) & ~grow(removed, 1)
    ys, xs = np.nonzero(ring)
    like = _nearest(before, before, somebody & ~shrink(somebody, BAND), ys, xs)
    unlike = _nearest(before, after, shrink(removed, 1), ys, xs)
    known = (like < MISSING) & (unlike < MISSING)
    if known.sum() < FEWEST_RING:
        return None
    cut = np.zeros_like(removed)
    cut[ys, xs] = known & (like < ALIKE) & (unlike > 2 * like + APART)
    return float(without_specks(cut, 8).sum() / known.sum())


def _nearest(
    picture: F32, other: F32, where: Bool, ys: NDArray[np.int64], xs: NDArray[np.int64]
) -> NDArray[np.float32]:
    """How far (grey levels) each pixel is from the nearest color of `other` around it, among the pixels `where`.

    `MISSING` where there are none within `REACH` pixels.
    """
    height, width = where.shape
    own = picture[ys, xs]
    best = np.full(len(ys), MISSING, np.float32)
    for dy in range(-REACH, REACH + 1, 2):
        for dx in range(-REACH, REACH + 1, 2):
            y, x = np.clip(ys + dy, 0, height - 1), np.clip(xs + dx, 0, width - 1)
            away = np.where(where[y, x], np.abs(other[y, x] - own).max(1), MISSING)
            best = np.minimum(best, away.astype(np.float32))
    return best


def audit(plates: Sequence[U8], camera: Camera, gains: NDArray[np.float64]) -> list[float]:
    """Share of each plate (0 to 1) that differs from what the other plates show there.

    Args:
        plates: uint8 (H, W, 3) of one shot. camera, gains: of these plates.
    """
    if len(plates) < 3 or camera.kind in ("parallax", "unknown"):
        return [0.0] * len(plates)
    small = [_small(plate, gain) for plate, gain in zip(plates, gains, strict=True)]
    height, width = plates[0].shape[:2]
    scale = np.diag([small[0].shape[1] / width, small[0].shape[0] / height, 1.0])
    chosen = spread(len(small), COMPARED)
    if camera.kind == "still":
        stack = np.stack([small[k] for k in chosen])
        middle, shimmer = np.median(stack, 0), _shimmer(stack)
        return [_share(picture, middle, shimmer, None) for picture in small]
    return [_moving(small, k, camera, scale) for k in range(len(small))]


def _small(plate: U8, gain: NDArray[np.float64]) -> F32:
    picture = cv2.resize(plate, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(picture / gain.astype(np.float32), (3, 3), 0.8), np.float32)


def _shimmer(stack: NDArray[np.float32]) -> F32:
    """How much most plates differ among each other, grey levels: the background's own movement."""
    spread_ = np.percentile(stack, 80, axis=0) - np.percentile(stack, 20, axis=0)
    return np.asarray(cv2.dilate(largest_channel(spread_.astype(np.float32)), np.ones((3, 3), np.uint8)), np.float32)


def _share(picture: F32, middle: F32, shimmer: F32, valid: Bool | None) -> float:
    away = largest_channel(np.abs(picture - middle.astype(np.float32))) > DIFFERENT + 2 * shimmer
    if valid is not None:
        away &= valid
    return float(without_specks(away, max(3, int(SMALLEST * away.size))).mean())


def _moving(small: list[F32], k: int, camera: Camera, scale: NDArray[np.float64]) -> float:
    height, width = small[k].shape[:2]
    order = sorted((j for j in range(len(small)) if j != k), key=lambda j: abs(j - k))[: COMPARED - 1]
    stack, valid = [small[k]], [np.ones((height, width), bool)]
    for j in order:
        pose = scale @ camera.between(j, k) @ np.linalg.inv(scale)
        inner = np.zeros((height, width), np.uint8)
        inner[1:-1, 1:-1] = 1
        valid.append(cv2.warpPerspective(inner, pose, (width, height), flags=cv2.INTER_NEAREST) > 0)
        stack.append(np.asarray(cv2.warpPerspective(small[j], pose, (width, height)), np.float32))
    count = np.stack(valid).sum(0)
    pictures = np.where(np.stack(valid)[..., None], np.stack(stack), np.inf)
    pictures.sort(axis=0)
    low, middle, high = (_ranked(pictures, (count - 1) * share) for share in (0.2, 0.5, 0.8))
    shimmer = cv2.dilate(largest_channel(high - low), np.ones((3, 3), np.uint8))
    return _share(small[k], middle, np.asarray(shimmer), count >= 4)


def _ranked(ordered: NDArray[np.float32], rank: NDArray[np.float64]) -> F32:
    """The sample of a given rank per pixel from sorted samples (N, H, W, 3)."""
    index = np.rint(rank).astype(np.int64)[None, ..., None]
    return np.asarray(np.take_along_axis(ordered, np.broadcast_to(index, (1, *ordered.shape[1:])), 0)[0], np.float32)
