"""Near things that stand still before a traveling camera, and who walks among them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bglora.vision.camera import Camera, estimate_camera
from bglora.vision.rigid import StandingParts
from tests.vision import drawn

COUNT = 14


def posts(speed: float) -> list[np.ndarray]:
    """Where the drawn posts stand in each frame, bool (H, W)."""
    wide = drawn._posts(drawn.WIDTH + int(speed * COUNT) + 8)
    return [
        cv2.warpAffine(wide, np.float32([[1, 0, -speed * k], [0, 1, 0]]), (drawn.WIDTH, drawn.HEIGHT)) > 0.5
        for k in range(COUNT)
    ]


def sides(camera: Camera) -> Camera:
    return replace(camera, kind="parallax")


def bobbing(k: int, count: int) -> tuple[float, float]:
    """Somebody who comes towards the posts, up and down with every step."""
    return 226 - 170 * k / (count - 1), 84 + 5 * np.sin(1.9 * k)


@pytest.mark.parametrize("place", [drawn.walk, bobbing])
def test_posts_stand_and_walkers_do_not(place: object) -> None:
    shot = drawn.traveled(81, COUNT, place=place)  # type: ignore[arg-type]
    camera = estimate_camera(shot.frames)
    near = posts(5.0)
    apart = [
        body & ~(cv2.dilate(post.astype(np.uint8), np.ones((13, 13))) > 0)
        for body, post in zip(shot.objects, near, strict=True)
    ]
    objects = [body | post for body, post in zip(apart, near, strict=True)]
    standing = StandingParts(shot.frames, sides(camera)).find(objects, objects)
    assert drawn.recall(standing, near) > 0.8
    assert drawn.recall(standing, apart) < 0.2


def test_nothing_stands_out_where_the_camera_only_turns() -> None:
    """There is no depth to compare with: a walker must not be explained away."""
    shot = drawn.shot(82, COUNT, pan=3.0)
    standing = StandingParts(shot.frames, sides(estimate_camera(shot.frames))).find(shot.objects, shot.objects)
    assert not any(part.any() for part in standing)
