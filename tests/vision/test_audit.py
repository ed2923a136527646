"""Whether something of a character remains in a plate, judged without trusting the masks."""

from __future__ import annotations

import numpy as np

from bglora.vision.arrays import grow, shrink
from bglora.vision.audit import FRINGE, SHOT_FRINGE, fringe, leaks
from bglora.vision.camera import still_camera
from tests.vision import drawn


def patched(shot: drawn.Drawn, removed: list[np.ndarray]) -> list[np.ndarray]:
    """Plates with the true background in what was removed."""
    return [np.where(r[..., None], c, f) for f, c, r in zip(shot.frames, shot.clean, removed, strict=True)]


def test_plates_without_anybody_are_not_suspected() -> None:
    shot = drawn.shot(91, 10)
    removed = [grow(o | s, 3) for o, s in zip(shot.objects, shot.shadows, strict=True)]
    found = leaks(shot.frames, removed, patched(shot, removed), still_camera(10), np.ones((10, 3)))
    assert not any(leak.words for leak in found)


def test_a_mask_that_cuts_through_somebody_leaves_a_fringe() -> None:
    shot = drawn.shot(92, 10, radius=(22, 34))
    columns = np.arange(drawn.WIDTH)[None]
    for k in range(10):
        body = shot.objects[k]
        half = body & (columns < columns[body.any(0)[None]].mean())
        plate = patched(shot, [half] * 10)[k]
        share = fringe(shot.frames[k], half, plate)
        assert share is not None and share > FRINGE


def test_a_rim_of_somebody_all_around_a_mask_condemns_the_shot() -> None:
    shot = drawn.shot(93, 8, radius=(22, 34))
    removed = [shrink(body, 6) for body in shot.objects]
    found = leaks(shot.frames, removed, patched(shot, removed), still_camera(8), np.ones((8, 3)))
    assert np.mean([leak.fringe for leak in found]) > SHOT_FRINGE
    assert all("taken out" in leak.words or "moves" in leak.words for leak in found)


def test_holes_too_small_to_tell_are_no_reason() -> None:
    shot = drawn.shot(94, 4)
    speck = np.zeros(shot.frames[0].shape[:2], bool)
    speck[50:53, 60:63] = True
    assert fringe(shot.frames[0], speck, shot.clean[0]) is None
