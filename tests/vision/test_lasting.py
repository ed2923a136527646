"""Shade beside somebody who stays in place, on drawn shots: it is never taken for the background behind it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import grow
from bglora.vision.camera import still_camera
from bglora.vision.lasting import told_shade
from bglora.vision.plates import Plate, ShotPlates
from bglora.vision.recovery import RECOVERED, UNTRUSTED
from tests.vision import drawn

COUNT = 12
FAR_LEFT, FAR_RIGHT = 4, 1
"""Frames in which he sways farthest to either side."""
TOP, BOTTOM, LEFT, RIGHT = 24, 124, 110, 150
"""Body of who stands there, while he is in the middle."""


@dataclass(frozen=True)
class Stays:
    frames: list[np.ndarray]
    clean: np.ndarray
    bodies: list[np.ndarray]
    shade: np.ndarray

    def plate(self, k: int, told: np.ndarray | None = None, masks: list[np.ndarray] | None = None) -> Plate:
        removed = masks or [grow(body, 2) for body in self.bodies]
        numbers, still = list(range(COUNT)), still_camera(COUNT)
        return ShotPlates(self.frames, numbers, removed, still, np.ones((COUNT, 3)), told).plate(k)[0]


def stays(wide: int, tops: int, strength: float = 0.35, far: float = 5.0) -> Stays:
    """Somebody sways by `far` pixels; from row `tops` on `wide` pixels to the left of him lie in shade."""
    rng = np.random.default_rng(5)
    clean = np.empty((drawn.HEIGHT, drawn.WIDTH, 3), np.float32)
    clean[:] = (150, 120, 90)
    clean += cv2.GaussianBlur(rng.standard_normal(clean.shape).astype(np.float32), (0, 0), 2) * 24
    clean[70:90] *= (0.6, 1.1, 1.3)
    depth = np.zeros(clean.shape[:2], np.float32)
    depth[tops:BOTTOM, LEFT - wide : RIGHT] = strength
    depth = cv2.GaussianBlur(depth, (0, 0), 2.5)
    frames, bodies = [], []
    for k in range(COUNT):
        left = round(far * np.sin(1.1 * k))
        body = np.zeros(depth.shape, bool)
        body[TOP:BOTTOM, LEFT + left : RIGHT + left] = True
        picture = clean * (1 - depth[..., None]) + rng.normal(0, 1.0, clean.shape)
        picture[body] = (40, 60, 210)
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        bodies.append(body)
    return Stays(frames, np.clip(clean, 0, 255), bodies, depth > 0.1)


def beside(rows: slice, columns: slice) -> np.ndarray:
    area = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
    area[rows, columns] = True
    return area


def share(plate: Plate, where: np.ndarray, provenance: int) -> float:
    inside = where & (plate.provenance > 0)
    assert inside.sum() > 30
    return float((plate.provenance == provenance)[inside].mean())


def test_shade_that_ends_farther_out_is_not_trusted_beside_the_lower_half() -> None:
    plate = stays(wide=8, tops=60).plate(FAR_LEFT)
    left = beside(slice(78, 102), slice(0, LEFT))
    assert share(plate, left, UNTRUSTED) > 0.9


def test_what_is_not_trusted_for_shade_keeps_what_the_frames_show() -> None:
    shot = stays(wide=8, tops=60)
    plate = shot.plate(FAR_LEFT)
    left = beside(slice(78, 102), slice(0, LEFT)) & (plate.provenance == UNTRUSTED)
    shown = np.median([frame[left] for frame in shot.frames], axis=0)
    assert np.abs(plate.picture[left].astype(float) - shown).mean() < 12


def test_beside_the_upper_half_and_where_nothing_is_darker_samples_are_believed() -> None:
    shot = stays(wide=8, tops=60)
    assert share(shot.plate(FAR_LEFT), beside(slice(TOP, 60), slice(0, LEFT)), RECOVERED) > 0.95
    assert share(shot.plate(FAR_RIGHT), beside(slice(78, 100), slice(RIGHT + 3, drawn.WIDTH)), RECOVERED) > 0.9


def test_at_the_feet_nothing_is_trusted() -> None:
    plate = stays(wide=0, tops=100, strength=0.0).plate(FAR_LEFT)
    assert share(plate, beside(slice(108, BOTTOM), slice(0, LEFT)), UNTRUSTED) > 0.95


def test_where_masks_tell_the_shade_what_lies_beyond_it_is_believed() -> None:
    shot = stays(wide=40, tops=60)
    values = [np.where(body, 255, np.where(shot.shade, 128, 0)).astype(np.uint8) for body in shot.bodies]
    told = np.any([told_shade(value) for value in values], axis=0)
    moving = [value.copy() for value in values]
    for k, value in enumerate(moving):  # the shade's edge moves with him
        value[60:BOTTOM, 60 : 66 + round(5 * np.sin(1.1 * k))] = 128
    masks = [value > 0 for value in moving]
    edge = beside(slice(108, BOTTOM), slice(58, 68))
    assert share(shot.plate(0, told, masks), edge, RECOVERED) > 0.9
    assert share(shot.plate(0, None, masks), edge, RECOVERED) < 0.1


def test_a_margin_around_an_object_tells_no_shade() -> None:
    body = beside(slice(TOP, BOTTOM), slice(LEFT, RIGHT))
    mask = np.where(body, 255, np.where(grow(body, 6), 128, 0)).astype(np.uint8)
    assert not told_shade(mask).any()


def test_somebody_who_goes_far_enough_away_leaves_nothing_in_doubt() -> None:
    shot = stays(wide=8, tops=60, far=12.0)
    plate = shot.plate(FAR_LEFT)
    assert share(plate, beside(slice(78, BOTTOM), slice(0, LEFT - 7)), UNTRUSTED) < 0.1
