"""The painter: LoRAs act by their scale, leave no trace, and are refused where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bglora import backends
from bglora.backends.paint import diffusers
from bglora.errors import UserError
from bglora.nets import offload
from bglora.training import network, tensor_file
from bglora.training.base import _load as read_anew
from bglora.training.base import load_base
from bglora.training.groups import LearningRates
from bglora.training.options import NetworkOptions
from tests.backends.random_lora import write_lora
from tests.training.tiny_base import tiny_base


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora") / "scene-00.safetensors", 7)


@pytest.fixture
def painter() -> Iterator[Any]:
    torch.set_num_threads(1)
    found = backends.load("paint", "diffusers", SimpleNamespace(base=str(tiny_base())))
    yield found
    found.close()


def paint(painter: Any, adapters: Any = (), seeds: Any = (1, 2), **more: Any) -> np.ndarray:
    return np.stack(painter.paint(["a town"] * len(seeds), "people", list(seeds), (64, 96), 3, 3.0, adapters, **more))


def test_pictures_have_the_asked_size_and_follow_their_seeds(painter: Any) -> None:
    pictures = paint(painter)
    assert pictures.shape == (2, 64, 96, 3) and pictures.dtype == np.uint8
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(paint(painter, seeds=(2, 1)), pictures[::-1])


def test_a_lora_acts_by_its_scale_and_scale_0_is_the_base_alone(painter: Any, lora: Path) -> None:
    plain = paint(painter).astype(int)
    np.testing.assert_array_equal(paint(painter, [(lora, 0.0)]), plain)
    half, full = paint(painter, [(lora, 0.5)]), paint(painter, [(lora, 2.0)])
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()
    painter.close()
    np.testing.assert_array_equal(paint(painter), plain)


def test_nothing_is_trained_on_a_base_that_still_holds_a_lora(painter: Any, lora: Path) -> None:
    paint(painter, [(lora, 1.0)])
    asked = painter.base.unet, (), NetworkOptions(dim=4, alpha=4.0), LearningRates(1e-3)
    with pytest.raises(RuntimeError, match="still holds LoRAs"):
        network.create(*asked, seed=0)
    painter.close()
    network.create(*asked, seed=0).detach()


def test_a_schedule_sets_the_scale_of_each_step(painter: Any, lora: Path) -> None:
    steady = paint(painter, [(lora, 2.0)])
    np.testing.assert_array_equal(paint(painter, [(lora, 0.0)], schedule=lambda step: [2.0]), steady)
    late = paint(painter, [(lora, 2.0)], schedule=lambda step: [0.0 if step < 2 else 2.0])
    assert (late != steady).any()


def test_a_lora_of_another_base_is_refused_and_leaves_no_trace(painter: Any, tmp_path: Path) -> None:
    plain = paint(painter)
    name = "lora_unet_input_blocks_4_1_proj_in"
    wrong = {
        f"{name}.lora_down.weight": torch.zeros(4, 640),
        f"{name}.lora_up.weight": torch.ones(640, 4),
        f"{name}.alpha": torch.tensor(4.0),
    }
    tensor_file.write(tmp_path / "foreign.safetensors", wrong, {})
    with pytest.raises(UserError) as caught:
        paint(painter, [(tmp_path / "foreign.safetensors", 1.0)])
    assert "another one" in caught.value.what and "train.base" in caught.value.cure
    np.testing.assert_array_equal(paint(painter), plain)


@pytest.mark.parametrize(
    "name", ["lora_unet_down_blocks_0_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0"]
)
def test_a_lora_of_stable_diffusion_15_is_refused(painter: Any, tmp_path: Path, name: str) -> None:
    wrong = {
        f"{name}.lora_down.weight": torch.zeros(4, 320, 1, 1),
        f"{name}.lora_up.weight": torch.ones(320, 4, 1, 1),
        f"{name}.alpha": torch.tensor(4.0),
    }
    tensor_file.write(tmp_path / "sd15.safetensors", wrong, {"ss_base_model_version": "sd_v1"})
    with pytest.raises(UserError) as caught:
        paint(painter, [(tmp_path / "sd15.safetensors", 1.0)])
    assert "sd15.safetensors" in caught.value.where and "train.base" in caught.value.cure


@pytest.mark.parametrize("lack", ["down of another rank", "down without up", "layer of other sizes"])
def test_a_lora_whose_parts_do_not_match_is_refused_and_leaves_no_trace(
    painter: Any, lora: Path, tmp_path: Path, lack: str
) -> None:
    plain = paint(painter)
    tensors = load_file(lora)
    name = next(key for key in tensors if key.endswith("attn2_to_q.lora_down.weight"))
    if lack == "down of another rank":
        tensors[name] = torch.ones(7, tensors[name].shape[1])
    elif lack == "down without up":
        del tensors[name.replace("lora_down", "lora_up")]
    else:
        tensors[name] = torch.ones(tensors[name].shape[0], tensors[name].shape[1] + 8)
    tensor_file.write(tmp_path / "mismatched.safetensors", tensors, {})
    with pytest.raises(UserError) as caught:
        paint(painter, [(tmp_path / "mismatched.safetensors", 1.0)])
    assert "mismatched.safetensors" in caught.value.where and caught.value.cure
    np.testing.assert_array_equal(paint(painter), plain)


@pytest.mark.parametrize("content", [b"", b"no tensors at all", (8).to_bytes(8, "little") + b"{}      "])
def test_an_empty_or_broken_file_is_told_in_three_lines(painter: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(UserError) as caught:
        paint(painter, [(tmp_path / "broken.safetensors", 1.0)])
    assert "broken.safetensors" in caught.value.where and ".safetensors" in caught.value.cure


@pytest.mark.parametrize("how", ["offload", "tiled"])
def test_memory_is_saved_by_the_same_code_that_paints(lora: Path, how: Any) -> None:
    """On this device nothing moves, but accelerate's hooks and the tiles do their work."""
    torch.set_num_threads(1)
    plain = diffusers.Painter(load_base(str(tiny_base())))
    spared = diffusers.Painter(read_anew(str(tiny_base()), tiny_base(), None, "none", "full"))
    spared._hold([lora])  # on a card also afterwards: diffusers takes its hooks off and puts them on again
    offload.hooked(spared.base.pipeline, torch.device("cpu"), how)
    offload.in_tiles(spared.base.vae, how != "offload")
    expected, found = (paint(one, [(lora, 1.0)], seeds=(1,)) for one in (plain, spared))
    plain.close()
    if how == "offload":
        np.testing.assert_array_equal(found, expected)
    else:
        assert found.shape == expected.shape and (found != expected).any()
        assert np.abs(found.astype(int) - expected).mean() < 40  # random decoders see far; tiles see less


def test_sequentially_no_layer_lies_on_the_device_until_it_is_at_work() -> None:
    spared = read_anew(str(tiny_base()), tiny_base(), None, "none", "full")
    offload.hooked(spared.pipeline, torch.device("cpu"), "sequential")  # accelerate can't run it from CPU to CPU
    assert {weight.device.type for weight in spared.unet.parameters()} == {"meta"}
    assert spared.pipeline._execution_device.type == "cpu"


def test_what_is_on_the_card_is_chosen_by_its_memory() -> None:
    card, cpu = torch.device("cuda"), torch.device("cpu")
    found = [offload.chosen("auto", card, gb) for gb in (79.1, 11.6, 7.7, 5.8, 3.9)]
    assert found == ["full", "full", "offload", "tiled", "sequential"]
    assert offload.chosen("sequential", card, 80.0) == "sequential"
    assert [offload.chosen(how, cpu, 0.0) for how in ("auto", "offload", "tiled")] == ["full", "full", "tiled"]


def test_plates_come_back_from_the_vae_in_their_size(painter: Any) -> None:
    plates = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    assert painter.as_painted(plates).shape == plates.shape
