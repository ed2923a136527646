"""Who stands still for most of a shot, and what sways: the passes of the motion masks on drawn shots."""

from __future__ import annotations

import numpy as np

from bglora.vision.camera import still_camera
from bglora.vision.ghosts import ghost_parts, outlines, standing_still
from bglora.vision.motion import MotionModel
from bglora.vision.sway import swaying_parts
from tests.vision import drawn


def masks_of(frames: list[np.ndarray]) -> list[np.ndarray]:
    model = MotionModel(frames, still_camera(len(frames)), np.ones((len(frames), 3)), 30)
    return [found.objects | found.effects for found in model.masks(lambda share: None)]


def test_who_stands_for_two_thirds_and_leaves_is_masked_where_he_stood_and_nothing_is_masked_after_him() -> None:
    shot = drawn.shot(41, 18, place=lambda k, count: (90, 82) if k < 12 else (90 + 26 * (k - 11), 82))
    masks = masks_of(shot.frames)
    assert drawn.recall(masks, shot.objects) > 0.98
    behind = [mask & shot.objects[0] & ~truth for mask, truth in zip(masks[15:], shot.objects[15:], strict=True)]
    assert np.mean([mask.sum() for mask in behind]) < 0.05 * shot.objects[0].sum()


def test_who_comes_in_and_stays_is_masked_to_the_end() -> None:
    shot = drawn.shot(42, 18, place=lambda k, count: (20 + 22 * k, 82) if k < 6 else (130, 82))
    assert drawn.recall(masks_of(shot.frames), shot.objects) > 0.98


def test_an_outline_along_the_models_edges_is_a_ghost_and_along_the_frames_is_not() -> None:
    shot = drawn.shot(43, 6, place=lambda k, count: (128, 80))
    with_him, without = shot.frames[0], shot.clean[0]
    for frame, model, is_ghost in ((without, with_him, True), (with_him, without, False)):
        own, other = outlines(frame, model.astype(np.float32), shot.objects[0])
        parts = ghost_parts(own, other, shot.objects[0], np.zeros_like(shot.objects[0]))
        assert parts.any() == is_ghost


def test_a_ghost_counts_only_where_several_frames_show_it() -> None:
    place = np.zeros((40, 60), bool)
    place[10:20, 10:20] = True
    nothing = np.zeros_like(place)

    def carry(mask: np.ndarray, source: int, target: int) -> np.ndarray:
        return mask

    assert standing_still([place, place] + [nothing] * 10, carry, 0) is None
    found = standing_still([place] * 4 + [nothing] * 8, carry, 0)
    assert found is not None and np.array_equal(found, place)


def test_what_comes_back_to_its_place_sways_and_who_passes_once_or_is_large_does_not() -> None:
    tip, passing, large = (np.zeros((120, 200), bool) for _ in range(3))
    tip[10:16, 10:18] = True
    passing[50:56, 50:58] = True
    large[70:110, 100:160] = True
    masks = [(tip if k % 4 < 2 else tip & False) | (passing if 5 <= k < 11 else passing & False) for k in range(16)]
    masks = [mask | (large if k % 4 < 2 else large & False) for k, mask in enumerate(masks)]
    parts = swaying_parts(masks)
    assert all(part[10:16, 10:18].all() for part, mask in zip(parts, masks, strict=True) if mask[12, 12])
    assert not any((part & (passing | large)).any() for part in parts)
