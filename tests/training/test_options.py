"""What sd-scripts' options do in a training of ours: it stops and goes on bit by bit with all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bglora.errors import MachineError, UserError
from bglora.training import network
from bglora.training.base import load_base
from bglora.training.buckets import Cut
from bglora.training.groups import LearningRates
from bglora.training.job import Paused, Recipe
from bglora.training.kohya_recipe import changed_options, recipe_of
from bglora.training.network_file import extent_of
from bglora.training.options import CaptionOptions, DropoutOptions, LossOptions, NoiseOptions
from bglora.training.pictures import alpha_weights
from bglora.training.resize import change, resized
from tests.training.test_lora_file import unet_output
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train

EVERYTHING: dict[str, Any] = {
    "text_encoders": True,
    "text_encoder_lr": 1e-3,
    "conv_dim": 2,
    "loraplus_lr_ratio": 4.0,
    "lr_scheduler": "cosine_with_restarts",
    "warmup_steps": 0.2,
    "scale_weight_norms": 0.5,
    "min_bucket": 32,
    "noise": NoiseOptions(noise_offset=0.05, multires_noise_iterations=3, ip_noise_gamma=0.1, zero_terminal_snr=True),
    "loss": LossOptions(loss_type="smooth_l1", min_snr_gamma=5.0, debiased_estimation_loss=True),
    "captions": CaptionOptions(shuffle_caption=True, keep_tokens=1, caption_dropout_rate=0.3),
    "dropout": DropoutOptions(0.1, 0.2, 0.2),
    "save_precision": "fp32",
    "samples": 0,
}


def test_with_everything_on_it_stops_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", **EVERYTHING)
    whole = train(job, Watcher(tmp_path / "whole"))
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path / "cut", at=4))
    train(job, Watcher(tmp_path / "cut"))
    file = whole.outputs[0]
    assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    tensors = load_file(tmp_path / "whole" / file)
    extent = extent_of(tensors)
    assert (extent.dim, extent.alpha, extent.conv_dim, extent.text_encoders) == (4, 3.0, 2, True)
    moved = [name for name, value in tensors.items() if "lora_up" in name and bool(value.any())]
    assert any(name.startswith("lora_te2_") for name in moved) and any("_in_layers_2" in name for name in moved)


def test_dora_starts_as_the_base_learns_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    before = unet_output(base.unet)
    options = Recipe(dim=4, alpha=3.0, conv_dim=2, dora=True).network
    adapter = network.create(base.unet, base.encoders, options, LearningRates(1e-3), seed=0)
    torch.testing.assert_close(unet_output(base.unet), before, atol=1e-5, rtol=1e-5)
    adapter.detach()
    torch.testing.assert_close(unet_output(base.unet), before, atol=0, rtol=0)
    job = tiny_job(tmp_path / "pictures", dora=True, conv_dim=2, samples=0, save_precision="fp32")
    (file, *_) = train(job, Watcher(tmp_path / "whole")).outputs
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path / "cut", at=3))
    train(job, Watcher(tmp_path / "cut"))
    assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    tensors = load_file(tmp_path / "whole" / file)
    assert len([name for name in tensors if name.endswith(".dora_scale")]) == len(tensors) // 4
    with pytest.raises(UserError, match="none of the dropouts"):
        train(tiny_job(tmp_path / "pictures", dora=True, dropout=DropoutOptions(0.1)), Watcher(tmp_path / "no"))
    with pytest.raises(UserError, match="fewer bits"):
        train(tiny_job(tmp_path / "pictures", dora=True, base_quantization="int8"), Watcher(tmp_path / "no"))


@pytest.mark.parametrize(("optimizer", "package"), [("prodigy", "prodigyopt"), ("schedule_free", "schedulefree")])
def test_other_optimizers_go_on_to_the_same_bytes(optimizer: Any, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    job = tiny_job(tmp_path / "pictures", optimizer=optimizer, weight_decay=0.0, learning_rate=0.1, samples=0)
    (file, *_) = train(job, Watcher(tmp_path / "whole")).outputs
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path / "cut", at=4))
    train(job, Watcher(tmp_path / "cut"))
    assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_an_optimizer_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prodigyopt", None)
    with pytest.raises(MachineError) as caught:
        train(tiny_job(tmp_path / "pictures", optimizer="prodigy", samples=0), Watcher(tmp_path))
    assert "pip install prodigyopt" in caught.value.cure
    with pytest.raises(UserError, match="does not take"):
        train(tiny_job(tmp_path / "pictures", optimizer_args=("gamma=3",), samples=0), Watcher(tmp_path))
    assert not any("LowRank" in type(module).__name__ for module in load_base(str(tiny_base())).unet.modules())


@pytest.mark.parametrize("rates", [{"loraplus_lr_ratio": 4.0}, {"unet_lr": 0.5, "text_encoders": True}])
def test_prodigy_is_not_given_several_learning_rates(rates: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one learning rate"):
        train(tiny_job(tmp_path / "pictures", optimizer="prodigy", samples=0, **rates), Watcher(tmp_path))


def test_a_resized_lora_has_the_largest_part_of_the_change(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    weights = {
        "a.lora_down.weight": drawn(8, 20),
        "a.lora_up.weight": drawn(30, 8),
        "b.lora_down.weight": drawn(8, 5, 3, 3),
        "b.lora_up.weight": drawn(12, 8, 1, 1),
    }
    for rank in (2, 8):
        smaller, alphas = resized(weights, {"a": 4.0, "b": 4.0}, rank)
        for name in ("a", "b"):
            down, up = smaller[f"{name}.lora_down.weight"], smaller[f"{name}.lora_up.weight"]
            whole = change(weights[f"{name}.lora_down.weight"], weights[f"{name}.lora_up.weight"], 4.0 / 8)
            got = change(down, up, alphas[name] / len(down))
            left = torch.linalg.svdvals(whole.flatten(1))[rank:].norm()
            torch.testing.assert_close((whole - got).norm(), left, atol=2e-4, rtol=2e-4)
            assert len(down) == rank and got.shape == whole.shape


def test_the_finished_lora_is_cut_to_a_rank(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", epochs=1, samples=0, resize_rank=2)
    (file, *_) = train(job, Watcher(tmp_path)).outputs
    extent = extent_of(load_file(tmp_path / file))
    assert (extent.dim, extent.alpha) == (2, 2.0)


def test_what_is_transparent_weighs_less(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[:, :32, 3] = 0
    pixels[:, 32:40, 3] = 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    weights = alpha_weights(tmp_path / "a.png", Cut((64, 64), (64, 64), (64, 64)), 8)
    np.testing.assert_allclose(weights[0], [0, 0, 0, 0, 0.2, 1, 1, 1], atol=1e-6)


def test_a_recipe_comes_back_from_the_options_that_kohya_gets() -> None:
    recipe = Recipe(
        accumulation=1,
        epochs=2,
        optimizer="prodigy",
        weight_decay=0.0,
        optimizer_args=("d_coef=2",),
        block_lr_weights=(1.0,) * 9 + (0.5,) * 3 + (0.25,) * 9,
        **{key: value for key, value in EVERYTHING.items() if key not in ("lr_scheduler", "warmup_steps")},
    )
    back = recipe_of(changed_options(recipe))
    same = ("conv_dim", "conv_alpha", "text_encoders", "text_encoder_lr", "loraplus_lr_ratio", "optimizer")
    same += ("optimizer_args", "weight_decay", "block_lr_weights", "scale_weight_norms", "loss", "dropout")
    for name in same:
        assert getattr(back, name) == getattr(recipe, name), name
    assert back.noise == replace(recipe.noise, prediction="epsilon")
    assert back.captions == replace(recipe.captions, keep_tokens=0)  # the job's own, of trigger and prefix


def test_block_weights_of_another_count_are_refused() -> None:
    with pytest.raises(UserError, match="21 blocks"):
        _ = Recipe(block_lr_weights=(1.0, 0.5)).learning_rates
