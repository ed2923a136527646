"""How much of a character a picture shows is told where that is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.ghosts import Ghosts


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_picture_between_plate_and_frame_shows_its_share_of_the_character(share: float) -> None:
    """Two cameras; the picture is the second one's, a little noisy."""
    rng = np.random.default_rng(0)
    plates = rng.integers(80, 120, (2, 32, 32, 3)).astype(np.uint8)
    plates[1] += 60
    frames = plates.copy()
    frames[:, 10:20, 8:14] = (20, 200, 90)
    mixed = plates[1] + share * (frames[1].astype(float) - plates[1]) + rng.normal(0, 3, (32, 32, 3))
    found = Ghosts(["a", "b"], plates, frames).strengths(np.clip(mixed, 0, 255).astype(np.uint8)[None])
    assert found == pytest.approx([share], abs=0.03)


def test_of_several_frames_of_a_camera_the_most_counts_and_none_without_a_character() -> None:
    plate = np.full((32, 32, 3), 100, np.uint8)
    kid, dog = plate.copy(), plate.copy()
    kid[4:14, 4:10] = 200
    dog[20:28, 18:30] = 0
    film = Ghosts(["a", "a"], np.stack([plate, plate]), np.stack([kid, dog]))
    np.testing.assert_allclose(film.strengths(np.stack([dog, plate])), [1.0, 0.0], atol=1e-6)
    assert Ghosts(["a"], plate[None], plate[None]).strengths(kid[None]) == [0.0]
