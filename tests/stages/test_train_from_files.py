"""`train.like` and `train.network_weights` as settings: what wins, what is told, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bglora.errors import UserError
from bglora.stages.hyper import liked
from bglora.stages.train import Train
from tests.stages.trained_project import make, project
from tests.training.test_like import TOLD, lora_file

FILE = "characters/hero.safetensors"


def test_what_a_person_changed_wins_then_the_file_then_the_preset(tmp_path: Path) -> None:
    """The preset cpu has dim 8 and loss l2; the project of the test changed dim, learning rate and resolution."""
    lora_file(tmp_path / FILE, TOLD)
    view = project(tmp_path, train={"like": FILE})
    chosen = liked(tmp_path, view.settings)
    assert (chosen.train.dim, chosen.train.resolution, chosen.train.learning_rate) == (4, 64, 1e-2)
    assert (chosen.train.conv_dim, chosen.train.min_snr_gamma, chosen.train.optimizer) == (8, 5.0, "adamw8bit")
    assert chosen.train.max_grad_norm == 1.0 and chosen.train.epochs_small == 1
    assert "hero.safetensors" in chosen.told and "conv_dim 8" in chosen.told
    assert "stays as set here" in chosen.told and "epochs 10" in chosen.told
    kept = liked(tmp_path, project(tmp_path, train={"like": FILE, "like_except": ["optimizer"]}).settings)
    assert kept.train.optimizer == "adamw"


def test_the_files_content_is_part_of_the_item_and_stands_on_the_card(tmp_path: Path) -> None:
    told = {**TOLD, "ss_optimizer": "torch.optim.adamw.AdamW", "ss_resolution": "(64, 64)"}
    lora_file(tmp_path / "film" / FILE, told)
    view = project(tmp_path / "film", train={"like": FILE, "text_encoders": False, "like_except": ["text_encoders"]})
    (item,) = Train().items(view)
    assert FILE in item.files and item.settings["train.min_snr_gamma"] == 5.0
    before = Train().surroundings(view)
    lora_file(tmp_path / "film" / FILE, {**told, "ss_min_snr_gamma": "2.5"})
    assert next(iter(Train().items(view))).settings["train.min_snr_gamma"] == 2.5
    assert Train().surroundings(view) != before
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.status == "made"
    card = json.loads((tmp_path / "scratch/loras/scene-00.json").read_text("utf-8"))
    assert card["like"].startswith("like hero.safetensors: ") and card["settings"]["conv_dim"] == 8
    assert "Like hero.safetensors" in (tmp_path / "scratch/loras/scene-00.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("told", "changes", "message"),
    [
        (None, {}, "no LoRA file at this path"),
        ({}, {}, "says nothing of how it was trained"),
        ({**TOLD, "ss_lr_scheduler": "rex"}, {}, "lr_scheduler = 'rex'"),
        ({**TOLD, "ss_network_dim": "Dynamic"}, {"dim": 8}, "dim = 'Dynamic'"),
    ],
)
def test_files_that_cannot_be_followed(told: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    if told is not None:
        lora_file(tmp_path / FILE, told)
    with pytest.raises(UserError, match=message) as caught:
        list(Train().items(project(tmp_path, train={"like": FILE, **changes})))
    assert "train.like = " in caught.value.where and caught.value.cure


def test_a_training_starts_from_a_file_and_the_card_says_so(tmp_path: Path) -> None:
    lora_file(tmp_path / "film" / FILE, {})
    view = project(tmp_path / "film", train={"network_weights": FILE})
    (item,) = Train().items(view)
    assert FILE in item.files
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    assert outcome.record["starts_from"].startswith("started from hero.safetensors: 1 layers start from it; ")
    assert "not trained here" in outcome.record["starts_from"]
    shutil.rmtree(tmp_path / "scratch")


@pytest.mark.parametrize(
    ("changes", "message", "cure"),
    [
        ({"dim": 5}, "has rank 4, and this training has dim = 5", "bglora set train.dim 4"),
        ({"alpha": 4.0}, "has alpha 3, and this training has alpha = 4", "bglora set train.alpha 3"),
        ({"dora": True}, "is no DoRA", "bglora set train.dora false"),
        ({"network_weights": "absent.safetensors"}, "no LoRA file", "Name a LoRA file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_made(
    changes: dict[str, Any], message: str, cure: str, tmp_path: Path
) -> None:
    lora_file(tmp_path / FILE, {})
    with pytest.raises(UserError, match=message) as caught:
        list(Train().items(project(tmp_path, train={"network_weights": FILE, **changes})))
    assert caught.value.cure.startswith(cure)


def test_the_card_of_a_dora_says_which_tool_takes_which_file(tmp_path: Path) -> None:
    view = project(tmp_path / "film", train={"dora": True}, plates=3)
    (item,) = Train().items(view)
    (outcome,) = make(Train(), item, view, tmp_path / "scratch")
    card = json.loads((tmp_path / "scratch/loras/scene-00.json").read_text("utf-8"))
    assert card["other_tools"]["ComfyUI and Forge"] == "scene-00/comfyui.safetensors"
    assert {"loras/scene-00/diffusers.safetensors", "loras/scene-00/comfyui.safetensors"} <= set(outcome.outputs)
    assert outcome.outputs[0] == "loras/scene-00.safetensors"
    assert "not for A1111" in (tmp_path / "scratch/loras/scene-00.md").read_text("utf-8")
