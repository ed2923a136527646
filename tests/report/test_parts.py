"""Samples, numbers in words, curves and layers."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bglora.engine.stage import Row
from bglora.project.decided import TELL
from bglora.report.contents import Sample, Shot, _trim, choose_samples
from bglora.report.curve import loss_curve, side_curve, smoothed
from bglora.report.markup import Html, count, duration, percent, tag
from bglora.report.pictures import OBJECT_COLOR, Picture, Unreadable, mask_over, photo, provenance_layer
from bglora.report.places import chosen_plates, hero_columns, shared_tags, spread
from bglora.report.shots import _origin_words, left_out_in_words
from bglora.report.training import step_times
from bglora.report.verdicts import verdict


def sample(number: int, hole: float = 0.0) -> Sample:
    picture = f"a-s000/{number:06d}"
    row = Row("a-s000", picture, "made", "", (), {"hole": hole})
    return Sample(picture, row, None, row)


def pixels(picture: Picture | Unreadable) -> np.ndarray:
    assert isinstance(picture, Picture)
    data = base64.b64decode(picture.source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_samples_are_spread_and_show_the_largest_character() -> None:
    samples = [sample(number, hole=0.5 if number in {1, 5, 6, 11} else 0.1) for number in range(12)]
    assert [each.picture[-2:] for each in choose_samples(samples, 4)] == ["01", "05", "06", "11"]


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_few_samples_are_all_shown(number: int) -> None:
    samples = [sample(index) for index in range(number)]
    assert choose_samples(samples, 4) == samples


def test_a_long_film_shows_fewer_samples() -> None:
    shots = [Shot(f"a-s{number}", "a", samples=[sample(index) for index in range(4)]) for number in range(1000)]
    _trim(shots)
    shown = [len(shot.samples) for shot in shots]
    assert sum(shown) <= 320
    assert shown[0] == 1 and sum(shown[500:]) > 100


def test_spread_takes_first_and_last() -> None:
    rows = [Row("a", f"{number}", "made", "", (), {}) for number in range(50)]
    chosen = [int(row.picture) for row in spread(rows, 12)]
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 49, 12)


@pytest.mark.parametrize(("share", "words"), [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.0888, "8.9 %"), (1.0, "100.0 %")])
def test_shares_in_words(share: float, words: str) -> None:
    assert percent(share) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.4 s"), (52, "52 s"), (425, "7 min 05 s"), (12000, "3 h 20 min")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_counts_agree_with_their_noun() -> None:
    assert [count(1, "shot"), count(12, "shot"), count(1200, "plate")] == ["1 shot", "12 shots", "1\u202f200 plates"]


def test_markup_escapes_text_and_attributes() -> None:
    made = tag(
        "p", "<b>", Html("<i>x</i>"), None, ["&", "'"], title='"><script>', data_x=True, hidden=False, class_="a"
    )
    assert made == '<p title="&quot;&gt;&lt;script&gt;" data-x class="a">&lt;b&gt;<i>x</i>&amp;&#x27;</p>'


def test_the_curve_leaves_out_what_is_not_finite_and_survives_one_point() -> None:
    assert loss_curve([], "x") == ""
    assert loss_curve([[1, math.nan, None, 1e-4]], "x") == ""
    one = loss_curve([[1, 0.5, None, 1e-4], [2, math.inf, math.nan, 1e-4]], "x")
    assert "nan" not in one.lower() and "inf" not in one
    flat = loss_curve([[step, 0.0, None, 1e-4] for step in range(5)], "x")
    assert "nan" not in flat


def test_a_side_curve_needs_two_points_and_leaves_out_what_is_not_finite() -> None:
    assert side_curve([(1.0, 0.1)], "Learning rate", "x") is None
    assert side_curve([(1.0, 0.1), (2.0, math.nan)], "Learning rate", "x") is None
    drawn = side_curve([(0.0, 0.0), (5.0, math.inf), (10.0, 0.0)], "Learning rate", "Old town")
    assert drawn is not None and "nan" not in drawn and "inf" not in drawn
    assert 'aria-labelledby="learning-rate-old-town"' in drawn


def test_step_times_are_those_of_the_last_training_and_survive_a_line_cut_off(tmp_path: Path) -> None:
    assert step_times(tmp_path, "scene-00") == [] == step_times(tmp_path, "../scene-00")
    for number, lines in (
        ("2", '{"step": 1, "seconds": 9}\n'),
        ("10", '{"step": 2, "seconds": 0.5}\n{"step": 3, "sec'),
    ):
        notes = tmp_path / ".bglora/logs/train/scene-00" / number / "steps.jsonl"
        notes.parent.mkdir(parents=True)
        notes.write_text(lines)
    assert step_times(tmp_path, "scene-00") == [(2.0, 0.5)]


def test_smoothing_keeps_a_constant() -> None:
    assert all(value == pytest.approx(2.0) for _, value in smoothed([(step, 2.0) for step in range(50)]))


def test_smoothing_does_not_lag_behind_a_slope() -> None:
    line = [(float(step), 100.0 - step) for step in range(101)]
    assert smoothed(line)[50][1] == pytest.approx(50.0, abs=0.5)


def test_pictures_are_shrunk_never_enlarged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (640, 360), (10, 200, 30)).save(path)
    assert pixels(photo(path, 320)).shape == (180, 320, 3)
    assert pixels(photo(path, 960)).shape == (360, 640, 3)


def test_the_mask_colors_the_character_and_greys_the_rest(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32), (10, 200, 30)).save(tmp_path / "frame.png")
    mask = np.zeros((32, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    shown = pixels(mask_over(tmp_path / "frame.png", tmp_path / "mask.png", 64)).astype(int)
    assert np.ptp(shown[16, 56]) < 12, "outside the character the frame is grey"
    assert np.abs(shown[16, 8] - OBJECT_COLOR).max() < 60


def test_a_mask_of_another_size_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "frame.png")
    Image.new("L", (32, 32)).save(tmp_path / "mask.png")
    shown = mask_over(tmp_path / "frame.png", tmp_path / "mask.png", 64)
    assert isinstance(shown, Unreadable) and "32 × 32" in shown.why


def test_original_pixels_stay_see_through(tmp_path: Path) -> None:
    origin = np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(16, 0)
    Image.fromarray(origin).save(tmp_path / "origin.png")
    layer = pixels(provenance_layer(tmp_path / "origin.png", 320))
    assert layer[8, 8, 3] == 0
    assert all(layer[8, 24 + 16 * index, 3] > 150 for index in range(3))
    assert len({tuple(layer[8, 24 + 16 * index, :3]) for index in range(3)}) == 3


@pytest.mark.parametrize(("cells", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3)])
def test_the_places_leave_no_ragged_edge(cells: int, columns: int) -> None:
    assert hero_columns(cells) == columns


def test_frames_left_out_are_told_by_their_reason() -> None:
    parts = [{"first": n, "last": n, "why": "duplicate"} for n in range(20, 40, 4)]
    parts += [{"first": 0, "last": 11, "why": "fade"}, {"first": 50, "last": 50, "why": "title"}]
    assert left_out_in_words(parts) == [
        "5 frames left out: duplicate.",
        "Frames 0–11 left out: fade.",
        "Frame 50 left out: title.",
    ]


def test_captions_are_told_by_what_differs() -> None:
    assert shared_tags(["t, bg, day, quay, empty", "t, bg, night, quay, empty"]) == (2, 2)
    assert shared_tags(["t, bg", "t, bg, day"]) == (2, 0)
    assert shared_tags(["t, bg"]) == (0, 0)


def test_the_contact_sheet_shows_the_dataset_first_and_then_others_in_order() -> None:
    plates = [Row("a", f"{number:02d}", "made", "", (), {}) for number in range(30)]
    told = {
        f"{n:02d}": Row("s", f"{n:02d}", "made" if n % 7 == 0 else "dropped", "much alike", (), {}) for n in range(30)
    }
    shown = [row.picture for row in chosen_plates(plates, told, 8)]
    assert {"00", "07", "14", "21", "28"} <= set(shown)
    assert len(shown) == 8 and shown == sorted(shown)


def test_a_frame_that_a_person_kept_is_not_said_to_show_nobody() -> None:
    row = Row("film-s000", "film-s000/000001", "made", "", (), {"natural": True, "kept": True, "hole": 0.0})
    assert "nobody" not in _origin_words(row) and "kept by you" in _origin_words(row)
    assert "nobody" in _origin_words(replace(row, record={"natural": True, "hole": 0.0}))


def test_a_checkpoint_that_is_better_than_the_finished_lora_is_named_beside_the_scale() -> None:
    kept, along = "loras/scene-00.safetensors", "loras/scene-00/checkpoints/step-000008.safetensors"
    shown = {
        lora: str(verdict(Row("s", "s", "made", "", (), {"recommended_scale": 0.7, "recommended_lora": lora})))
        for lora in (kept, along)
    }
    assert along in shown[along] and kept not in shown[kept]
    told = {
        lora: TELL["test"](None, [Row("s", "s", "made", "", (), {"recommended_scale": 0.7, "recommended_lora": lora})])
        for lora in (kept, along)
    }
    assert told[along].text == f"Verdicts: s good ({along} at scale 0.7)."
    assert told[kept].text == "Verdicts: s good (scale 0.7)."
