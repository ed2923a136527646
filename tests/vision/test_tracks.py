"""Tracks keep identity; cut-outs are clean."""

from __future__ import annotations

import numpy as np

from bglora.vision.cutouts import cut_out
from bglora.vision.tracks import Tracker, things
from tests.vision import drawn


def test_two_who_cross_keep_their_numbers() -> None:
    numbers = []
    tracker = Tracker(diagonal=294.0)
    for k in range(12):
        frame = drawn.texture(91).astype(np.uint8)
        objects = np.zeros(frame.shape[:2], bool)
        for x, y, color in ((20 + 18 * k, 40, (220, 30, 30)), (220 - 18 * k, 100, (30, 30, 220))):
            body = drawn.figure((x, y), (10, 16)) > 0.5
            frame[body], objects = color, objects | body
        found, _ = things(frame, objects)
        by_color = {
            int(frame[int(t.center[1]), int(t.center[0]), 0] > 100): n
            for t, n in zip(found, tracker.follow(found), strict=True)
        }
        numbers.append(by_color)
    assert all(n == numbers[0] for n in numbers) and len(set(numbers[0].values())) == 2


def test_who_hides_for_some_frames_is_the_same_afterwards_and_a_newcomer_is_not() -> None:
    shot = drawn.shot(92, 10)
    tracker = Tracker(diagonal=294.0)
    seen = []
    for k in range(10):
        objects = np.zeros_like(shot.objects[k]) if k in (4, 5) else shot.objects[k]
        seen.append(tracker.follow(things(shot.frames[k], objects)[0]))
    assert seen == [[1]] * 4 + [[], []] + [[1]] * 4
    frame = np.full((drawn.HEIGHT, drawn.WIDTH, 3), 90, np.uint8)
    body = drawn.figure((30, 30), (6, 8)) > 0.5
    frame[body] = (20, 240, 20)
    assert tracker.follow(things(frame, body)[0]) == [2]


def test_tiny_and_blurred_objects_give_no_cutout() -> None:
    frame = drawn.shot(93, 2).frames[0]
    small = drawn.figure((60, 60), (4, 4)) > 0.5
    large = drawn.figure((100, 70), (20, 30)) > 0.5
    smooth = np.full_like(frame, 120)
    box = (80, 40, 41, 61)
    assert cut_out(frame, small, None, (56, 56, 9, 9), 0.15) is None
    assert cut_out(smooth, large, None, box, 0.15) is None
    rgba = cut_out(frame, large, None, box, 0.15)
    assert rgba is not None and rgba.shape == (69, 49, 4) and (rgba[rgba[..., 3] == 0] == 0).all()
