"""Shots to the frame on real films, and fades, dissolves and titles on a film drawn here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bglora.film.choice import Rule
from bglora.film.dissolves import find_dissolves
from bglora.film.ingestion import Ingestion
from bglora.film.shots import Shot, find_shots
from bglora.film.survey import THUMB, Survey
from tests.shared import shared

EVERY = Rule(fps=0, min_per_shot=1, max_per_shot=0, blur_threshold=0)
CLIPS = ("bbb_opening", "bbb_burrow", "bbb_burrow_hd", "sintel_rooftop", "sintel_snow_hut")


@cache
def facts_of(path: Path) -> dict[str, Any]:
    return Ingestion(path.stem, path, None, EVERY, True, lambda *_: None).survey()


def marked(facts: dict[str, Any]) -> set[int]:
    parts = [part for shot in facts["shots"] for part in shot["left_out"]]
    return {number for part in parts for number in range(part["first"], part["last"] + 1)}


def rows_of(clip: str) -> list[dict[str, Any]]:
    return json.loads(shared("clips", "shots.json").read_text())[f"{clip}.mp4"]


def test_every_shot_of_harbor_is_found_to_the_frame() -> None:
    truth = json.loads(shared("films", "harbor", "truth", "truth.json").read_text())["shots"]
    facts = facts_of(shared("films", "harbor", "harbor.mp4"))
    assert [shot["first"] for shot in facts["shots"]] == [shot["first"] for shot in truth]
    assert not marked(facts)


@pytest.mark.parametrize("clip", CLIPS)
def test_every_hard_cut_of_a_clip_is_found_and_none_is_invented(clip: str) -> None:
    rows = rows_of(clip)
    facts = facts_of(shared("clips", f"{clip}.mp4"))
    found = {shot["first"] for shot in facts["shots"] if shot["begins_by"] == "cut"}
    assert found == {row["first"] for row in rows if row["begins_by"] == "cut"}
    soft = {number for row in rows if row["kind"] == "fade" for number in range(row["first"], row["last"] + 1)}
    assert all(shot["first"] in soft for shot in facts["shots"] if shot["begins_by"] in ("fade", "dissolve"))


def test_fades_dissolves_and_titles_are_marked_and_little_else() -> None:
    shares = {}
    hits = others = wrong = total = 0
    for clip in CLIPS:
        found = marked(facts_of(shared("clips", f"{clip}.mp4")))
        for row in rows_of(clip):
            numbers = set(range(row["first"], row["last"] + 1))
            if row["kind"] == "shot":
                others, wrong = others + len(numbers), wrong + len(numbers & found)
            else:
                total, hits = total + len(numbers), hits + len(numbers & found)
                shares[clip, row["first"]] = len(numbers & found) / len(numbers)
    assert hits >= 0.95 * total
    assert min(shares.values()) >= 0.8, shares
    assert wrong <= 0.02 * others


@pytest.mark.parametrize("clip", CLIPS)
def test_shots_have_no_gaps(clip: str) -> None:
    facts = facts_of(shared("clips", f"{clip}.mp4"))
    shots = facts["shots"]
    assert shots[0]["first"] == 0
    assert shots[-1]["last"] == facts["count"] - 1
    assert all(one["last"] + 1 == other["first"] for one, other in zip(shots, shots[1:], strict=False))
    for shot in shots:
        numbers = [n for part in shot["left_out"] for n in range(part["first"], part["last"] + 1)]
        assert numbers == sorted(set(numbers))
        assert all(shot["first"] <= number <= shot["last"] for number in numbers)


def view(seed: int, number: int, speed: float = 1.0) -> np.ndarray:
    """float32 (288, 512): a textured place, seen by a camera that moves on by `speed` pixels a frame."""
    rng = np.random.default_rng(seed)
    wide = sum(
        cv2.resize(rng.uniform(0, 1, (n, 2 * n)).astype(np.float32), (700, 320)) * 90 / k
        for k, n in enumerate((5, 20, 80), 1)
    )
    left = int(10 + speed * number) % 180
    return wide[:288, left : left + 512]


def shots_of(frames: list[np.ndarray]) -> list[Shot]:
    survey = Survey()
    for number, frame in enumerate(frames):
        survey.add(np.clip(np.round(frame), 0, 255).astype(np.uint8), number / 24)
    return find_shots(survey)


def left_out(shots: list[Shot], *whys: str) -> set[int]:
    parts = [part for shot in shots for part in shot.left_out if part.why in whys]
    return {number for part in parts for number in range(part.first, part.last + 1)}


def test_cut_between_two_nearly_black_views() -> None:
    frames = [0.1 * view(1, n) for n in range(20)] + [0.1 * view(2, n) for n in range(20)]
    assert [(shot.first, shot.begins_by) for shot in shots_of(frames)] == [(0, "start"), (20, "cut")]


def test_flash_and_fast_pan_are_no_cuts() -> None:
    frames = [view(1, n) for n in range(20)] + [0.2 * view(1, n) + 200 for n in (20, 21)]
    frames += [view(1, n, 1) for n in range(22, 40)] + [view(1, 40 + 6 * n) for n in range(15)]
    assert len(shots_of(frames)) == 1


def test_dissolve_parts_two_shots_in_its_middle() -> None:
    frames = [view(1, n) for n in range(30)]
    frames += [(1 - a) * view(1, 30 + n) + a * view(2, n) for n, a in enumerate(np.linspace(0, 1, 22)[1:-1])]
    frames += [view(2, n) for n in range(20, 50)]
    shots = shots_of(frames)
    assert [shot.begins_by for shot in shots] == ["start", "dissolve"]
    assert abs(shots[1].first - 40) <= 2
    found = left_out(shots, "dissolve")
    assert len(found & set(range(30, 50))) >= 18
    assert len(found - set(range(29, 51))) == 0


def test_dissolves_of_a_long_shot_are_found_wherever_they_lie() -> None:
    rng = np.random.default_rng(2)
    views = [rng.integers(0, 255, (27, 48)).astype(np.float32) for _ in range(3)]
    thumbs = np.stack([views[0]] * 4000)
    for place, first in enumerate([1080, 1480, 2570], start=0):
        share = np.linspace(0, 1, 32)[1:-1, None, None]
        one, other = views[place % 3], views[(place + 1) % 3]
        thumbs[first : first + 30] = (1 - share) * one + share * other
        thumbs[first + 30 :] = other
    found = find_dissolves(np.round(thumbs).astype(np.uint8))
    assert [one.first for one in found] == pytest.approx([1080, 1480, 2570], abs=2)
    assert [one.last for one in found] == pytest.approx([1109, 1509, 2599], abs=2)


@pytest.mark.parametrize(("level", "why"), [(2.0, "black"), (240.0, "fade")])
def test_fade_through_a_plain_color_parts_two_shots(level: float, why: str) -> None:
    away = np.linspace(1, 0, 21)[1:]
    frames = [view(1, n) for n in range(30)]
    frames += [a * view(1, 30 + n) + (1 - a) * level for n, a in enumerate(away)]
    frames += [np.full((288, 512), level)] * 6
    frames += [(1 - a) * view(2, n) + a * level for n, a in enumerate(away)]
    frames += [view(2, n) for n in range(20, 50)]
    shots = shots_of(frames)
    assert [shot.begins_by for shot in shots] == ["start", "fade"]
    assert 47 <= shots[1].first <= 57
    assert len(left_out(shots, why)) >= 6
    found = left_out(shots, "fade", "black")
    assert len(found & set(range(30, 76))) >= 42
    assert len(found - set(range(28, 79))) == 0


def write(frame: np.ndarray, text: str, strength: float = 1.0) -> np.ndarray:
    letters = np.zeros(frame.shape, np.uint8)
    cv2.putText(letters, text, (60, 200), cv2.FONT_HERSHEY_DUPLEX, 1.1, 255, 2, cv2.LINE_AA)
    share = strength * letters.astype(np.float32) / 255
    return frame * (1 - share) + 250 * share


def test_title_over_a_picture_is_marked_from_its_first_to_its_last_frame() -> None:
    frames = [0.6 * view(1, n, 0.2) for n in range(90)]
    frames[31:70] = [write(frame, "THE HARBOR TOWN") for frame in frames[31:70]]
    assert left_out(shots_of(frames), "title") == set(range(31, 70))


def test_title_that_fades_on_black_is_left_out_whole() -> None:
    strengths = [*np.linspace(0, 1, 13)[1:], *[1.0] * 24, *np.linspace(1, 0, 13)[1:]]
    black = np.zeros((288, 512))
    frames = [view(1, n) for n in range(24)] + [write(black, "A short film", s) for s in strengths]
    frames += [view(2, n) for n in range(24)]
    found = left_out(shots_of(frames), "title", "black", "fade")
    assert len(found & set(range(24, 72))) >= 46
    assert len(found - set(range(24, 72))) == 0


def test_windows_and_grass_are_no_letters() -> None:
    rng = np.random.default_rng(3)
    town = np.full((288, 512), 90.0)
    for left in range(30, 480, 34):
        town[100:126, left : left + 14] = 220
    grass = np.full((288, 512), 60.0)
    for left in rng.integers(10, 500, 140):
        top = int(rng.integers(180, 240))
        cv2.line(grass, (int(left), 270), (int(left + rng.integers(-8, 8)), top), float(rng.integers(150, 220)), 2)
    assert not left_out(shots_of([town] * 30 + [grass] * 30), "title")


def test_a_survey_of_many_pieces_gives_back_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bglora.film.survey.CHUNK", 4)
    survey = Survey()
    for number in range(11):
        survey.add(np.full(THUMB, 10 * number, np.uint8), number / 24)
    assert survey.thumbs(0, 10)[:, 0, 0].tolist() == [10 * number for number in range(11)]
    assert survey.thumbs(3, 8)[:, 0, 0].tolist() == [30, 40, 50, 60, 70, 80]
    assert survey.thumbs(5, 6).shape == (2, *THUMB) and len(survey.thumbs(5, 4)) == 0
    assert survey.thumb(8)[0, 0] == 80 and len(survey) == 11
