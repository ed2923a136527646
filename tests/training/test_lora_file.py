"""The LoRA file: what other tools read in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bglora.errors import UserError
from bglora.training.adapter import Adapter
from bglora.training.base import load_base
from bglora.training.lora_file import read_metadata
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lora")
    train(tiny_job(home / "pictures", epochs=3, samples=0, save_precision="fp32"), Watcher(home))
    return home / "loras/scene-00.safetensors"


def unet_output(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    noisy, states = torch.randn(2, 4, 8, 12, generator=generator), torch.randn(2, 77, 32, generator=generator)
    added = {"text_embeds": torch.randn(2, 16, generator=generator), "time_ids": torch.full((2, 6), 64.0)}
    with torch.no_grad():
        return unet(noisy, torch.tensor([100, 900]), states, added_cond_kwargs=added).sample


def test_diffusers_loads_it_and_paints_with_the_same_network(lora: Path) -> None:
    base = load_base(str(tiny_base()))
    plain = unet_output(base.unet)
    adapter = Adapter(base.unet, 4, 3.0, seed=99)
    adapter.load({name: tensor for name, tensor in load_file(lora).items() if "alpha" not in name})
    ours = unet_output(base.unet)
    adapter.detach()
    base.pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="a")
    theirs = unet_output(base.unet)
    base.pipeline.unload_lora_weights()
    assert (ours - plain).abs().max() > 1e-2
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(unet_output(base.unet), plain, atol=0, rtol=0)


def test_every_module_has_down_up_and_alpha_in_kohyas_shapes(lora: Path) -> None:
    tensors = load_file(lora)
    modules = {name.partition(".")[0] for name in tensors}
    assert len(tensors) == 3 * len(modules)
    for module in modules:
        assert module.startswith("lora_unet_")
        down, up = tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"]
        assert down.shape[0] == up.shape[1] == 4
        assert tensors[f"{module}.alpha"].shape == () and float(tensors[f"{module}.alpha"]) == 3.0


def test_the_metadata_says_what_viewers_show_and_holds_the_right_hash(lora: Path) -> None:
    metadata = read_metadata(lora)
    content = lora.read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(content[8 + header :]).hexdigest()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_network_alpha"] == "3.0"
    assert metadata["modelspec.date"] == "2026-01-02T00:00:00"
    assert metadata["modelspec.prediction_type"] == "v"
    assert json.loads(metadata["ss_tag_frequency"])["1_trig"]["trig"] == 5
    assert json.loads(metadata["ss_dataset_dirs"]) == {"1_trig": {"n_repeats": 1, "img_count": 5}}
    assert str(lora.parent) not in json.dumps(metadata)


def test_files_that_are_no_lora_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(UserError, match="damaged"):
        read_metadata(tmp_path / "text.safetensors")
    with pytest.raises(UserError, match="no LoRA file"):
        read_metadata(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="no LoRA weights"):
        read_metadata(tiny_base() / "vae" / "diffusion_pytorch_model.safetensors")
