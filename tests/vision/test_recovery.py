"""Recovered, never revealed, not trusted: three answers, each where it belongs."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import grow
from bglora.vision.audit import audit
from bglora.vision.camera import still_camera
from bglora.vision.filling import ShotFill
from bglora.vision.metrics import psnr_db, ssim
from bglora.vision.plates import ShotPlates, withheld
from bglora.vision.rating import rate_fill
from bglora.vision.recovery import Samples, recover
from tests.vision import drawn

SHAPE = (40, 60)
HOLE = np.zeros(SHAPE, bool)
HOLE[10:30, 20:40] = True


def flat(value: float) -> np.ndarray:
    return np.full((*SHAPE, 3), value, np.float32)


def test_the_larger_group_wins_and_a_tie_of_one_is_not_trusted() -> None:
    everywhere = np.ones(SHAPE, bool)
    found = recover(HOLE, Samples([flat(50), flat(52), flat(200)], [everywhere] * 3))
    assert found.recovered[HOLE].all() and abs(found.picture[15, 25, 0] - 51) < 1e-3
    found = recover(HOLE, Samples([flat(50), flat(200)], [everywhere] * 2))
    assert found.untrusted[HOLE].all() and not found.recovered.any()


def test_what_no_sample_shows_is_unseen_and_one_sample_alone_is_not_trusted() -> None:
    left = np.zeros(SHAPE, bool)
    left[:, :30] = True
    found = recover(HOLE, Samples([flat(70)], [left]))
    assert found.untrusted[HOLE & left].all() and found.unseen[HOLE & ~left].all()
    assert not (found.recovered | found.unseen | found.untrusted)[~HOLE].any()


def test_a_still_shot_agrees_in_spite_of_a_soft_shade_that_the_masks_miss() -> None:
    """Who walks by carries a shade 12 px wide beyond the mask; samples from afar are clean."""
    clean = drawn.texture(83)
    frames, masks = [], []
    for k in range(16):
        body = drawn.figure(drawn.walk(k, 16), (15, 24)) > 0.5
        shade = cv2.GaussianBlur(body.astype(np.float32), (0, 0), 8)[..., None]
        frames.append(np.where(body[..., None], 20, clean * (1 - 0.3 * shade)).astype(np.uint8))
        masks.append(body)
    plates = ShotPlates(frames, list(range(16)), masks, still_camera(16), np.ones((16, 3)))
    for k in (0, 7):
        plate, hole = plates.plate(k)
        assert not hole.any() and np.abs(plate.picture.astype(np.float32) - clean)[masks[k]].max() < 2


def test_a_thing_that_is_put_down_is_recovered_as_it_is_at_that_time() -> None:
    frames = [np.full((*SHAPE, 3), 60 if k < 8 else 160, np.uint8) for k in range(16)]
    masks = [HOLE if k in (0, 15) else np.zeros(SHAPE, bool) for k in range(16)]
    plates = ShotPlates(frames, list(range(16)), masks, still_camera(16), np.ones((16, 3)))
    assert (plates.plate(0)[0].picture[HOLE] == 60).all() and (plates.plate(15)[0].picture[HOLE] == 160).all()


def test_the_margin_of_a_mask_is_read_where_it_goes_on_what_is_around_it() -> None:
    """Somebody who never leaves: the mask is 2 px wider; the margin is background, the body is not."""
    body = drawn.figure((120, 80), (20, 40)) > 0.5
    mask = grow(body, 2)
    frames = [np.where(body[..., None], 230, np.full((drawn.HEIGHT, drawn.WIDTH, 3), 90)).astype(np.uint8)] * 6
    plate, hole = ShotPlates(frames, list(range(6)), [mask] * 6, still_camera(6), np.ones((6, 3))).plate(2)
    assert not (hole & ~body).any() and (plate.picture[mask & ~body] == 90).all()
    assert hole[body].all() and (plate.provenance[body] == 2).all()


def test_withheld_pixels_lie_beside_the_hole() -> None:
    hole = np.zeros((60, 90), bool)
    hole[20:40, 30:50] = True
    probe = withheld(hole)
    assert probe.sum() == hole.sum() and not (probe & hole).any()


def test_a_fill_is_made_once_and_carried_through_the_shot_at_each_exposure() -> None:
    calls = []

    def paint(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        calls.append(int(hole.sum()))
        out = picture.copy()
        out[hole] = 100
        return out

    gains = np.array([[1.0] * 3, [1.2] * 3])
    fill = ShotFill(still_camera(2), gains)
    first = fill.apply(0, np.full((*SHAPE, 3), 80, np.uint8), HOLE, paint)
    wider = HOLE.copy()
    wider[10:30, 40:45] = True
    second = fill.apply(1, np.full((*SHAPE, 3), 96, np.uint8), wider, paint)
    assert calls == [400, 100], "only what was not guessed yet is guessed"
    assert (first[HOLE] == 100).all() and (second[HOLE] == 120).all() and (second[~wider] == 96).all()


def test_a_perfect_engine_rates_better_than_a_grey_one() -> None:
    picture, hole = drawn.texture(81).astype(np.uint8), np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
    hole[50:90, 60:100] = True

    def grey(frame: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where[..., None], np.uint8(128), frame)

    perfect, poor = rate_fill(picture, hole, lambda frame, where: picture.copy()), rate_fill(picture, hole, grey)
    assert perfect is not None and poor is not None
    assert perfect.hole_psnr_db == 99 and perfect.hole_ssim > 0.999
    assert poor.hole_psnr_db < 25 < poor.plate_psnr_db + 10 and poor.hole_ssim < 0.8


def test_audit_sees_a_character_left_in_one_plate_and_no_noise() -> None:
    shot = drawn.shot(82, 8)
    plates = list(shot.clean)
    noisy = [
        np.clip(p + np.random.default_rng(k).normal(0, 4, p.shape), 0, 255).astype(np.uint8)
        for k, p in enumerate(plates)
    ]
    assert max(audit(noisy, still_camera(8), np.ones((8, 3)))) == 0
    plates[3] = shot.frames[3]
    shares = audit(plates, still_camera(8), np.ones((8, 3)))
    assert shares[3] > 0.02 and max(shares[:3] + shares[4:]) == 0


def test_psnr_and_ssim_of_known_errors() -> None:
    a = np.full((32, 32, 3), 100, np.uint8)
    assert psnr_db(a, a) == 99
    assert abs(psnr_db(a, a + 10) - 28.13) < 0.01
    assert ssim(a, a) > 0.9999
