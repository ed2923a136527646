"""The judge of mini's pictures: what it takes, what it answers, and that the shipped one can see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bglora.assets import asset
from bglora.assets.train_mini import judge as training
from bglora.nets.still_judge import CELL, PLACES, SIDE, StillJudge, as_input, load_judge
from tests.shared import shared

SHIPPED = "mini_judge.safetensors"


def still(place: int, character: bool, seed: int) -> training.Example:
    """A plain ground in the place's color, and a red block with an eye for a character."""
    rng = np.random.default_rng(seed)
    ground = np.array([(120, 120, 120), (230, 210, 160), (150, 90, 40), (40, 120, 160)][place])
    picture = np.clip(ground + rng.normal(0, 8, (256, 256, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((256, 256), np.float32)
    if character:
        left, top = (int(value) for value in rng.integers(20, 150, 2))
        picture[top : top + 80, left : left + 60] = (230, 30, 40)
        cv2.circle(picture, (left + 30, top + 20), 12, (255, 255, 255), -1)
        mask[top : top + 80, left : left + 60] = 1
    return training.Example(picture, place, character, mask, f"{PLACES[place]}-{seed}{'d' if character else 'a'}")


def test_pictures_of_any_size_are_brought_to_about_one_area() -> None:
    for size in ((128, 128), (96, 160), (720, 1280), (40, 30)):
        _, _, height, width = as_input([np.zeros((*size, 3), np.uint8)]).shape
        assert height % 16 == width % 16 == 0
        assert 0.7 < height * width / SIDE**2 < 1.4


def test_verdicts_are_probabilities_picture_by_picture() -> None:
    torch.manual_seed(0)
    pictures = [still(k % 4, k % 2 == 0, k).picture[: 256 - 32 * k] for k in range(5)]
    net = StillJudge().eval()
    found = net.judge(pictures)
    assert found.places.shape == (5, len(PLACES)) and np.allclose(found.places.sum(axis=1), 1, atol=1e-5)
    assert found.character.shape == (5,) and ((found.character >= 0) & (found.character <= 1)).all()
    assert np.allclose(net.judge(pictures[3:4]).places, found.places[3:4], atol=1e-6)
    assert net.judge([]).places.shape == (0, len(PLACES))


def test_a_pasted_character_is_where_its_mask_is() -> None:
    examples = [still(0, True, 1), still(0, False, 2)]
    (cut,) = training.cutouts(examples)[False]
    pasted = training.paste(examples[1], cut, np.random.default_rng(0))
    changed = np.abs(pasted.picture.astype(int) - examples[1].picture).max(axis=2) > 60
    assert pasted.character and pasted.mask is not None and pasted.mask.any()
    assert (changed & (pasted.mask > 0.5)).sum() > 0.9 * changed.sum()


def test_the_label_is_about_what_the_part_shows() -> None:
    example = still(1, True, 3)
    seen = [training.draw((example,), np.random.default_rng(seed))[0] for seed in range(60)]
    for drawn in seen:
        assert drawn.pixels.shape == (SIDE, SIDE, 3) and drawn.cells.shape == (SIDE // CELL,) * 2
        assert drawn.label == float(drawn.cells.mean() >= training.VISIBLE) or drawn.weight == 0
    assert {drawn.label for drawn in seen} == {0.0, 1.0}


def test_a_hidden_character_is_no_question_for_the_judge() -> None:
    empty, seen = still(1, False, 3), still(1, True, 3)
    hidden = replace(seen, mask=np.pad(np.ones((25, 25), np.float32), (0, 231)))
    unknown = replace(seen, mask=None)
    assert training.clear([empty, seen, hidden, unknown]) == [empty, seen, unknown]


def test_a_judge_learns_what_it_is_shown_and_survives_its_file(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    examples = [
        still(place, there, 10 * place + seed) for place in range(4) for seed in range(4) for there in (False, True)
    ]
    parts = [replace(example, name=example.name[:-1] + ("f" if example.character else "b")) for example in examples]
    net = training.train(examples + parts, steps=24)
    torch.set_num_threads(threads)
    training.save(net, tmp_path / "judge.safetensors")
    assert (tmp_path / "judge.safetensors").stat().st_size < 2e6
    others = [still(place, bool(seed % 2), 100 + 10 * place + seed) for place in range(4) for seed in range(4)]
    place, _ = training.measure(load_judge(tmp_path / "judge.safetensors"), others)
    assert place.mean() > 0.8


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    weights = load_file(asset(SHIPPED))
    weights.pop("cell.bias")
    save_file(weights, tmp_path / "judge.safetensors")
    with pytest.raises(RuntimeError, match=r"cell\.bias"):
        load_judge(tmp_path / "judge.safetensors")


def test_the_shipped_judge_tells_stills_apart_that_it_never_saw() -> None:
    examples = training.clear(training.read_examples([shared("stills")]))[::3]
    place, character = training.measure(load_judge(asset(SHIPPED)), examples)
    assert place.mean() >= 0.9 and character.mean() >= 0.7
