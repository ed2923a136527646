"""What kind of camera a shot has, and where its frames lie."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bglora.vision.camera import estimate_camera
from bglora.vision.exposure import estimate_gains
from tests.vision import drawn


def test_still_camera_stays_still_although_somebody_large_walks_through() -> None:
    camera = estimate_camera(drawn.shot(61, 8, radius=(34, 46)).frames)
    assert camera.kind == "still" and np.array_equal(camera.to_reference[0], np.eye(3))


def test_pan_is_measured_to_a_tenth_of_a_pixel_over_its_whole_length() -> None:
    camera = estimate_camera(drawn.shot(62, 12, pan=3.0).frames)
    assert camera.kind == "pan"
    assert abs(camera.between(0, 11)[0, 2] + 33.0) < 0.3
    assert abs(camera.between(5, 6)[0, 2] + 3.0) < 0.1


def test_zoom_is_a_pan_and_near_things_against_far_ones_are_parallax() -> None:
    far, near = drawn.texture(63).astype(np.uint8), drawn.texture(64).astype(np.uint8)
    zoomed, travel = [], []
    for k in range(10):
        grow = cv2.getRotationMatrix2D((128, 72), 0, 1 + 0.012 * k)
        zoomed.append(cv2.warpAffine(far, grow, (256, 144), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
        picture = cv2.warpAffine(far, np.float32([[1, 0, -k], [0, 1, 0]]), (256, 144), borderMode=cv2.BORDER_REFLECT)
        front = cv2.warpAffine(
            near, np.float32([[1, 0, -3.5 * k], [0, 1, 0]]), (256, 144), borderMode=cv2.BORDER_REFLECT
        )
        picture[72:] = front[72:]
        travel.append(picture)
    assert estimate_camera(zoomed).kind == "pan"
    assert estimate_camera(travel).kind in ("parallax", "unknown")


@pytest.mark.parametrize("speeds", [(0.5, 0.8, 1.5), (1.0, 2.0, 5.0)])
def test_camera_that_travels_past_near_and_far_things_does_not_pan(speeds: tuple[float, float, float]) -> None:
    assert estimate_camera(drawn.traveled(61, speeds=speeds).frames).kind != "pan"


def test_parallax_far_below_a_pixel_is_a_pan() -> None:
    assert estimate_camera(drawn.traveled(61, speeds=(3.0, 3.02, 3.04)).frames).kind == "pan"


def test_somebody_large_who_glides_stiffly_through_a_pan_is_no_depth() -> None:
    wide, coat = drawn.texture(61, width=drawn.WIDTH + 56), drawn.texture(70)
    frames = []
    for k in range(16):
        picture = cv2.warpAffine(wide, np.float32([[1, 0, -3 * k], [0, 1, 0]]), (drawn.WIDTH, drawn.HEIGHT))
        moved = cv2.warpAffine(coat, np.float32([[1, 0, 1.5 * k], [0, 1, 0]]), (drawn.WIDTH, drawn.HEIGHT))
        body = drawn.figure((90 + 1.5 * k, 80), (36, 56))[..., None]
        frames.append(np.rint(picture * (1 - body) + moved * body).astype(np.uint8))
    assert estimate_camera(frames).kind == "pan"


def test_unrelated_pictures_can_not_be_followed() -> None:
    camera = estimate_camera([drawn.texture(70 + k).astype(np.uint8) for k in range(6)])
    assert camera.kind == "unknown" and camera.reason


def test_flat_pictures_and_single_frames_are_no_trouble() -> None:
    assert estimate_camera([np.full((60, 80, 3), 90, np.uint8)] * 5).kind == "still"
    assert estimate_camera([drawn.texture(65).astype(np.uint8)]).kind == "still"


def test_gain_of_each_frame_is_found_beside_a_walker() -> None:
    shot = drawn.shot(66, 9, flicker=0.15)
    gains = estimate_gains(shot.frames, estimate_camera(shot.frames))
    truth = 1 + 0.15 * np.sin(np.arange(9) * 1.7)
    assert np.abs(gains / (truth / truth[4])[:, None] - 1).max() < 0.01


def test_noise_alone_is_no_change_of_exposure() -> None:
    shot = drawn.shot(67, 6, noise=3.0)
    assert (estimate_gains(shot.frames, estimate_camera(shot.frames)) == 1).all()
