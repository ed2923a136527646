"""Whether nobody is in a shot although the camera's motion is no simple one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.backends.masks.motion import MotionMasks
from bglora.film.video import VideoFile
from bglora.stages.shotframes import groups
from bglora.vision.camera import estimate_camera
from bglora.vision.empty import own_motion
from bglora.vision.paths import structure_tensors
from tests.shared import shared
from tests.vision import drawn


def travel(count: int = 12, walker: bool = False, flat: bool = False, wave: float = 0.0) -> list[np.ndarray]:
    """A camera that slides sideways past a ground that passes the faster the nearer it is; somebody may be there.

    `flat`: the walker has no texture at all. `wave`: pixels by which somebody standing there moves his body.
    """
    size = (320, 180)
    far = drawn.texture(81, 180, 440)
    ys, xs = np.mgrid[0:180, 0:320].astype(np.float32)
    out = []
    for k in range(count):
        depth = np.where(ys < 85, 1.0, 1.0 + (ys - 85) / 60)
        picture = cv2.remap(far, xs + 2.0 * k * depth, ys, cv2.INTER_CUBIC)
        if walker or wave:
            x, y = (40 + 18 * k, 105) if walker else (200 - 2.7 * k + wave * np.sin(1.3 * k), 105)
            body = (((xs - x) / 14) ** 2 + ((ys - y) / 26) ** 2 < 1)[..., None]
            coat = np.array([225, 40, 50], np.float32)
            spots = np.roll(drawn.texture(82, 180, 320), round(x), axis=1)
            picture = np.where(body, coat if flat else 0.6 * spots + 0.4 * coat, picture)
        out.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    assert out[0].shape[:2] == size[::-1]
    return out


def test_nobody_is_found_where_only_the_camera_travels_past_things() -> None:
    frames = travel()
    assert own_motion(frames, estimate_camera(frames)).nobody


def test_walkers_are_noticed_with_and_without_texture() -> None:
    for flat in (False, True):
        frames = travel(walker=True, flat=flat)
        assert not own_motion(frames, estimate_camera(frames)).nobody


def test_somebody_who_sways_on_the_spot_by_three_pixels_is_noticed() -> None:
    frames = travel(wave=3.0)
    assert not own_motion(frames, estimate_camera(frames)).nobody


def test_few_frames_never_prove_that_nobody_is_there() -> None:
    frames = travel(6)
    assert not own_motion(frames, estimate_camera(frames)).nobody


def clip(name: str, numbers: Sequence[int]) -> list[np.ndarray]:
    """Frames of a clip, RGB."""
    frames = {}
    with VideoFile(shared("clips", f"{name}.mp4"), threads=1) as video:
        for number, frame in video.decode():
            if number in numbers:
                frames[number] = video.picture(frame)
            if number == max(numbers):
                break
    return [frames[number] for number in numbers]


def test_a_landscape_under_a_tilting_camera_is_taken_as_it_is() -> None:
    kept = [62, 98, 134, 171, 237]
    frames = clip("bbb_opening", groups(kept, range(51, 284), 32)[0])
    assert own_motion(frames, estimate_camera(frames)).nobody


def test_a_landscape_is_taken_as_it_is_however_it_is_sampled() -> None:
    frames = clip("bbb_opening", range(51, 284, 8))  # frames without one plane in common; near grass, soft hills
    assert own_motion(frames, estimate_camera(frames)).nobody


def test_nobody_is_found_where_a_slow_camera_passes_near_posts_and_a_walker_among_them_is() -> None:
    frames = drawn.traveled(61, speeds=(0.3, 0.6, 1.5), place=lambda k, count: None).frames
    assert own_motion(frames, estimate_camera(frames)).nobody
    frames = drawn.traveled(61, speeds=(0.3, 0.6, 1.5)).frames
    assert not own_motion(frames, estimate_camera(frames)).nobody


def test_displacements_along_an_edge_change_nothing_and_across_it_much() -> None:
    picture = np.repeat(np.linspace(40, 200, 60).astype(np.uint8)[:, None], 60, 1)
    tensor = structure_tensors(picture, np.array([[30.0, 30.0]], np.float32))[0]
    along, across = (np.sqrt(way @ tensor @ way) for way in (np.array([3.0, 0.0]), np.array([0.0, 3.0])))
    assert along < 0.01 and abs(across - 3 * 160 / 59) < 0.5


def test_a_bird_that_hops_in_place_is_never_taken_for_background() -> None:
    frames = [
        cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA) for frame in clip("bbb_opening", range(378, 489, 5))
    ]
    assert MotionMasks(64).masks(frames, [None] * len(frames), lambda share: None).unknown
