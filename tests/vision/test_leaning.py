"""What leans in over the border of a place that moves by itself, on drawn shots: a leaf, or somebody?"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from bglora.backends.masks.motion import MotionMasks
from bglora.vision.leaning import leaning_parts
from tests.vision import drawn

COUNT = 16
GREEN, COAT = (60, 140, 40), (225, 40, 50)


def leaf(k: int) -> float:
    """Pixels by which it comes in: out of the picture before the shot ends."""
    return 11 * np.cos(1.5 * k / 13)


def scene(
    deep: Callable[[int], float] = leaf, color: tuple[int, int, int] = GREEN, others: bool = True, low: int = 110
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Frames, objects, and what leans in at the left border from row `low` on."""
    frames, objects, leaning = [], [], []
    for k in range(COUNT):
        picture = np.full((drawn.HEIGHT, drawn.WIDTH, 3), 150, np.uint8)
        body = np.zeros(picture.shape[:2], bool)
        if others:
            x = 30 + 12 * k
            body[40:80, x : x + 20] = True
            picture[body] = COAT
        part = np.zeros_like(body)
        part[low : low + 18, : max(0, round(deep(k)))] = True
        picture[part] = color
        frames.append(picture)
        objects.append(body | part)
        leaning.append(part)
    return frames, objects, leaning


def test_a_leaf_that_leans_in_is_the_place_s_own_and_the_walker_is_not() -> None:
    frames, objects, leaning = scene()
    found = leaning_parts(frames, objects)
    assert all(np.array_equal(a, b) for a, b in zip(found, leaning, strict=True))


@pytest.mark.parametrize(
    ("deep", "color", "others", "low"),
    [
        (leaf, COAT, True, 110),
        (lambda k: 4.0 * k, GREEN, True, 110),
        (lambda k: 11.0 - 3 * k, GREEN, True, 110),
        (leaf, GREEN, False, 110),
        (lambda k: 11.0, GREEN, True, 66),
    ],
    ids=["in the walker's colors", "comes in", "is gone at once", "nobody else to tell it from", "touches the walker"],
)
def test_what_may_be_somebody_stays_masked(
    deep: Callable[[int], float], color: tuple[int, int, int], others: bool, low: int
) -> None:
    frames, objects, _ = scene(deep, color, others, low)
    if low < 80:  # the walker starts where it leans in
        objects = [one | two for one, two in zip(objects, [objects[0]] * COUNT, strict=True)]
        for one in objects[:2]:
            one[66:80, :35] = True
    assert not any(part.any() for part in leaning_parts(frames, objects))


@pytest.mark.parametrize("water", [True, False], ids=["the place moves", "the place is at rest"])
def test_masks_leave_a_leaf_in_where_the_place_moves_by_itself(water: bool) -> None:
    shot = drawn.shot(41, COUNT, water=water, radius=(12, 20))
    frames, leaves = [], []
    for k, frame in enumerate(shot.frames):
        cover = np.zeros(frame.shape[:2], np.float32)
        cv2.ellipse(cover, (round(leaf(k)) - 12, 30), (12, 10), 0, 0, 360, 1.0, -1)
        cover = cv2.GaussianBlur(cover, (3, 3), 0.7)[..., None]
        frames.append(np.rint(frame * (1 - cover) + np.array([20, 190, 90]) * cover).astype(np.uint8))
        leaves.append(cover[..., 0] > 0.5)
    masks = MotionMasks(64).masks(frames, [None] * COUNT, lambda share: None)
    assert not masks.unknown
    removed = [mask > 0 for mask in masks.masks]
    assert drawn.recall(removed, shot.objects) > 0.97
    left = drawn.recall(removed, leaves)
    assert left < 0.2 if water else left > 0.35
