"""Outlines lie where a pixel is half somebody, in shade and in light; colors of a shot tell somebody from his shade."""

import cv2
import numpy as np

from bglora.vision.appearance import ColorLearner
from bglora.vision.edges import LIGHT, SHUTTER_LIGHT, alpha_matte, ramps

SIZE = (96, 128)


def _disk(center: tuple[int, int], radius: int, soft: float) -> np.ndarray:
    """Coverage of a disk, float32 (H, W) in 0 to 1, blurred."""
    cover = cv2.circle(np.zeros(SIZE, np.float32), center, radius, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), soft))


def _share_wrong(alpha: np.ndarray, cover: np.ndarray) -> float:
    return float(((alpha > 0.5) != (cover > 0.5)).sum() / (cover > 0.5).sum())


def test_an_outline_in_shade_is_found_though_the_background_is_lit() -> None:
    cover = _disk((64, 48), 24, 1.5)
    behind = np.full((*SIZE, 3), 200, np.float32)
    front = np.array([60, 40, 30], np.float32)
    frame = cover[..., None] * front + (1 - cover[..., None]) * behind * 0.45
    alpha = alpha_matte(np.rint(frame).astype(np.uint8), behind, cover > 0.3)
    lit = alpha_matte(np.rint(frame).astype(np.uint8), behind, cover > 0.3, shaded=False)
    assert _share_wrong(alpha, cover) < 0.02
    assert _share_wrong(lit, cover) > 0.08


def test_dark_and_bright_mix_as_light() -> None:
    cover = _disk((64, 48), 24, 2.0)
    behind, front = np.full((*SIZE, 3), 230, np.float32), np.array([30, 30, 30], np.float32)
    light = cover[..., None] * front**2.2 + (1 - cover[..., None]) * behind**2.2
    frame = np.rint(light ** (1 / 2.2)).astype(np.uint8)
    mixed = _share_wrong(alpha_matte(frame, behind, cover > 0.5), cover)
    plain = _share_wrong(alpha_matte(frame, behind, cover > 0.5, shaded=False), cover)
    assert mixed < plain


def _passed(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark disk that moves by `steps` pixels while the shutter is open: frame, background and coverage."""
    covers = [_disk((52 + k, 48), 20, 0.7) for k in range(steps)]
    behind, front = np.full((*SIZE, 3), 220, np.float32), np.array([40, 40, 40], np.float32)
    light = np.mean([c[..., None] * front**2.2 + (1 - c[..., None]) * behind**2.2 for c in covers], 0)
    return np.rint(light ** (1 / 2.2)).astype(np.uint8), behind, np.mean(covers, 0)


def test_motion_blur_makes_broad_ramps() -> None:
    shares = []
    for steps in (1, 12):
        frame, behind, cover = _passed(steps)
        broad, all_ = ramps(frame, behind, cover > 0.5)
        shares.append(broad / all_)
    assert shares[0] < 0.2
    assert shares[1] > 0.6


def test_a_rim_that_motion_blurs_is_cut_where_half_of_the_light_is() -> None:
    frame, behind, cover = _passed(9)
    wrong = [
        _share_wrong(alpha_matte(frame, behind, cover > 0.45, shaded=True, light=light), cover)
        for light in (LIGHT, SHUTTER_LIGHT)
    ]
    assert wrong[1] < 0.6 * wrong[0]


def test_a_shots_light_and_its_characters_are_told_apart_by_color_alone() -> None:
    learner = ColorLearner()
    behind = np.zeros((*SIZE, 3), np.float32)
    behind[:, :64], behind[:, 64:] = (210, 190, 150), (120, 160, 210)
    frame = behind.copy()
    somebody, shade = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    somebody[10:50, 40:100], shade[60:90, 20:110] = True, True
    frame[somebody], frame[shade] = (120, 60, 60), frame[shade] * 0.5
    picture = np.rint(frame).astype(np.uint8)
    learner.add(picture, behind, somebody, shade)
    colors = learner.colors()
    assert colors is not None
    look = colors.look_evidence(picture, behind)
    inner = np.asarray(cv2.erode(somebody.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)
    assert (look[inner] > 1).all()
    assert (look[66:84, 70:104] < -1).all()
