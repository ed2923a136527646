"""Shadows of characters whose masks were given without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bglora.backends.masks.layers import LayerMasks
from bglora.vision.camera import estimate_camera
from bglora.vision.effects import effects_of
from bglora.vision.exposure import estimate_gains
from tests.vision import drawn


@pytest.mark.parametrize("motion", [{}, {"pan": 2.0}, {"flicker": 0.1}])
def test_shadows_are_found_beside_given_objects_on_a_camera_that_stands_or_turns(motion: dict[str, float]) -> None:
    shot = drawn.shot(91, 14, **motion)  # type: ignore[arg-type]
    camera = estimate_camera(shot.frames, shot.objects)
    gains = estimate_gains(shot.frames, camera, shot.objects)
    found = effects_of(shot.frames, shot.objects, camera, gains, 64)
    assert drawn.recall(found, shot.shadows) > 0.95
    theirs = [o | s for o, s in zip(shot.objects, shot.shadows, strict=True)]
    assert np.mean([(f & ~t).mean() for f, t in zip(found, theirs, strict=True)]) < 0.02
    assert not any((f & o).any() for f, o in zip(found, shot.objects, strict=True))


def test_masks_that_know_of_effects_are_taken_as_they_are() -> None:
    shot = drawn.shot(92, 8)
    given = [np.where(o, 255, 0).astype(np.uint8) for o in shot.objects]
    found = LayerMasks(64).masks(shot.frames, given, lambda share: None)
    assert (found.masks[3] == 128).any() and ((found.masks[3] == 255) == shot.objects[3]).all()
    given[0][3:9, 3:9] = 128
    found = LayerMasks(64).masks(shot.frames, given, lambda share: None)
    assert all(np.array_equal(mask, before) for mask, before in zip(found.masks, given, strict=True))


def test_nothing_is_guessed_from_few_frames_or_an_unknown_camera_or_an_empty_shot() -> None:
    shot = drawn.shot(93, 5)
    empty = [np.zeros_like(o) for o in shot.objects]
    camera, gains = estimate_camera(shot.frames, shot.objects), np.ones((5, 3))
    assert not any(e.any() for e in effects_of(shot.frames[:3], shot.objects[:3], camera, gains[:3], 64))
    assert not any(e.any() for e in effects_of(shot.frames, shot.objects, replace(camera, kind="unknown"), gains, 64))
    assert not any(e.any() for e in effects_of(shot.frames, empty, camera, gains, 64))
