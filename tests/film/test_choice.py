"""Which frames of a shot are kept, and letterbox bars."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bglora.film.bars import BarWatch
from bglora.film.choice import Rule, choose
from bglora.film.shots import LeftOut, Shot
from bglora.film.survey import Survey
from tests.film.test_shots import view

USUAL = Rule(fps=2, min_per_shot=1, max_per_shot=8, blur_threshold=80)


def surveyed(frames: list[np.ndarray]) -> Survey:
    survey = Survey()
    for number, frame in enumerate(frames):
        survey.add(np.clip(np.round(frame), 0, 255).astype(np.uint8), number / 24)
    return survey


def walker(frame: np.ndarray, number: int) -> np.ndarray:
    shown = frame.copy()
    cv2.ellipse(shown, (20 + 5 * number, 200), (25, 60), 0, 0, 360, 20.0, -1)
    return shown


def shot(count: int, *left_out: LeftOut) -> Shot:
    return Shot(0, count - 1, "start", left_out)


def test_a_still_shot_is_one_picture_whoever_walks_through_it() -> None:
    survey = surveyed([walker(view(1, 0), number) for number in range(72)])
    choice = choose(shot(72), survey, USUAL)
    assert len(choice.kept) == 1
    assert len(choice.repeated) == 5


def test_a_pan_is_many_pictures_up_to_the_limit() -> None:
    survey = surveyed([view(1, number, 2.0) for number in range(85)])
    kept = choose(shot(85), survey, USUAL).kept
    assert 2 <= len(kept) <= 4
    assert len(choose(shot(85), survey, replace(USUAL, fps=12, max_per_shot=2)).kept) == 2
    assert max(kept) - min(kept) > 48


def test_every_frame_is_kept_with_fps_0_but_what_is_left_out() -> None:
    frames = [cv2.GaussianBlur(view(1, 0), (0, 0), 6)] * 30
    survey = surveyed(frames)
    every = Rule(fps=0, min_per_shot=1, max_per_shot=0, blur_threshold=80)
    fade = LeftOut(0, 9, "fade")
    assert choose(shot(30, fade), survey, every).kept == tuple(range(10, 30))
    assert len(choose(shot(30, fade), survey, replace(every, max_per_shot=5)).kept) == 5


def test_blurred_frames_are_passed_over() -> None:
    frames = [view(1, number, 2.0) for number in range(80)]
    frames[:40] = [cv2.GaussianBlur(frame, (0, 0), 5) for frame in frames[:40]]
    choice = choose(shot(80), surveyed(frames), USUAL)
    assert min(choice.kept) >= 36
    assert choice.blurred


def test_the_least_number_of_frames_is_reached_with_the_least_bad() -> None:
    frames = [cv2.GaussianBlur(view(1, 0), (0, 0), 8) for _ in range(48)]
    frames[30] = cv2.GaussianBlur(view(1, 0), (0, 0), 2)
    kept = choose(shot(48), surveyed(frames), replace(USUAL, min_per_shot=3)).kept
    assert len(kept) == 3
    assert 30 in kept


def test_what_is_passed_over_is_noted() -> None:
    survey = surveyed([view(1, 0)] * 48)
    whole = shot(48, LeftOut(0, 5, "fade"))
    noted = choose(whole, survey, USUAL).noted_in(whole)
    assert {part.why for part in noted.left_out} == {"fade", "duplicate"}
    assert list(noted.left_out) == sorted(noted.left_out, key=lambda part: part.first)


def test_nothing_is_kept_of_a_shot_that_is_left_out_whole() -> None:
    survey = surveyed([view(1, 0)] * 10)
    assert choose(shot(10, LeftOut(0, 9, "title")), survey, replace(USUAL, min_per_shot=3)).kept == ()


@pytest.mark.parametrize("bars", [(0, 0, 0, 0), (12, 13, 0, 0), (0, 0, 20, 21), (3, 3, 5, 5)])
def test_bars_are_found_to_the_row(bars: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = bars
    watch = BarWatch()
    for number in range(4):
        picture = np.zeros((120, 200), np.uint8)
        inside = np.clip(view(1, number, 20)[: 120 - top - bottom, : 200 - left - right], 30, 255)
        picture[top : 120 - bottom, left : 200 - right] = inside
        watch.add(picture)
    assert watch.bars() == bars


def test_a_dark_picture_has_no_bars() -> None:
    watch = BarWatch()
    watch.add(np.full((120, 200), 5, np.uint8))
    assert watch.bars() == (0, 0, 0, 0)
    ramp = np.tile(np.linspace(0, 200, 120).astype(np.uint8)[:, None], (1, 200))
    watch.add(ramp)
    assert watch.bars() == (0, 0, 0, 0)
