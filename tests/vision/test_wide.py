"""Wide plates: a drawn panorama, of which every plate shows a part, comes back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bglora.vision.metrics import psnr_db
from bglora.vision.wide import WidePlate, largest_rectangle, stitch
from tests.vision import drawn

STEPS = np.linspace(0, 200, 9)


def panorama() -> np.ndarray:
    return drawn.texture(71, drawn.HEIGHT, drawn.WIDTH + 200).round().astype(np.uint8)


def views(gains: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Plates of a camera that slides over the panorama, and their poses on it."""
    wide = panorama()
    poses = np.stack([np.array([[1, 0, step], [0, 1, 0], [0, 0, 1.0]]) for step in STEPS])
    pictures = []
    for pose, gain in zip(poses, gains, strict=True):
        view = cv2.warpPerspective(wide, np.linalg.inv(pose), (drawn.WIDTH, drawn.HEIGHT), flags=cv2.INTER_LANCZOS4)
        pictures.append(np.clip(np.rint(view * gain), 0, 255).astype(np.uint8))
    return pictures, poses


def part_of_panorama(wide: WidePlate) -> np.ndarray:
    """Where the wide plate lies in the panorama, found by matching; the same size."""
    found = cv2.matchTemplate(panorama(), wide.picture, cv2.TM_SQDIFF)
    _, _, (x, y), _ = cv2.minMaxLoc(found)
    height, width = wide.picture.shape[:2]
    return panorama()[y : y + height, x : x + width]


@pytest.mark.parametrize("flicker", [0.0, 0.08])
def test_a_slide_gives_back_the_panorama_sharp_and_leveled(flicker: float) -> None:
    gains = 1 + flicker * np.random.default_rng(5).uniform(-1, 1, (9, 3))
    plates, poses = views(gains)
    wide = stitch(plates, [np.zeros(plates[0].shape[:2], np.uint8)] * 9, poses, gains)
    assert wide is not None and wide.picture.shape[1] > drawn.WIDTH + 190
    assert wide.picture.shape[0] >= drawn.HEIGHT - 4
    truth = part_of_panorama(wide).astype(np.float64) * gains[wide.anchor]
    everywhere = np.ones(wide.picture.shape[:2], bool)
    assert psnr_db(np.clip(truth, 0, 255).round().astype(np.uint8), wide.picture, everywhere) > 38
    sharp = [cv2.Laplacian(p.astype(np.float32), cv2.CV_32F).var() for p in (wide.picture, truth)]
    assert 0.9 < sharp[0] / sharp[1] < 1.1


def test_guesses_give_way_to_what_another_plate_shows() -> None:
    plates, poses = views(np.ones((9, 3)))
    origin = [np.zeros(plates[0].shape[:2], np.uint8) for _ in plates]
    for k in (3, 4, 5):
        plates[k][40:80, 100:120], origin[k][40:80, 100:120] = (255, 0, 255), 2
    wide = stitch(plates, origin, poses, np.ones((9, 3)))
    assert wide is not None
    assert (wide.provenance < 2).all()
    assert not (wide.picture == (255, 0, 255)).all(-1).any()


def test_what_no_plate_shows_stays_a_guess() -> None:
    plates, poses = views(np.ones((9, 3)))
    origin = [np.zeros(plates[0].shape[:2], np.uint8) for _ in plates]
    for k, step in enumerate(STEPS):
        left = int(200 - step)
        origin[k][60:70, max(0, left) : max(0, left + 12)] = 2
    wide = stitch(plates, origin, poses, np.ones((9, 3)))
    assert wide is not None and 60 < (wide.provenance == 2).sum() < 400


def test_a_camera_at_rest_gives_nothing_wider() -> None:
    plates, _ = views(np.ones((9, 3)))
    still = np.repeat(np.eye(3)[None], 9, 0)
    assert stitch([plates[0]] * 9, [np.zeros(plates[0].shape[:2], np.uint8)] * 9, still, np.ones((9, 3))) is None


def test_the_largest_rectangle_is_found() -> None:
    covered = np.zeros((40, 60), bool)
    covered[5:30, 10:50] = True
    covered[0:40, 20:24] = True
    covered[20, 30] = False
    top, left, bottom, right = largest_rectangle(covered)
    assert covered[top:bottom, left:right].all()
    assert (top, left, bottom, right) == (5, 10, 20, 50)
