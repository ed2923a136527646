"""What every detector must do, with tiny random weights in the published layout: the boxes are noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bglora import backends
from bglora.errors import MachineError, UserError
from bglora.nets import pretrained
from bglora.settings.plates import SegmentSettings
from tests.backends import tiny_detect
from tests.vision import drawn

WRITE = {"grounding_dino": tiny_detect.write_grounding_dino, "owlv2": tiny_detect.write_owlv2}
NAMES = pytest.mark.parametrize("name", WRITE)
FRAMES = drawn.shot(21, 3).frames


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {name: write(root / name) for name, write in WRITE.items()}


def settings(name: str, folder: Path, **more: Any) -> SegmentSettings:
    return SegmentSettings(detector=name, grounding=str(folder), **more)


def load(name: str, folder: Path, **more: Any) -> Any:
    return backends.load("detect", name, settings(name, folder, **more))


@NAMES
def test_finds_lie_in_the_frame_best_first_and_are_the_same_again(name: str, folders: dict[str, Path]) -> None:
    detector = load(name, folders[name], min_score=0.01)
    found = detector.find(FRAMES, ["person", "Animal"])
    assert len(found) == 3 and any(found)
    for one in (one for here in found for one in here):
        left, top, right, bottom = one.box
        assert 0 <= left < right <= drawn.WIDTH and 0 <= top < bottom <= drawn.HEIGHT
        assert 0.01 < one.score <= 1 and one.mask is None
    assert all(here == sorted(here, key=lambda one: -one.score) for here in found)
    assert found == detector.find(FRAMES, ["person", "animal"]), "the same again, and case does not count"
    alone = detector.find(FRAMES[1:2], ["person", "animal"])[0]
    assert [one.box for one in alone] == [pytest.approx(one.box, abs=0.1) for one in found[1]]


@NAMES
def test_a_higher_score_lets_fewer_through(name: str, folders: dict[str, Path]) -> None:
    few, many = (load(name, folders[name], min_score=score).find(FRAMES, ["person"]) for score in (0.9, 0.01))
    assert sum(map(len, few)) < sum(map(len, many))
    assert all(one.score > 0.9 for here in few for one in here)


@NAMES
def test_boxes_are_those_of_the_published_post_processing(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoProcessor

    detector = load(name, folders[name], min_score=0.3)
    monkeypatch.setattr("bglora.nets.grounding.ONE", 1.0)  # nothing is thinned out
    (found,) = detector.find(FRAMES[:1], ["person", "creature"])
    processor = AutoProcessor.from_pretrained(folders[name], backend="pil")
    size = [(drawn.HEIGHT, drawn.WIDTH)]
    if name == "grounding_dino":
        inputs = processor(images=FRAMES[0], text="person. creature.", return_tensors="pt")
        with torch.inference_mode():
            theirs = processor.post_process_grounded_object_detection(
                detector.model(**inputs), inputs["input_ids"], threshold=0.3, target_sizes=size
            )[0]
    else:
        text = [["a photo of a person", "a photo of a creature"]]
        inputs = processor(images=FRAMES[0], text=text, return_tensors="pt", padding="max_length", max_length=16)
        with torch.inference_mode():
            theirs = processor.image_processor.post_process_object_detection(
                detector.model(**inputs), threshold=0.3, target_sizes=size
            )[0]
    order = theirs["scores"].argsort(descending=True, stable=True)
    boxes = theirs["boxes"][order].clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([drawn.WIDTH, drawn.HEIGHT] * 2)).numpy()
    shown = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
    assert shown.any()
    assert [one.score for one in found] == pytest.approx(theirs["scores"][order].numpy()[shown].tolist(), abs=1e-5)
    assert np.abs(np.array([one.box for one in found]) - boxes[shown]).max() < 1e-2


def test_parameters_of_the_published_sizes() -> None:
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, Sam3VideoConfig, Sam3VideoModel

    with torch.device("meta"):
        dino = GroundingDinoForObjectDetection(GroundingDinoConfig())
        sam3 = Sam3VideoModel(Sam3VideoConfig())
    assert sum(value.numel() for value in dino.parameters()) == pytest.approx(172e6, rel=0.01)
    assert sum(value.numel() for value in sam3.parameters()) == pytest.approx(848e6, rel=0.02)


# What goes wrong


@NAMES
def test_weights_that_are_not_here_are_named_with_the_command_that_brings_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MachineError) as raised:
        backends.load("detect", name, SegmentSettings(detector=name))
    assert "bglora models pull " in raised.value.cure and "segment.grounding" in raised.value.where


def test_a_model_of_another_kind_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="This is a model owlv2, not grounding-dino"):
        load("grounding_dino", folders["owlv2"])
    with pytest.raises(UserError, match="This is a model grounding-dino, not sam2_video"):
        backends.load("masks", "sam2", SegmentSettings(sam2=str(folders["grounding_dino"]), targets=[]))


@pytest.mark.parametrize(
    "harm, why",
    [
        ("cut", "can't be read"),
        ("config", "no config.json"),
        ("tensors", r"don't fit the model owlv2: 1 tensors are missing"),
        ("shape", r"1 have another shape"),
        ("pictures", "How pictures are prepared"),
        ("words", "tokenizer can't be read"),
    ],
)
def test_a_damaged_model_is_told_in_three_lines(harm: str, why: str, folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["owlv2"], tmp_path / "owlv2")
    file = folder / "model.safetensors"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif harm == "config":
        (folder / "config.json").unlink()
    elif harm in ("tensors", "shape"):
        tensors = load_file(file)
        first = tensors.pop("box_head.dense0.weight")
        save_file(
            tensors if harm == "tensors" else {**tensors, "box_head.dense0.weight": first[:3].clone()},
            file,
            {"format": "pt"},
        )
    elif harm == "pictures":
        (folder / "preprocessor_config.json").unlink()
    else:
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / name).unlink()
    with pytest.raises(UserError, match=why) as raised:
        load("owlv2", folder)
    assert str(folder) in raised.value.where and raised.value.cure


def test_a_pickle_in_place_of_safetensors_is_not_opened(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["owlv2"], tmp_path / "owlv2")
    (folder / "model.safetensors").unlink()
    evil = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).write_text('')"
    (folder / "pytorch_model.bin").write_bytes(b"cbuiltins\nexec\n(S" + json.dumps(evil).encode() + b"\ntR.")
    with pytest.raises(UserError, match="can't be read"):
        load("owlv2", folder)
    assert not (tmp_path / "ran").exists()


def test_too_many_words_are_told(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="too many targets"):
        load("grounding_dino", folders["grounding_dino"]).find(FRAMES[:1], ["person"] * 40)


@NAMES
def test_where_memory_is_short_fewer_frames_are_looked_at_together(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = load(name, folders[name], min_score=0.01)
    whole = detector.find(FRAMES, ["person"])
    forward, batches = detector.model.forward, []

    def small(*args: Any, **kwargs: Any) -> Any:
        batches.append(len(kwargs["pixel_values"]))
        if batches[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(detector.model, "forward", small)
    limit = 1
    again = detector.find(FRAMES, ["person"])
    assert batches == [3, 1, 1, 1]
    assert [len(here) for here in again] == [len(here) for here in whole]
    limit = 0
    with pytest.raises(MachineError, match="too little memory"):
        detector.find(FRAMES, ["person"])


def test_a_transformers_without_the_class_is_told_with_its_version() -> None:
    import transformers

    with pytest.raises(MachineError, match=f"transformers {transformers.__version__} has no Sam9VideoModel") as raised:
        pretrained.class_of("Sam9VideoModel")
    assert "pip install" in raised.value.cure


@NAMES
def test_missing_packages_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.util, "find_spec", lambda package: None)
    with pytest.raises(MachineError, match=r"needs packages that are not here: torch, transformers"):
        backends.load("detect", name, SegmentSettings())
