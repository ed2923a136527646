"""Characters who stay in place and move a little, on drawn shots: who is found, how tightly, and who is nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bglora.backends.masks import ShotMasks
from bglora.backends.masks.motion import GHOSTS, MISFIT, MotionMasks
from bglora.vision.arrays import enclosed
from bglora.vision.camera import still_camera
from bglora.vision.idle import restless_areas
from bglora.vision.inplace import outlines_in_place
from bglora.vision.motion import MotionModel
from tests.vision import drawn

Place = Callable[[int, int], tuple[float, float]]
COUNT = 14


def sways(x: float, y: float, far: float = 3.0) -> Place:
    return lambda k, count: (x + far * np.sin(0.9 * k), y + 0.5 * far * np.sin(1.4 * k))


def find(frames: list[np.ndarray]) -> ShotMasks:
    return MotionMasks(64).masks(frames, [None] * len(frames), lambda share: None)


def objects(masks: ShotMasks) -> list[np.ndarray]:
    return [mask == 255 for mask in masks.masks]


def removed(masks: ShotMasks) -> list[np.ndarray]:
    return [mask > 0 for mask in masks.masks]


@pytest.mark.parametrize(
    ("place", "radius", "seed"),
    [(sways(70, 90, 1.5), (10, 18), 22), (sways(120, 80), (15, 24), 21)],
    ids=["small, moves little", "in the middle"],
)
def test_who_stays_in_place_is_found_whole_and_tightly(place: Place, radius: tuple[float, float], seed: int) -> None:
    shot = drawn.shot(seed, COUNT, place=place, radius=radius)
    masks = find(shot.frames)
    assert not masks.unknown
    assert drawn.recall(removed(masks), shot.objects) > 0.99
    assert drawn.overlap(objects(masks), shot.objects) > 0.6


@pytest.mark.parametrize(
    ("place", "radius", "seed"),
    [(sways(8, 90), (26, 44), 23), (sways(8, 90), (26, 44), 33), (sways(150, 120, 4), (34, 52), 24)],
    ids=["over the left border", "over the left border, elsewhere", "large, over the lower border"],
)
def test_who_stays_at_the_border_makes_the_shot_untrusted(place: Place, radius: tuple[float, float], seed: int) -> None:
    masks = find(drawn.shot(seed, COUNT, place=place, radius=radius).frames)
    assert "stay in one place" in masks.unknown


@pytest.mark.parametrize(
    ("other", "radius", "seed"),
    [(sways(190, 76), (15, 24), 25), (lambda k, n: (120 + 110 * k / (n - 1), 100), (9, 16), 26)],
    ids=["who stays, too", "who walks"],
)
def test_who_stays_in_place_is_found_beside_somebody_else(other: Place, radius: tuple[float, float], seed: int) -> None:
    idle = drawn.shot(seed, COUNT, place=sways(60, 70), radius=(18, 28))
    second = drawn.shot(seed, COUNT, place=other, radius=radius)
    both = [np.where(o[..., None], b, a) for a, b, o in zip(idle.frames, second.frames, second.objects, strict=True)]
    truth = [a | b for a, b in zip(idle.objects, second.objects, strict=True)]
    masks = find(both)
    assert not masks.unknown
    assert drawn.recall(removed(masks), truth) > 0.98


def test_swaying_leaves_whose_motion_fades_out_are_no_character() -> None:
    shot = drawn.shot(27, COUNT, place=drawn.walk, radius=(10, 18))
    frames = [leaves(frame, k) for k, frame in enumerate(shot.frames)]
    masks = find(frames)
    assert not masks.unknown
    left = [mask[:50, :60].mean() for mask in removed(masks)]
    assert np.mean(left) < 0.05


def test_what_is_outlined_but_too_large_to_be_told_is_doubtful() -> None:
    shot = drawn.shot(28, COUNT, place=sways(130, 80), radius=(20, 30))
    nobody = [np.zeros(drawn.texture(1).shape[:2], bool)] * COUNT
    area = restless_areas(shot.frames, nobody, still_camera(COUNT))[0]
    assert area.is_character and not area.is_doubtful
    large = replace(area, share=0.5)
    assert large.is_doubtful and not large.is_character
    wavy = replace(area, unexplained=0.95)
    assert not wavy.is_doubtful and not wavy.is_character
    fading = replace(area, rim=6.0)
    assert not fading.is_doubtful and not fading.is_character


def figures(frames: list[np.ndarray]) -> MotionModel:
    """The motion model after its passes."""
    count = len(frames)
    model = MotionModel(frames, still_camera(count), np.ones((count, 3)), 16)
    model.masks(lambda share: None)
    return model


def test_who_walks_to_and_fro_on_a_spot_is_a_misfit_without_ghosts_and_makes_the_shot_untrusted() -> None:
    frames = drawn.shot(32, COUNT, place=lambda k, count: (60 + 25 * np.sin(0.6 * k), 90), radius=(15, 24)).frames
    model = figures(frames)
    assert model.misfit > MISFIT and model.ghosts < GHOSTS and not model.doubtful
    masks = find(frames)
    assert "stay in one place" in masks.unknown and f"{model.misfit:.0%} of the outlines" in masks.unknown
    assert not any(mask.any() for mask in masks.masks)


def test_what_may_be_somebody_or_the_place_itself_makes_the_shot_untrusted() -> None:
    frames = angle_that_sways()
    model = figures(frames)
    assert model.doubtful and model.misfit < MISFIT and model.ghosts < GHOSTS
    masks = find(frames)
    assert "without leaving his place" in masks.unknown and f"{model.doubtful:.0%} of the picture" in masks.unknown
    assert not any(mask.any() for mask in masks.masks)


def angle_that_sways() -> list[np.ndarray]:
    """Something in the shape of an L, whose motion a flow explains only in part."""
    rng = np.random.default_rng(3)
    wall, paint, frames = drawn.texture(3), drawn.coat(3), []
    for k in range(COUNT):
        x, y = round(110 + 4 * np.sin(0.9 * k)), round(40 + 2.4 * np.sin(1.4 * k))
        cover = np.zeros(wall.shape[:2], np.float32)
        cover[y : y + 70, x : x + 14] = cover[y + 56 : y + 70, x : x + 70] = 1
        cover = cv2.GaussianBlur(cover, (0, 0), 0.7)[..., None]
        picture = wall * (1 - cover) + paint * cover + rng.normal(0, 1.5, wall.shape)
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return frames


def test_a_gap_in_the_outline_at_the_picture_s_border_is_closed() -> None:
    ring = np.zeros((40, 60), bool)
    ring[10:40, 20:23] = ring[10:40, 40:43] = ring[10:13, 20:43] = True
    whole = enclosed(ring)
    assert whole[13:40, 23:40].all()
    assert not whole[:, :20].any() and not whole[:10].any() and not whole[:, 43:].any()


def test_outlines_follow_the_sway_from_frame_to_frame() -> None:
    shot = drawn.shot(29, COUNT, place=sways(120, 80, 6), noise=0.5)
    nobody = [np.zeros(o.shape, bool) for o in shot.objects]
    area = restless_areas(shot.frames, nobody, still_camera(COUNT))[0]
    cuts = outlines_in_place(shot.frames, area.moving)
    same = [cuts[COUNT // 2]] * COUNT
    assert drawn.overlap(cuts, shot.objects) > drawn.overlap(same, shot.objects)


def leaves(frame: np.ndarray, k: int) -> np.ndarray:
    """The upper left of the picture sways, less and less towards the rest."""
    ys, xs = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]].astype(np.float32)
    much = np.clip((70 - xs) / 30, 0, 1) * np.clip((60 - ys) / 30, 0, 1)
    xs += much * 3.0 * np.sin(0.7 * k + xs / 9.0 + ys / 7.0)
    return cv2.remap(frame, xs, ys + much * np.sin(0.9 * k + xs / 6.0), cv2.INTER_LINEAR)
