"""Homographies refined on pictures."""

import cv2
import numpy as np

from bglora.vision.registration import refined

SIZE = (240, 160)


def _scene() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 255, (SIZE[1] // 4, SIZE[0] // 4, 3), np.uint8)
    return cv2.GaussianBlur(cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC), (0, 0), 1.0)


def _off(pose: np.ndarray, true: np.ndarray) -> float:
    corners = np.array([[[0, 0], [SIZE[0], 0], [0, SIZE[1]], list(SIZE)]], np.float64)
    return float(np.abs(cv2.perspectiveTransform(corners, pose) - cv2.perspectiveTransform(corners, true)).max())


TRUE = np.array([[1.02, 0.01, 3.4], [-0.008, 0.99, -2.3], [2e-5, -1e-5, 1.0]])
ROUGH = np.array([[1, 0, 0.9], [0, 1, -0.7], [0, 0, 1.0]]) @ TRUE


def _pair() -> tuple[np.ndarray, np.ndarray]:
    source = _scene()
    return source, cv2.warpPerspective(source, TRUE, SIZE, flags=cv2.INTER_CUBIC)


def _everywhere() -> tuple[np.ndarray, np.ndarray]:
    source = np.zeros((SIZE[1], SIZE[0]), bool)
    source[3:-3, 3:-3] = True
    return np.ones_like(source), source


def test_rough_pose_becomes_right_to_a_tenth_of_a_pixel() -> None:
    source, target = _pair()
    known, free = _everywhere()
    pose = refined(target, known, source, free, ROUGH)
    assert _off(ROUGH, TRUE) > 0.8
    assert _off(pose, TRUE) < 0.1


def test_exposure_and_something_that_moves_by_itself_do_not_pull() -> None:
    source, target = _pair()
    target = np.clip(target * 0.8, 0, 255).astype(np.uint8)
    target[40:90, 60:120] = np.roll(target, 2, axis=1)[40:90, 60:120]
    known, free = _everywhere()
    assert _off(refined(target, known, source, free, ROUGH), TRUE) < 0.2


def test_flat_pictures_leave_the_pose_as_it_is() -> None:
    flat = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    known, free = _everywhere()
    assert np.array_equal(refined(flat, known, flat, free, ROUGH), ROUGH)


def test_pictures_of_different_places_leave_the_pose_as_it_is_or_nearly() -> None:
    source, _ = _pair()
    known, free = _everywhere()
    other = source[::-1, ::-1].copy()
    pose = refined(other, known, source, free, ROUGH)
    assert _off(pose, ROUGH) <= 0.03 * SIZE[0] + 1
