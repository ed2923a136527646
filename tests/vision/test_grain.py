"""Grain is measured as it is and put back where it lacks, no more."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.grain import add_grain, measure_grain

SHAPE = (120, 200)
EVERYWHERE = np.ones(SHAPE, bool)


def smooth() -> np.ndarray:
    ys, xs = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return np.stack([90 + xs * 0.3, 120 + ys * 0.2, 150 - xs * 0.2], 2).astype(np.float32)


def grainy(deviation: float, sigma: float = 0.0, seed: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    if sigma:
        noise = cv2.GaussianBlur(noise, (0, 0), sigma)
        noise /= noise.std()
    return np.clip(np.rint(smooth() + deviation * noise[..., None]), 0, 255).astype(np.uint8)


def correlation(noise: np.ndarray) -> float:
    """Of neighbors in a row."""
    return float((noise[:, 1:] * noise[:, :-1]).mean() / (noise**2).mean())


def test_strength_is_measured_on_luma_and_no_grain_is_none() -> None:
    for deviation in (2.0, 6.0):
        found = measure_grain(grainy(deviation), EVERYWHERE)
        assert found is not None and abs(found.deviation[0] - deviation) < 0.15 * deviation
    clean = measure_grain(np.rint(smooth()).astype(np.uint8), EVERYWHERE)
    assert clean is not None and clean.deviation[0] < 0.6


def test_a_smooth_hole_gets_grain_of_the_same_strength_and_correlation() -> None:
    hole = np.zeros(SHAPE, bool)
    hole[20:100, 40:160] = True
    for sigma in (0.0, 1.0):
        film = grainy(5.0, sigma)
        plate = film.copy()
        plate[hole] = np.rint(smooth()).astype(np.uint8)[hole]
        found = measure_grain(film, ~hole)
        assert found is not None
        done = add_grain(plate, hole, found, seed=9)
        noise = (done.astype(np.float32) - smooth())[22:98, 42:158].mean(2)
        true = (film.astype(np.float32) - smooth())[22:98, 42:158].mean(2)
        assert 0.8 < noise.std() / true.std() < 1.2
        assert abs(correlation(noise) - correlation(true)) < 0.12
        assert np.array_equal(done[~hole], film[~hole])


def test_what_has_its_grain_gets_none_and_the_same_seed_gives_the_same() -> None:
    film = grainy(5.0)
    hole = np.zeros(SHAPE, bool)
    hole[20:100, 40:160] = True
    found = measure_grain(film, ~hole)
    assert found is not None
    assert np.abs(add_grain(film, hole, found, 1).astype(int) - film).mean() < 1.5
    smoothed = film.copy()
    smoothed[hole] = 100
    assert np.array_equal(add_grain(smoothed, hole, found, 1), add_grain(smoothed, hole, found, 1))
    assert not np.array_equal(add_grain(smoothed, hole, found, 1), add_grain(smoothed, hole, found, 2))


def test_a_picture_without_flat_parts_tells_no_grain() -> None:
    busy = np.random.default_rng(4).integers(0, 2, (24, 40)).astype(np.uint8) * 200 + 20
    picture = np.repeat(cv2.resize(busy, (200, 120), interpolation=cv2.INTER_NEAREST)[..., None], 3, 2)
    assert measure_grain(picture, EVERYWHERE) is None
    assert measure_grain(grainy(3.0), np.zeros(SHAPE, bool)) is None
