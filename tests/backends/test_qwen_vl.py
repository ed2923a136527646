"""Qwen-VL captions: questions, answers that can and can't be used, published files of three generations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bglora import backends
from bglora.backends.caption.answers import UnusableError, ask_all, question, read
from bglora.backends.caption.qwen_vl import Captioner, hub_name
from bglora.backends.caption.template import FIELDS
from bglora.errors import MachineError, UserError
from bglora.nets.qwen_vl import SHARE, QwenVL
from bglora.settings import Settings
from tests.backends import tiny_qwen
from tests.stages.drawn_plates import place

FENCED = """Sure! Here is the description:
```json
{
  "Scene Type": "High view over a bay.",
  "architecture": ["stone houses", "a wooden pier"],
  "lighting": "Low sun from the left; golden",
  "atmosphere": "Hazy, no people, quiet"
}
```
Let me know if you need more."""

LINES = """**scene_type:** close view of a kitchen table
- architecture: none
3. Lighting: soft window light
Atmosphere: warm, dusty air"""


def settings(name: object, **changes: object) -> Any:
    return Settings().caption.model_copy(update={"qwen_vl": str(name), "max_tokens": 40, **changes})


def load(name: object, **changes: object) -> Any:
    return backends.load("caption", "qwen_vl", settings(name, **changes))


@pytest.fixture(scope="module", params=tiny_qwen.KINDS)
def speaking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("says"), request.param, tiny_qwen.GOOD)


@pytest.fixture(scope="module", params=tiny_qwen.KINDS)
def noise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("noise"), request.param)


# Answers


def test_fields_are_read_from_json_among_other_words_and_from_lines() -> None:
    assert read(FENCED) == {
        "scene_type": "high view over a bay",
        "architecture": "stone houses, a wooden pier",
        "lighting": "low sun from the left, golden",
        "atmosphere": "hazy, quiet",
    }
    assert read(LINES) == {
        "scene_type": "close view of a kitchen table",
        "architecture": "",
        "lighting": "soft window light",
        "atmosphere": "warm, dusty air",
    }
    assert read("".join(tiny_qwen.GOOD))["lighting"] == "golden evening light"


def answer(**changes: object) -> str:
    fields: dict[str, object] = dict.fromkeys(FIELDS, "grey stone")
    return json.dumps({name: words for name, words in {**fields, **changes}.items() if words is not None})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("A harbor in the evening.", "none of the four"),
        ("", "none of the four"),
        ('{"scene_type": "a bay", "lighting": "low', "broken, or cut off"),
        (answer(lighting=None), "no lighting"),
        (answer(lighting=""), "lighting is empty"),
        (answer(atmosphere="none"), "atmosphere is empty"),
        (answer(atmosphere="no people, no animals"), "only what is not there"),
        (answer(scene_type=3), "scene_type is no text"),
        (answer(scene_type="..."), "scene_type is empty"),
        (answer(scene_type="黄昏的港口"), "not in English"),
        (answer(lighting="закат over the sea"), "not in English"),
        (answer(atmosphere="very " * 30 + "calm"), "31 words"),
        (answer(atmosphere="a dog asleep by the fire"), "'dog'"),
        (answer(scene_type="Momo's bedroom"), "'momo'"),
    ],
)
def test_an_answer_that_can_not_be_used_says_why(said: str, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        read(said, ["Momo"])


def test_names_with_accents_are_english_enough() -> None:
    assert read(answer(scene_type="A café terrace"))["scene_type"] == "a café terrace"


@pytest.mark.parametrize("mode", ["place", "style"])
def test_each_question_is_worded_otherwise_and_names_all_fields_and_what_was_wrong(mode: str) -> None:
    asked = [question(mode, attempt, "it names a dog" if attempt else "") for attempt in range(3)]
    assert len(set(asked)) == 3
    assert all(field in words for words in asked for field in FIELDS)
    assert all("it names a dog" in words for words in asked[1:])


def test_only_pictures_without_an_answer_are_asked_again_and_not_for_ever() -> None:
    rounds: list[list[int]] = []

    def answers(numbers: Sequence[int], questions: Sequence[str]) -> list[str]:
        rounds.append(list(numbers))
        return ["" if at == 2 or (at == 1 and len(rounds) == 1) else answer() for at in numbers]

    first, second, third = ask_all(3, "place", 3, answers)
    assert rounds == [[0, 1, 2], [1, 2], [2]]
    assert (first.tries, second.tries, third.tries) == (1, 2, 3)
    assert first.fields and second.fields and not third.fields and "none of the four" in third.reason


# Models


def test_an_answer_that_can_be_used_is_the_caption(speaking: Path) -> None:
    pictures = [place(k, 0) for k in range(3)] + [np.zeros((5, 900, 3), np.uint8)]
    captions = load(speaking, batch=2).caption(iter(pictures), "hrbr_1", "harbor 1")
    text = "hrbr_1, background, wide view from above, boats in front, golden evening light, calm, slightly hazy"
    assert [one.text for one in captions] == [f"{text}, no characters, empty scene"] * 4
    assert all(not one.said and one.fields["architecture"] == "" for one in captions)
    (style,) = load(speaking, mode="style").caption(pictures[:1], "hrbr_1", "harbor 1")
    assert "stone houses with red roofs" in style.text and "golden" not in style.text


def test_noise_is_asked_again_and_then_the_template_writes_and_it_is_said(noise: Path) -> None:
    pictures = [place(k, 0) for k in range(2)]
    made = load(noise, tries=2).caption(iter(pictures), "t", "harbor 1")
    template = backends.load("caption", "template", settings(noise)).caption(pictures, "t", "harbor 1")
    assert [one.text for one in made] == [one.text for one in template]
    assert all("by the template: asked 2 times, and it has none of the four fields" in one.said for one in made)


def test_pictures_of_a_batch_do_not_touch_each_other(noise: Path) -> None:
    """Questions of different lengths are filled up at the left; pictures of different sizes lie in one list."""
    model = QwenVL(noise, max_tokens=8)
    pictures = [place(0, 0), place(1, 0)[:60, :40], np.zeros((1, 1, 3), np.uint8)]
    questions = ["Which place is this, and why?", "What?", "What is built there, of what?"]
    together = model.answer(pictures, questions)
    assert together == [model.answer([p], [q])[0] for p, q in zip(pictures, questions, strict=True)]
    assert together == model.answer(pictures, questions)


def test_a_batch_that_does_not_fit_is_halved_and_a_single_picture_is_told(speaking: Path) -> None:
    class Small(QwenVL):
        room = 1

        def answer(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
            if len(pictures) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().answer(pictures, questions)

    fallback = backends.load("caption", "template", settings(speaking))
    model = Small(speaking)
    made = Captioner(model, fallback, 3, 8).caption([place(k, 0) for k in range(3)], "t", "t")
    assert len(made) == 3 and not any(one.said for one in made)
    model.room = 0
    with pytest.raises(MachineError, match="memory") as caught:
        Captioner(model, fallback, 3, 8).caption([place(0, 0)], "t", "t")
    assert "caption.quantize" in caught.value.cure


# Names and full size


def test_a_name_without_its_publisher_is_qwens() -> None:
    assert hub_name("Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    asked = backends.names_of_weights("caption", "qwen_vl", settings("Qwen3-VL-4B-Instruct"))
    assert dict(asked) == {"caption.qwen_vl": "Qwen/Qwen3-VL-4B-Instruct"}
    assert hub_name("me/Qwen2-VL-tuned") == "me/Qwen2-VL-tuned" and hub_name("/data/Qwen") == "/data/Qwen"


def test_what_changes_an_answer_changes_the_identity(tmp_path: Path) -> None:
    tiny_qwen.write(tmp_path)

    def told(**changes: object) -> str:
        return backends.identity("caption", "qwen_vl", settings(tmp_path, **changes))

    assert len({told(), told(tries=1), told(max_tokens=50), told(quantize="4bit")}) == 4
    before = told()
    assert told(batch=1) == before
    tiny_qwen.write(tmp_path, seed=1)
    assert told() != before


QWEN2_VL_7B = {
    "model_type": "qwen2_vl", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_act": "silu",
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": False,
    "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 28,
    "bos_token_id": 151643, "eos_token_id": 151645, "image_token_id": 151655, "video_token_id": 151656,
    "vision_start_token_id": 151652, "vision_end_token_id": 151653, "vision_token_id": 151654,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {
        "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3, "hidden_size": 3584,
        "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
    },
}  # fmt: skip


def test_qwen2_vl_7b_is_as_large_as_its_card_says(tmp_path: Path) -> None:
    from transformers import AutoConfig, Qwen2VLForConditionalGeneration

    (tmp_path / "config.json").write_text(json.dumps(QWEN2_VL_7B), encoding="utf-8")
    with torch.device("meta"):
        model = Qwen2VLForConditionalGeneration(AutoConfig.from_pretrained(tmp_path))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_291_375_616
    vision = sum(parameter.numel() for parameter in model.model.visual.parameters())
    assert vision == 675_759_104
    # what bitsandbytes takes: the layers of the language model; 4 bits have a scale of 4 bytes for each 64 weights
    few = sum(
        module.weight.numel()
        for name, module in model.model.language_model.named_modules()
        if isinstance(module, torch.nn.Linear)
    )
    for quantize, size in (("8bit", 1), ("4bit", 0.5 + 4 / 64)):
        share = 1 - few * (2 - size) / (2 * 8_291_375_616)
        assert share < SHARE[quantize] < share + 0.05


# What can be wrong


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    path = tiny_qwen.write(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)


def test_weights_that_are_not_all_there_are_told_by_name(tmp_path: Path) -> None:
    path = tiny_qwen.write(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"lacks .*norm\.weight"):
        load(tmp_path)


def test_a_folder_of_another_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of a Qwen-VL"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    with pytest.raises(UserError, match="kind 'clip'"):
        load(tmp_path)


def test_a_config_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    path = tiny_qwen.write(tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "hidden_size": "wide"}), encoding="utf-8")
    with pytest.raises(UserError, match="config"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_file_that_is_missing_is_told(tmp_path: Path, name: str) -> None:
    tiny_qwen.write(tmp_path)
    for one in (name, *(("vocab.json", "merges.txt") if name == "tokenizer.json" else ())):
        (tmp_path / one).unlink()
    with pytest.raises(UserError, match="token|preprocessor"):
        load(tmp_path)


def test_fewer_bits_without_their_package_are_told(tmp_path: Path) -> None:
    try:
        import bitsandbytes  # noqa: F401

        pytest.skip("bitsandbytes is here")
    except ImportError:
        with pytest.raises(MachineError, match="bitsandbytes") as caught:
            load(tiny_qwen.write(tmp_path), quantize="4bit")
    assert "caption.quantize none" in caught.value.cure


def test_absent_weights_are_named_with_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MachineError, match="not on this machine") as caught:
        load("Qwen2-VL-7B-Instruct")
    assert caught.value.cure == "bglora models pull qwen2-vl-7b"
