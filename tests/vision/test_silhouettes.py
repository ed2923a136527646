"""Limbs that look like a shadow of what is behind them belong to somebody; soft shade beside him doesn't."""

import cv2
import numpy as np

from bglora.vision.arrays import Bool
from bglora.vision.background import Background
from bglora.vision.difference import noise
from bglora.vision.foreground import Foreground, foreground

SIZE = (140, 200)


def _found(limb: Bool, halo: float, exact: bool = True) -> tuple[Foreground, Bool]:
    """Somebody gray before a dark door, with a limb before a pale wall that is `halo` grey levels darker around it."""
    behind = np.full((*SIZE, 3), 208, np.float32)
    behind[:, 60:120] = (40, 50, 90)
    somebody = np.zeros(SIZE, bool)
    somebody[30:110, 70:122] = True
    around = cv2.dilate(limb.astype(np.uint8), np.ones((35, 35), np.uint8)) > 0
    frame = behind - np.where(around & (behind[..., 0] > 100), np.float32(halo), np.float32(0))[..., None]
    frame[somebody | limb] = (118, 125, 136)
    picture = np.rint(cv2.GaussianBlur(frame, (0, 0), 0.7)).astype(np.uint8)
    background = Background(behind, np.full(SIZE, 1.6, np.float32), np.full(SIZE, 20, np.uint8))
    return foreground(picture, background, allowed=noise(background, 0.05), min_area=40, exact=exact), somebody


def test_a_limb_that_looks_like_a_shadow_is_somebodys_though_soft_shade_lies_around_it() -> None:
    limb = np.zeros(SIZE, bool)
    limb[50:56, 118:132] = True
    found, somebody = _found(limb, halo=20)
    beside = limb & ~somebody
    assert (found.objects & beside).sum() > 0.7 * beside.sum()
    parallax, _ = _found(limb, halo=20, exact=False)
    assert (parallax.objects & beside).sum() < 0.5 * beside.sum(), "what is put in the wrong place is nobody's"
    shade = ~(cv2.dilate((somebody | limb).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    assert (found.objects & shade).sum() < 0.05 * somebody.sum()
