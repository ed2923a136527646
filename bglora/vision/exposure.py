"""Exposure of frames relative to a reference frame: a gain per channel, found where both show the same."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool
from bglora.vision.camera import Camera

SNAP = 0.006
"""Gains nearer to 1 than this are 1: they are measuring noise, and undoing them would cost rounding."""


def estimate_gains(frames: Sequence[U8], camera: Camera, ignore: Sequence[Bool] | None = None) -> NDArray[np.float64]:
    """Gains (N, 3) by which each frame is brighter than the reference frame, per RGB channel.

    The median ratio over a blurred quarter-size picture where neither frame is near black or white: characters cover
    less than half of it. Frames that share too little with the reference get 1. Pixels to `ignore` (holes of imported
    layers) don't count.
    """
    gains = np.ones((len(frames), 3))
    small = [_small(frame) for frame in frames]
    height, width = frames[0].shape[:2]
    scale = np.diag([small[0].shape[1] / width, small[0].shape[0] / height, 1.0])
    reference = small[camera.reference]
    usable = [np.ones(p.shape[:2], bool) if ignore is None else _seen(ignore[k], p) for k, p in enumerate(small)]
    for k, picture in enumerate(small):
        if k == camera.reference:
            continue
        inside = usable[k]
        if camera.kind != "still":
            pose = scale @ camera.to_reference[k] @ np.linalg.inv(scale)
            size = (picture.shape[1], picture.shape[0])
            inside = cv2.warpPerspective(inside.astype(np.uint8), pose, size) > 0
            picture = np.asarray(cv2.warpPerspective(picture, pose, size, flags=cv2.INTER_LINEAR), np.float32)
        gains[k] = _ratio(picture, reference, inside & usable[camera.reference])
    return np.ones_like(gains) if np.abs(gains - 1).max() < SNAP else gains


def _small(frame: U8) -> F32:
    picture = cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (5, 5), 1.0), np.float32)


def _seen(ignore: Bool, small: F32) -> Bool:
    part = cv2.resize(ignore.astype(np.float32), (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.dilate(part, np.ones((5, 5), np.uint8)) == 0)


def _ratio(picture: F32, reference: F32, inside: np.ndarray) -> NDArray[np.float64]:
    ratio = np.ones(3)
    for c in range(3):
        a, b = picture[..., c], reference[..., c]
        good = inside & (a > 20) & (b > 20) & (a < 235) & (b < 235)
        if good.sum() >= 200:
            ratio[c] = float(np.median(a[good] / b[good]))
    return np.clip(ratio, 0.25, 4.0)


def leveled(frame: U8, gain: NDArray[np.float64]) -> U8:
    """The frame brought to the reference's exposure, rounded and clipped to uint8."""
    if np.all(gain == 1):
        return frame
    return np.asarray(np.clip(np.rint(frame / gain.astype(np.float32)), 0, 255), np.uint8)


def matched(picture: U8, target: U8, shared: Bool) -> U8:
    """The picture at the target's exposure, by what both show in `shared` (bool (H, W)); else unchanged.

    For pictures seen from elsewhere, whose frames have no exposure relative to a common reference.
    """
    gain = _ratio(picture[shared].astype(np.float32), target[shared].astype(np.float32), np.ones(1, bool))
    return picture if np.abs(gain - 1).max() < SNAP else leveled(picture, gain)
