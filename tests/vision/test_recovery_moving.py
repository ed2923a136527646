"""Recovery behind a camera that moves: aligned below a pixel, sharp, and silent where the views contradict."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.camera import Camera
from bglora.vision.metrics import psnr_db
from bglora.vision.plates import Plate, ShotPlates
from tests.vision import drawn

COUNT = 12


def panned(step: float, kind: str = "pan") -> Camera:
    """The camera of a drawn shot that moves to the right by `step` pixels a frame."""
    poses = np.repeat(np.eye(3)[None], COUNT, 0)
    poses[:, 0, 2] = step * (np.arange(COUNT) - COUNT // 2)
    return Camera(kind, poses, COUNT // 2, abs(step) * COUNT)  # type: ignore[arg-type]


def grown(masks: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.dilate(m.astype(np.uint8), np.ones((3, 3))) > 0 for m in masks]


def recovered(shot: drawn.Drawn, camera: Camera, k: int) -> Plate:
    masks = grown([o | s for o, s in zip(shot.objects, shot.shadows, strict=True)])
    return ShotPlates(shot.frames, list(range(COUNT)), masks, camera, np.ones((COUNT, 3))).plate(k)[0]


def energy(picture: np.ndarray, where: np.ndarray) -> float:
    inner = cv2.erode(where.astype(np.uint8), np.ones((3, 3))) > 0
    return float((cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[inner] ** 2).mean())


def test_a_pan_by_parts_of_pixels_gives_back_what_was_there_as_sharp_as_it_was() -> None:
    shot = drawn.shot(71, COUNT, pan=3.37, noise=1.0)
    plate = recovered(shot, panned(3.37), 5)
    where = plate.provenance == 1
    assert where.sum() > 0.98 * (plate.provenance > 0).sum()
    assert psnr_db(plate.picture, shot.clean[5], where) > 36
    assert 0.75 < energy(plate.picture, where) / energy(shot.clean[5], where) < 1.25


def test_a_pose_that_is_a_little_off_is_bent_right() -> None:
    shot = drawn.shot(72, COUNT, pan=3.0, noise=1.0)
    plate = recovered(shot, panned(2.9), 5)
    where = plate.provenance == 1
    assert psnr_db(plate.picture, shot.clean[5], where) > 34


def test_frames_of_a_traveling_camera_are_brought_to_one_exposure() -> None:
    """The reference knows no gains here; a cloud darkens every second frame."""
    shot = drawn.shot(73, COUNT, pan=2.0, noise=1.0)
    for k in range(1, COUNT, 2):
        shot.frames[k] = np.rint(shot.frames[k] * 0.88).astype(np.uint8)
    plate = recovered(shot, panned(2.0, "unknown"), 4)
    where = plate.provenance == 1
    assert where.sum() > 0.8 * (plate.provenance > 0).sum()
    assert psnr_db(plate.picture, shot.clean[4], where) > 33


def test_views_that_contradict_are_not_trusted() -> None:
    """Behind the figure every frame shows something else: no answer is recovered there."""
    shot = drawn.shot(74, COUNT, pan=2.0, noise=1.0)
    rng = np.random.default_rng(3)
    hole = grown(shot.objects)[5]
    for k in range(COUNT):
        if k != 5:
            move = np.array([[1, 0, -2.0 * (k - 5)], [0, 1, 0]], np.float32)
            there = cv2.warpAffine(hole.astype(np.uint8), move, (drawn.WIDTH, drawn.HEIGHT)) > 0
            shot.frames[k][there & ~shot.objects[k]] = rng.integers(0, 255, 3)
    plate = recovered(shot, panned(2.0, "parallax"), 5)
    inner = cv2.erode(hole.astype(np.uint8), np.ones((9, 9))) > 0
    assert (plate.provenance[inner] == 1).mean() < 0.1 and (plate.provenance[inner] == 3).mean() > 0.5
