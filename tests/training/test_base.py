"""Bases that are none are refused in three lines; all that a training needs is read from the base's own configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bglora import backends
from bglora.errors import MachineError, UserError
from bglora.settings.lora import TrainSettings
from bglora.training.base import load_base
from tests.training.one_file import write_one_file
from tests.training.tiny_base import write_tiny_base


def refused(name: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_base(name)
    assert "train.base" in caught.value.where
    return caught.value


def test_a_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 768}))
    assert refused(str(tmp_path)).what == "The base model is Stable Diffusion 1.5, not SDXL's kind."


def test_an_empty_folder_and_an_absent_path_are_refused(tmp_path: Path) -> None:
    assert "model_index.json" in refused(str(tmp_path)).what
    assert "no base model" in refused(str(tmp_path / "absent.safetensors")).what


def test_a_single_file_that_is_no_sdxl_checkpoint_is_refused(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "sd15.safetensors")
    assert "no whole model" in refused(str(tmp_path / "sd15.safetensors")).what
    with pytest.raises(UserError, match="no whole model"):  # before anything is fetched for it
        backends.check("train", "native", TrainSettings(base=str(tmp_path / "sd15.safetensors")), tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        load_base(str(tmp_path / "broken.safetensors"))


def test_a_single_file_without_the_configs_that_it_does_not_carry_is_told(tmp_path: Path) -> None:
    save_file({"conditioner.embedders.1.model.ln_final.bias": torch.zeros(4)}, tmp_path / "xl.safetensors")
    with pytest.raises(MachineError) as caught:
        load_base(str(tmp_path / "xl.safetensors"))
    assert caught.value.cure == "bglora models pull sdxl-config"


def test_a_single_file_is_the_same_base_as_its_folder(tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "folder", second=32)
    file = write_one_file(folder, tmp_path / "one.safetensors")
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    asked = load_base(str(folder))
    wanted = {part: getattr(asked.pipeline, part).state_dict() for part in parts}
    found = load_base(str(file), configs=folder)
    for part, state in wanted.items():
        own = getattr(found.pipeline, part).state_dict()
        assert own.keys() == state.keys()
        assert all(torch.equal(own[key], value) for key, value in state.items()), part
    assert found.noise.config.prediction_type == asked.noise.config.prediction_type


def test_noise_and_prediction_come_from_the_base(tmp_path: Path) -> None:
    other = load_base(str(write_tiny_base(tmp_path / "eps", prediction_type="epsilon")))
    assert other.noise.config.prediction_type == "epsilon"
    assert other.noise.config.beta_end == 0.012
    assert other.vae.config.scaling_factor == 0.9
    assert (other.size, other.latent_factor) == (64, 8)


def test_the_base_goes_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGLORA_DEVICE", "toaster")
    with pytest.raises(UserError, match="toaster"):
        load_base(str(write_tiny_base(tmp_path / "base")))
