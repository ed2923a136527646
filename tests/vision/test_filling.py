"""Guesses: structure goes on behind a hole, texture stays, and a shot shows the same guess in all its frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bglora.vision.camera import Camera, still_camera
from bglora.vision.filling import ShotFill
from bglora.vision.metrics import psnr_db, ssim
from bglora.vision.patchfill import agreed, fill_hole
from bglora.vision.sparse import sparse
from bglora.vision.structure import frequencies, lines
from tests.vision import drawn

SHAPE = (96, 128)


def box(y: int, x: int, height: int, width: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    hole = np.zeros(shape, bool)
    hole[y : y + height, x : x + width] = True
    return hole


def fill(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return fill_hole(picture, hole, 1)


def beam(slope: float) -> np.ndarray:
    """A dark beam on a bright wall that goes through the middle of the picture."""
    ys, xs = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
    across = np.abs((ys - 48) - slope * (xs - 64)) / np.hypot(1, slope)
    dark = np.clip(5 - across, 0, 1)[..., None]
    return np.asarray(np.rint(dark * (60, 40, 30) + (1 - dark) * (200, 190, 170)), np.uint8)


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.5, -1.0, 2.0])
def test_a_beam_behind_a_hole_is_guessed_nearer_than_by_smearing(slope: float) -> None:
    picture, hole = beam(slope), box(30, 48, 36, 32)
    filled = fill(picture, hole)
    smear = cv2.inpaint(picture, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    assert psnr_db(filled, picture, hole) > psnr_db(smear, picture, hole) + 2
    assert ssim(filled, picture, hole) > ssim(smear, picture, hole) + 0.08


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_a_line_through_a_hole_ties_its_two_ends(slope: float) -> None:
    picture, hole = beam(slope).astype(np.float32), box(30, 48, 36, 32)
    assert lines(picture, hole)[0][48, 64].mean() < 115, "nearer to the beam (43) than to the wall (187)"


def test_a_line_is_confirmed_where_structure_joins_both_ends_and_not_on_a_plain_or_mixed_ground() -> None:
    hole = box(30, 48, 36, 32)
    _, along = lines(beam(0.5).astype(np.float32), hole)
    assert along[48, 64] > 0.8 and along[32, 78] < 0.2
    _, plain = lines(np.full((*SHAPE, 3), 120, np.float32), hole)
    assert plain[hole].max() == 0
    _, mixed = lines(np.random.default_rng(3).uniform(0, 255, (*SHAPE, 3)).astype(np.float32), hole)
    assert np.mean(mixed[hole] > 0.5) < 0.05


def waves() -> np.ndarray:
    ys, xs = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    one = 120 + 40 * np.cos(np.pi / 8 * xs) + 30 * np.cos(np.pi / 4 * ys)
    return np.repeat(one[..., None], 3, 2).astype(np.float32)


@pytest.mark.parametrize("side", [16, 32])
def test_few_waves_go_on_behind_a_hole_from_a_flat_guess(side: int) -> None:
    picture, hole = waves(), box(34, 50, 24, 26)
    flat = np.full_like(picture, picture[~hole].mean())
    filled = sparse(np.where(hole[..., None], 0, picture).astype(np.float32), hole, side, flat)
    assert np.array_equal(filled[~hole], picture[~hole])
    error = ((filled - picture)[hole] ** 2).mean()
    assert error < 0.2 * ((flat - picture)[hole] ** 2).mean()


def test_a_guess_of_few_waves_has_no_seam_at_the_rim_and_does_not_read_the_hole() -> None:
    ramp = np.repeat(np.tile(np.linspace(60, 180, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))[..., None], 3, 2)
    hole = box(34, 50, 24, 26)
    first = np.full_like(ramp, 120)
    blank, white = (np.where(hole[..., None], value, ramp).astype(np.float32) for value in (0, 255))
    filled = sparse(blank, hole, 16, first)
    assert np.array_equal(filled, sparse(white, hole, 16, first))
    steps = np.abs(np.diff(filled[46, 44:82, 0]) - np.diff(ramp[46, 44:82, 0]))
    assert steps.max() < 6, "the flat guess alone would step by ten at both ends"


def test_detail_that_guesses_share_gains_contrast_and_detail_of_one_alone_loses_it() -> None:
    rng = np.random.default_rng(1)

    def speckle() -> np.ndarray:
        return np.repeat(rng.normal(0, 20, SHAPE)[..., None], 3, 2).astype(np.float32) + 120

    def gain(guesses: list[np.ndarray]) -> float:
        mean = np.mean(guesses, 0).astype(np.float32)
        return float(agreed(mean, guesses).std() / mean.std())

    shared, apart = [speckle()] * 4, [speckle() for _ in range(4)]
    assert gain(shared) > 1.3
    assert gain(apart) < 0.9
    flat = np.full((*SHAPE, 3), 90, np.float32)
    assert np.allclose(agreed(flat, [flat, flat]), flat, atol=1e-3)


def test_lines_and_frequencies_do_not_read_the_hole() -> None:
    hole = box(30, 40, 30, 30)
    one = drawn.texture(5, *SHAPE).astype(np.float32)
    other = one.copy()
    other[hole] = 255
    for guess in (lambda picture, hole: lines(picture, hole)[0], frequencies):
        blank = [np.where(hole[..., None], 0, p).astype(np.float32) for p in (one, other)]
        assert np.array_equal(guess(blank[0], hole), guess(blank[1], hole))
    assert np.array_equal(lines(one, hole)[0][~hole], one[~hole])


@pytest.mark.parametrize("where", [(66, 40, 30, 30), (0, 30, 25, 40), (30, 101, 30, 27), (20, 0, 40, 25)])
def test_nothing_foreign_appears_where_a_hole_meets_the_border(where: tuple[int, int, int, int]) -> None:
    picture = np.full((*SHAPE, 3), (180, 150, 120), np.uint8)
    hole = box(*where)
    assert int(np.abs(fill(picture, hole).astype(int) - picture)[hole].max()) <= 6


def test_texture_is_kept_where_smoothing_would_wipe_it_out() -> None:
    ys, xs = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    weave = 120 + 40 * np.sin(xs * 0.9) * np.sin(ys * 0.7)
    picture = np.repeat(np.rint(weave)[..., None], 3, 2).astype(np.uint8)
    hole = box(30, 45, 34, 34)
    assert picture[hole].std() * 0.6 < fill(picture, hole)[hole].std() < picture[hole].std() * 1.2


def test_a_drawn_place_is_guessed_nearer_than_by_smearing() -> None:
    ours, theirs, errors = [], [], []
    for seed in range(4):
        picture = drawn.texture(seed + 60).astype(np.uint8)
        hole = box(45, 90, 44, 40, picture.shape[:2])
        filled, smear = fill(picture, hole), cv2.inpaint(picture, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
        ours.append(ssim(filled, picture, hole))
        theirs.append(ssim(smear, picture, hole))
        errors.append(psnr_db(filled, picture, hole) - psnr_db(smear, picture, hole))
    assert np.mean(ours) > np.mean(theirs) + 0.02 and np.mean(errors) > 0


def test_a_still_shot_shows_one_guess_in_all_frames_whatever_the_noise() -> None:
    shot, hole = drawn.shot(31, 4, noise=2.0), box(50, 100, 40, 30, (drawn.HEIGHT, drawn.WIDTH))
    shared = ShotFill(still_camera(4), np.ones((4, 3)))
    filled = [shared.apply(k, frame, hole, fill) for k, frame in enumerate(shot.frames)]
    for k, picture in enumerate(filled):
        assert np.array_equal(picture[hole], filled[0][hole])
        assert np.array_equal(picture[~hole], shot.frames[k][~hole])


def test_a_pan_carries_its_guess_along_without_blur_or_seam() -> None:
    step, count = 3.5, 7
    shot = drawn.shot(32, count, pan=step, noise=0, place=lambda k, n: None)
    poses = np.stack([np.array([[1, 0, step * k], [0, 1, 0], [0, 0, 1]], np.float64) for k in range(count)])
    camera = Camera("pan", poses, 0, step * count)
    gains = np.repeat(np.linspace(1, 1.06, count)[:, None], 3, 1)
    shared = ShotFill(camera, gains)
    filled, holes = [], []
    for k, frame in enumerate(shot.frames):
        hole = box(50, round(130 - step * k), 36, 30, (drawn.HEIGHT, drawn.WIDTH))
        picture = np.clip(np.rint(frame * gains[k]), 0, 255).astype(np.uint8)
        filled.append(shared.apply(k, picture, hole, fill))
        holes.append(hole)
        assert np.array_equal(filled[k][~hole], picture[~hole])
    move = np.array([[1, 0, -step * (count - 1)], [0, 1, 0]], np.float32)
    first = cv2.warpAffine(filled[0].astype(np.float32), move, (drawn.WIDTH, drawn.HEIGHT), flags=cv2.INTER_CUBIC)
    last = filled[-1] / gains[-1]
    inside = cv2.erode(holes[-1].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert psnr_db(last, first, inside) > 38
