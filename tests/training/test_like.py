"""Hyper-parameters and weights from a LoRA file that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bglora.errors import UserError
from bglora.training import network, tensor_file
from bglora.training.base import load_base
from bglora.training.emphasis import parts, plain
from bglora.training.groups import LearningRates
from bglora.training.like import likeness
from bglora.training.lora_header import read_header
from bglora.training.network_file import start_from
from bglora.training.options import NetworkOptions
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train

TOLD = {
    "ss_network_module": "networks.lora",
    "ss_network_dim": "32",
    "ss_network_alpha": "16",
    "ss_network_args": '{"conv_dim": "8", "conv_alpha": "4", "loraplus_lr_ratio": "4"}',
    "ss_learning_rate": "0.0003",
    "ss_unet_lr": "None",
    "ss_text_encoder_lr": "[5e-05]",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    "ss_lr_scheduler": "constant_with_warmup",
    "ss_lr_warmup_steps": "100",
    "ss_max_train_steps": "2000",
    "ss_min_snr_gamma": "5",
    "ss_noise_offset": "0.0357",
    "ss_multires_noise_iterations": "None",
    "ss_debiased_estimation": "False",
    "ss_resolution": "(768, 768)",
    "ss_enable_bucket": "True",
    "ss_min_bucket_reso": "256",
    "ss_max_bucket_reso": "1536",
    "ss_bucket_no_upscale": "False",
    "ss_num_epochs": "10",
    "ss_batch_size_per_device": "4",
    "ss_sd_model_name": "hero_base",
}


def lora_file(path: Path, told: dict[str, str], dim: int = 4, alpha: float = 3.0) -> Path:
    """A LoRA of two layers under kohya's names."""
    names = {
        "lora_unet_input_blocks_4_1_proj_in": (32, 32),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (16, 32),
    }
    tensors = {}
    for name, (inner, outer) in names.items():
        tensors[f"{name}.lora_down.weight"] = torch.full((dim, inner), 0.5)
        tensors[f"{name}.lora_up.weight"] = torch.ones(outer, dim)
        tensors[f"{name}.alpha"] = torch.tensor(alpha).to(torch.bfloat16)
    tensor_file.write(path, tensors, told)
    return path


def test_what_sd_scripts_wrote_becomes_settings_of_ours(tmp_path: Path) -> None:
    found = likeness(read_header(lora_file(tmp_path / "hero.safetensors", TOLD)), "train.like")
    values = found.values
    assert (values["dim"], values["alpha"], values["conv_dim"], values["conv_alpha"]) == (32, 16.0, 8, 4.0)
    assert (values["learning_rate"], values["unet_lr"], values["text_encoder_lr"]) == (3e-4, 0.0, 5e-5)
    assert (values["optimizer"], values["weight_decay"], values["optimizer_args"]) == (
        "adamw8bit",
        0.1,
        ["betas=(0.9, 0.99)"],
    )
    assert (values["lr_scheduler"], values["lr_warmup_steps"]) == ("constant_with_warmup", 0.05)
    assert (values["noise_offset"], values["min_snr_gamma"], values["multires_noise_iterations"]) == (0.0357, 5, 0)
    assert (values["resolution"], values["min_bucket"], values["max_bucket"]) == (768, 256, 1536)
    assert values["text_encoders"] is True
    assert found.left == {"base": "hero_base", "epochs": "10", "batch_size": "4"}
    assert not {"epochs", "batch_size", "base", "seed", "huber_c", "caption_dropout_rate"} & values.keys()


def test_our_own_files_tell_the_recipe_that_they_were_trained_with(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, epochs=1, conv_dim=2, weight_decay=0.3, warmup_steps=0.25)
    train(job, Watcher(tmp_path))
    values = likeness(read_header(tmp_path / "loras/scene-00.safetensors"), "x").values
    assert (values["dim"], values["alpha"], values["conv_dim"]) == (4, 3.0, 2)
    assert (values["weight_decay"], values["lr_warmup_steps"], values["resolution"]) == (0.3, 0.25, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ss_optimizer": "lion_pytorch.Lion"}, "The optimizer Lion is not among"),
        ({"ss_network_module": "networks.oft"}, "its network is networks.oft"),
        ({"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps({"algo": "loha"})}, "lycoris.kohya loha"),
        ({"ss_learning_rate": "quick"}, "not known here"),
    ],
)
def test_what_cannot_be_taken_over_is_told(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    header = read_header(lora_file(tmp_path / "hero.safetensors", {**TOLD, **changes}))
    with pytest.raises(UserError, match=message) as caught:
        likeness(header, "train.like = hero.safetensors")
    assert "train.like = hero.safetensors" in caught.value.where


def test_what_nobody_wants_from_it_may_be_unknown(tmp_path: Path) -> None:
    header = read_header(lora_file(tmp_path / "hero.safetensors", {**TOLD, "ss_optimizer": "lion_pytorch.Lion"}))
    values = likeness(header, "train.like", {"optimizer", "dim"}).values
    assert not {"optimizer", "weight_decay", "dim", "alpha"} & values.keys()
    assert values["conv_alpha"] == 4.0


def test_files_that_tell_nothing_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="says nothing of how it was trained"):
        likeness(read_header(lora_file(tmp_path / "bare.safetensors", {})), "train.like")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(UserError, match="damaged"):
        read_header(tmp_path / "text.safetensors")
    whole = lora_file(tmp_path / "whole.safetensors", TOLD).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    with pytest.raises(UserError, match="damaged"):
        read_header(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="There is no LoRA file"):
        read_header(tmp_path / "absent.safetensors")


def test_a_training_starts_from_a_files_weights_and_says_what_it_took(tmp_path: Path) -> None:
    first = tiny_job(tmp_path / "pictures", samples=0, epochs=1, save_precision="fp32", text_encoders=True)
    train(first, Watcher(tmp_path / "first"))
    source = tmp_path / "first/loras/scene-00.safetensors"
    base = load_base(str(tiny_base()))
    options = NetworkOptions(4, 3.0, conv_dim=2)
    adapter = network.create(base.unet, base.encoders, options, LearningRates(1e-3), seed=5)
    try:
        fresh = {name: value.clone() for name, value in adapter.parameters().items()}
        start = start_from(adapter, source, options)
        saved = load_file(source)
        for name, value in adapter.parameters().items():
            assert torch.equal(value, saved[name] if name in saved else fresh[name]), name
    finally:
        adapter.detach()
    assert start.taken > 0 and start.new > 0 and all(name.startswith("lora_te") for name in start.unknown)
    assert "start anew" in str(start) and "are not trained here (lora_te1_" in str(start)


def test_names_of_diffusers_are_understood_as_sd_scripts_does(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    options = NetworkOptions(4, 3.0)
    adapter = network.create(base.unet, base.encoders, options, LearningRates(1e-3), seed=5)
    try:
        target = adapter.targets[0]
        alias = "lora_unet_" + target.path.replace(".", "_")
        down, up = (adapter.parameters()[f"{target.name}.lora_{part}.weight"] for part in ("down", "up"))
        tensors = {
            f"{alias}.lora_down.weight": torch.full_like(down, 2.0),
            f"{alias}.lora_up.weight": torch.ones(up.shape),
        }
        tensor_file.write(tmp_path / "a.safetensors", {**tensors, f"{alias}.alpha": torch.tensor(3.0)}, {})
        assert start_from(adapter, tmp_path / "a.safetensors", options).taken == 1
        assert bool((adapter.parameters()[f"{target.name}.lora_down.weight"] == 2.0).all())
        other = {
            f"lora_unet_out_99.{part}": value for part, value in (("lora_down.weight", down), ("lora_up.weight", up))
        }
        tensor_file.write(tmp_path / "b.safetensors", {**other, "lora_unet_out_99.alpha": torch.tensor(3.0)}, {})
        with pytest.raises(UserError, match="None of the LoRA's layers"):
            start_from(adapter, tmp_path / "b.safetensors", options)
    finally:
        adapter.detach()


def test_words_are_weighed_as_prompts_of_a1111_are() -> None:
    assert parts("a (b:1.5) [c] \\(d\\)") == [("a ", 1.0), ("b", 1.5), (" ", 1.0), ("c", 1 / 1.1), (" (d)", 1.0)]
    assert parts("((a)) b)") == [("a", 1.1 * 1.1), (" b)", 1.0)]
    assert plain("trig, (a town:1.3), 10:30") == "trig, a town, 10:30"
