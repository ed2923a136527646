"""Backgrounds that move by themselves: one moment where nothing comes back, the nearest where change is slow."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.camera import still_camera
from bglora.vision.moments import Moment, from_moments
from bglora.vision.plates import ShotPlates
from tests.vision import drawn

SHAPE = (40, 60)
HOLE = np.zeros(SHAPE, bool)
HOLE[10:30, 20:40] = True


def swept(offset: int) -> np.ndarray:
    """Where a moment is free: somebody walks on by 4 px a frame."""
    free = np.ones(SHAPE, bool)
    left = 20 + 4 * offset
    free[:, max(0, left) : max(0, left + 20)] = False
    return free


def filled(pictures: dict[int, np.ndarray]) -> np.ndarray:
    moments = [Moment(pictures[t], swept(t), t) for t in sorted(pictures, key=abs) if t]
    picture = np.zeros((*SHAPE, 3), np.float32)
    target = pictures[0].copy()
    target[HOLE] = 0
    assert from_moments(picture, HOLE, target, ~HOLE, moments)[HOLE].all()
    return picture


def test_ripples_that_never_come_back_are_taken_from_one_moment() -> None:
    rng = np.random.default_rng(5)
    pictures = {t: (125 + 25 * np.sign(rng.normal(0, 1, (*SHAPE, 3)))).astype(np.uint8) for t in range(-8, 9)}
    picture = filled(pictures)
    moments = [pictures[t] for t in pictures if np.abs(picture - pictures[t])[HOLE].max() <= 12.5]
    assert len(moments) == 1, "the whole hole shows one frame, shifted by no more than a soft difference"


def test_slow_change_is_taken_from_the_nearest_moment_of_each_pixel() -> None:
    pictures = {t: np.full((*SHAPE, 3), 120 + 3 * t, np.uint8) for t in range(-8, 9)}
    assert np.abs(filled(pictures) - 120)[HOLE].max() <= 6, "not the 15 levels of the first frame that shows it all"


def test_water_keeps_its_sharpness_behind_somebody() -> None:
    shot = drawn.shot(91, 16, water=True, place=lambda k, n: (150 + 4.0 * k, 100), noise=0.5)
    masks = [
        cv2.dilate((o | s).astype(np.uint8), np.ones((3, 3))) > 0
        for o, s in zip(shot.objects, shot.shadows, strict=True)
    ]
    plates = ShotPlates(shot.frames, list(range(16)), masks, still_camera(16), np.ones((16, 3)))
    pool = np.zeros(masks[0].shape, bool)
    pool[-56:, -96:] = True
    plate, _ = plates.plate(8)
    where = cv2.erode((pool & (plate.provenance == 1)).astype(np.uint8), np.ones((3, 3))) > 0
    energy = [float((cv2.Laplacian(p, cv2.CV_32F)[where] ** 2).mean()) for p in (plate.picture, shot.clean[8])]
    assert where.sum() > 500 and 0.7 < energy[0] / energy[1] < 1.4
