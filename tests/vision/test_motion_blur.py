"""Whether what moves is blurred by its motion is told for a whole shot, and its edges are cut accordingly."""

import cv2
import numpy as np
import pytest

from bglora.vision.camera import still_camera
from bglora.vision.motion import MotionModel

SIZE, COUNT = (108, 192), 12
FRONT = np.array([45, 50, 60], np.float32)


def _disk(x: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return np.asarray(np.clip(20.5 - np.hypot(columns - x, rows - 54), 0, 1)[..., None])


def _shot(moments: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A dark disk before a pale wall, seen for so many moments a frame; and where it covers half of them."""
    rng = np.random.default_rng(3)
    wall = 205 + 6 * cv2.resize(rng.normal(0, 1, (27, 48)).astype(np.float32), SIZE[::-1])[..., None]
    frames, there = [], []
    for k in range(COUNT):
        covers = [_disk(20 + 14 * k + j) for j in range(moments)]
        light = np.mean([cover * FRONT**2.2 + (1 - cover) * wall**2.2 for cover in covers], axis=0)
        grain = rng.normal(0, 1.2, (*SIZE, 3))
        frames.append(np.clip(light ** (1 / 2.2) + grain, 0, 255).round().astype(np.uint8))
        there.append(np.mean(covers, axis=0)[..., 0] > 0.45)
    return frames, there


@pytest.mark.parametrize(("moments", "least"), [(1, 0.97), (9, 0.92)])
def test_edges_are_cut_where_somebody_covers_half_of_the_time(moments: int, least: float) -> None:
    """The blurred disk's overlap is 0.907 where the shot is taken for a sharp one."""
    frames, there = _shot(moments)
    model = MotionModel(frames, still_camera(COUNT), np.ones((COUNT, 3)), 30)
    found = [one.objects for one in model.masks(lambda *_: None)]
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(found, there, strict=True)]
    assert np.mean(overlap) > least
