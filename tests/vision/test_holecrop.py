"""Parts of frames for painting models: blunted holes, full resolution, pasted without seams or changed pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bglora.vision.holecrop import LEAST, blunted, crops, hidden, pasted
from bglora.vision.metrics import psnr_db
from tests.vision import drawn

SIZE = (720, 1280)


def figure(height: int = 300, at: tuple[int, int] = (200, 500)) -> np.ndarray:
    """A person's outline: head, body, arms and legs apart."""
    hole = np.zeros(SIZE, np.uint8)
    y, x, unit = at[0], at[1], height // 10
    cv2.circle(hole, (x, y + unit), unit, 1, -1)
    cv2.line(hole, (x, y + 2 * unit), (x, y + 6 * unit), 1, 2 * unit)
    for side in (-1, 1):
        cv2.line(hole, (x, y + 3 * unit), (x + side * 3 * unit, y + 5 * unit), 1, unit // 2)
        cv2.line(hole, (x, y + 6 * unit), (x + side * 2 * unit, y + 10 * unit), 1, unit // 2)
    return hole > 0


def raggedness(mask: np.ndarray) -> float:
    """Length of the outline over that of a circle of the same area; 1 for a circle."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return sum(cv2.arcLength(one, True) for one in outlines) / (2 * float(np.sqrt(np.pi * mask.sum())))


def texture(seed: int = 1) -> np.ndarray:
    small = drawn.texture(seed).astype(np.uint8)
    return np.asarray(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_blunted_hole_covers_the_hole_and_says_nothing_of_its_outline() -> None:
    hole = figure()
    wide = blunted(hole, LEAST)
    near = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    assert wide[near < LEAST - 1].all()
    assert raggedness(hole) > 2 and raggedness(wide) < 1.25
    assert (wide & hole).sum() / (wide | hole).sum() < 0.6


def test_a_hole_around_something_is_not_closed_over_it() -> None:
    ring = np.zeros(SIZE, np.uint8)
    cv2.circle(ring, (640, 360), 300, 1, 12)
    wide = blunted(ring > 0, LEAST)
    assert not wide[360, 640] and wide[60, 640]


def test_no_hole_gives_no_part() -> None:
    assert crops(np.zeros(SIZE, bool), 512, 64) == []
    assert not blunted(np.zeros(SIZE, bool), LEAST).any()


def test_holes_far_apart_are_parts_of_their_own_and_near_ones_go_together() -> None:
    hole = np.zeros((1080, 1920), bool)
    hole[200:260, 200:260] = hole[300:340, 280:320] = hole[800:900, 1600:1700] = True
    found = crops(hole, 512, 64)
    assert len(found) == 2
    covered = np.zeros_like(hole)
    for crop in found:
        assert crop.size == (512, 512) and crop.own.shape == (512, 512)
        covered[crop.box] |= crop.own
    assert np.array_equal(covered, hole)


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize("extent", [(40, 30), (400, 200), (700, 1200), (720, 1280)])
def test_a_part_shows_the_hole_whole_in_whole_steps_near_the_native_size(side: int, extent: tuple[int, int]) -> None:
    hole = np.zeros(SIZE, bool)
    hole[: extent[0], 20 : 20 + extent[1]] = True
    (crop,) = crops(hole, side, 64)
    assert crop.own.sum() == hole.sum()
    assert crop.size[0] % 64 == crop.size[1] % 64 == 0
    assert 0.6 * side * side < crop.size[0] * crop.size[1] < 1.7 * side * side
    if max(extent) < 300:
        assert crop.size == crop.own.shape or side > SIZE[0], "painted at the frame's own resolution"


def test_every_pixel_that_touches_the_hole_is_hidden_from_the_model() -> None:
    hole, frame = figure(), texture()
    frame[hole] = (255, 0, 255)
    for side in (256, 512, 1024):
        (crop,) = crops(hole, side, 64)
        seen = crop.cut(hidden(frame, hole))
        shown = crop.shown()
        seen[shown] = 0
        blind = texture()
        blind[hole] = (0, 255, 0)
        other = crop.cut(hidden(blind, hole))
        other[shown] = 0
        assert np.array_equal(seen, other)


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_known_pixels_stay_and_a_model_that_is_off_in_color_leaves_no_seam(side: int) -> None:
    truth, hole = texture(2), figure()
    frame = truth.copy()
    frame[hole] = 0
    (crop,) = crops(hole, side, 64)
    painted = crop.cut(truth).astype(np.float32) * 0.92 + np.array([14, 4, -8])
    filled = pasted(frame, crop, np.clip(painted, 0, 255).astype(np.uint8))
    assert np.array_equal(filled[~hole], frame[~hole])
    raw = frame.copy()
    back = cv2.resize(np.clip(painted, 0, 255).astype(np.uint8), crop.own.shape[::-1], interpolation=cv2.INTER_CUBIC)
    raw[crop.box][crop.own] = back[crop.own]
    assert psnr_db(filled, truth, hole) > psnr_db(raw, truth, hole) + 6


def test_a_thin_hole_in_a_large_frame_is_shown_in_whole_cells() -> None:
    hole = np.zeros((2160, 3840), bool)
    hole[1000:1003, 300:3500] = True
    (crop,) = crops(hole, 512, 64)
    shown = crop.shown(8)
    assert shown[::8, ::8].any() and shown.shape == crop.size
    assert np.array_equal(shown, np.kron(shown[::8, ::8], np.ones((8, 8), bool)))
    assert (shown >= crop.shown()).all()


def test_a_neighboring_hole_is_left_to_its_own_part() -> None:
    hole = np.zeros((1080, 1920), bool)
    hole[500:560, 300:360] = hole[500:560, 840:900] = True
    frame = np.zeros((1080, 1920, 3), np.uint8)
    left, right = crops(hole, 512, 64)
    filled = pasted(frame, left, np.full((*left.size, 3), 200, np.uint8))
    assert filled[520, 330].any() and not filled[520, 870].any()
    assert right.own[hole[right.box]].all() or right.missing.sum() > right.own.sum()
