"""Pictures compared in each other's light: exposure and white balance part no place from itself."""

from __future__ import annotations

import numpy as np

from bglora.backends.embed.descriptor import Descriptor
from bglora.vision.relight import COST, SIDE, compare, in_other_light, thumbnail
from tests.stages.drawn_plates import place


def graded(picture: np.ndarray, gamma: float, gains: tuple[float, float, float]) -> np.ndarray:
    return (np.clip((picture / 255) ** gamma * gains, 0, 1) * 255).round().astype(np.uint8)


def test_the_light_that_makes_two_grades_of_a_place_likest_is_found() -> None:
    town, graded_town, other = place(3, 0), graded(place(3, 0), 1.3, (1.1, 0.95, 0.9)), place(4, 0)
    thumbs = [thumbnail(picture) for picture in (town, graded_town, other)]
    alike = compare(thumbs, Descriptor().embed)
    plain = Descriptor().embed(thumbs)
    assert np.allclose(alike, alike.T) and alike.shape == (3, 3)
    assert alike[0, 1] > plain[0] @ plain[1] + 0.02
    assert alike[0, 1] > alike[0, 2] + 0.1
    assert np.allclose(np.diag(alike), 1, atol=1e-5)  # its own light costs nothing


def test_every_change_of_light_has_its_cost_and_none_is_free_but_the_own() -> None:
    thumb = thumbnail(place(1, 0))
    seen = list(in_other_light(thumb))
    assert len(seen) == len(COST) and seen[0].shape == (SIDE, SIDE, 3)
    own = int(COST.argmin())
    assert COST[own] == 0 and (COST > 0).sum() == len(COST) - 1
    assert np.array_equal(seen[own], thumb)
