"""How far a pixel is from what its neighborhood showed at other moments."""

from __future__ import annotations

import numpy as np

from bglora.vision.difference import moving_distance

SIZE = (24, 32)


def test_the_third_nearest_of_the_moments_counts() -> None:
    frame = np.full((*SIZE, 3), 100, np.uint8)
    others = [np.full((*SIZE, 3), 100 + step, np.uint8) for step in (40, 9, 2, 5)]
    everywhere = np.ones(SIZE, bool)
    assert (moving_distance(frame, others, [everywhere] * 4, everywhere) == 9).all()


def test_a_neighbor_two_pixels_away_may_show_it() -> None:
    frame, other = (np.zeros((*SIZE, 3), np.uint8) for _ in range(2))
    frame[8:17, 8:17] = other[10:19, 10:19] = 200
    everywhere = np.ones(SIZE, bool)
    assert not moving_distance(frame, [other] * 3, [everywhere] * 3, everywhere)[10:15, 10:15].any()
    other[:] = 0
    other[13:22, 13:22] = 200
    assert moving_distance(frame, [other] * 3, [everywhere] * 3, everywhere)[9, 9] == 200


def test_masked_moments_and_pixels_that_nobody_asked_for_say_nothing() -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    where, free = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    where[4:9, 4:9] = True
    free[:, :12] = False
    found = moving_distance(frame, [frame] * 3, [free] * 3, where)
    assert (found[where] == 255).all()
    assert not found[~where].any()
    assert (moving_distance(frame, [frame] * 2, [~where] * 2, where)[where] == 255).all()
