"""Backends of the role `caption`: one line, trigger first, nobody named, only what is measured."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from bglora import backends
from bglora.backends.caption.template import FIELDS, named_character
from bglora.errors import UserError
from bglora.settings import Settings
from bglora.vision.looks import color_name, light_words, measure
from tests.backends import tiny_qwen
from tests.shared import shared
from tests.stages.drawn_plates import place

QWEN: dict[str, Path] = {}


@pytest.fixture(params=sorted(backends.REGISTRY["caption"]))
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "qwen_vl" and not QWEN:
        QWEN["folder"] = tiny_qwen.write(tmp_path_factory.mktemp("qwen"), says=tiny_qwen.GOOD)
    return str(request.param)


def writer(name: str, **changes: object):
    if name == "qwen_vl":
        changes["qwen_vl"] = str(QWEN["folder"])
    return backends.load("caption", name, Settings().caption.model_copy(update=changes))


def test_a_caption_is_one_line_of_tags_with_the_trigger_first(name: str) -> None:
    pictures = [place(k, 0) for k in range(5)] + [np.zeros((1, 1, 3), np.uint8)]
    captions = writer(name).caption(iter(pictures), "hrbr_1", "harbor 1")
    assert len(captions) == 6
    for one in captions:
        tags = one.text.split(", ")
        assert tags[:2] == ["hrbr_1", "background"] and tags[-2:] == ["no characters", "empty scene"]
        assert "\n" not in one.text and all(tags) and set(one.fields) == set(FIELDS)


def test_the_words_for_emptiness_and_the_prefix_may_be_empty(name: str) -> None:
    (one,) = writer(name, empty_words="", prefix="").caption([place(1, 0)], "t", "t")
    assert one.text.startswith("t, ") and "empty" not in one.text


def test_style_names_contents_and_place_names_light(name: str) -> None:
    (place_,) = writer(name, mode="place").caption([place(1, 0)], "t", "t")
    (style,) = writer(name, mode="style").caption([place(1, 0)], "t", "t")
    assert place_.fields["lighting"] and not style.fields["lighting"]
    assert place_.text != style.text


def test_the_template_names_what_is_above_and_below_in_style_only() -> None:
    (place_,) = writer("template", mode="place").caption([place(1, 0)], "t", "t")
    (style,) = writer("template", mode="style").caption([place(1, 0)], "t", "t")
    assert "above" in style.fields["atmosphere"] and "above" not in place_.fields["atmosphere"]


def test_a_caption_that_names_a_character_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="name a character: 'dog'"):
        writer(name, prefix="dog park").caption([place(1, 0)], "t", "t")
    with pytest.raises(UserError, match="'Momo'|'momo'"):
        writer(name, prefix="Momo's house", character_names=("Momo",)).caption([place(1, 0)], "t", "t")


@pytest.mark.parametrize(
    ("tag", "word"),
    [("no characters", ""), ("without people", ""), ("a red boat", ""), ("two Girls", "girl"), ("empty street", ""),
     ("a man-made pier", "man"), ("catalog of boats", ""), ("a walking person", "person")],
)  # fmt: skip
def test_words_that_say_somebody_is_there(tag: str, word: str) -> None:
    assert named_character([tag]).rstrip("s") == word


def test_words_for_light_agree_with_the_captions_of_stills() -> None:
    said: dict[str, Counter[str]] = {}
    for line in shared("stills", "captions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["file"].endswith("a.jpg"):
            picture = cv2.cvtColor(cv2.imread(str(shared("stills", row["file"]))), cv2.COLOR_BGR2RGB)
            said.setdefault(light_words(measure(picture)), Counter())[row["lighting"]] += 1
    # What these words are taken for, they mean: at least seven of ten times.
    for words in ("golden evening", "blue dusk", "violet twilight", "turquoise light", "deep blue light"):
        assert said[words][words] >= 0.7 * said[words].total(), words


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((255, 255, 255), "pale grey"), ((0, 0, 0), "black"), ((200, 30, 30), "red"), ((40, 90, 200), "blue"),
     ((40, 150, 60), "green"), ((225, 200, 160), "beige"), ((110, 70, 40), "brown")],
)  # fmt: skip
def test_colors_have_plain_names(rgb: tuple[int, int, int], word: str) -> None:
    lab = cv2.cvtColor(np.float32([[rgb]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    assert color_name(*map(float, lab)) == word
