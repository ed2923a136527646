"""A LoRA file of ours in diffusers, and a DoRA in the tools that read it otherwise: the same network as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bglora.backends.paint import diffusers as paint
from bglora.errors import UserError
from bglora.training import network
from bglora.training.base import Base, load_base
from bglora.training.caption_book import CaptionBook
from bglora.training.dora_files import for_diffusers
from bglora.training.groups import LearningRates
from bglora.training.modules import unet_layers
from bglora.training.network_file import extent_of
from tests.training.test_lora_file import unet_output
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train

KINDS: dict[str, dict[str, Any]] = {
    "convolutions": {"conv_dim": 2, "conv_alpha": 1.0},
    "text encoders": {"text_encoders": True, "conv_dim": 3, "conv_alpha": 2.0},
}


def trained(home: Path, **changes: Any) -> Path:
    train(tiny_job(home / "pictures", samples=0, epochs=1, save_precision="fp32", **changes), Watcher(home))
    return home / "loras/scene-00.safetensors"


@torch.no_grad()
def outputs(base: Base) -> tuple[Tensor, Tensor, Tensor]:
    """What the U-Net and both text encoders give."""
    return (unet_output(base.unet), *CaptionBook(base, trained=True).embed(["a town by the sea"]))


def ours(base: Base, file: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs with the file in our own layers."""
    tensors = load_file(file)
    adapter = network.create(base.unet, base.encoders, extent_of(tensors), LearningRates(1e-3), seed=5)
    try:
        adapter.load({name: value for name, value in tensors.items() if not name.endswith(".alpha")})
        return outputs(base)
    finally:
        adapter.detach()


def theirs(base: Base, folder: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs with the file loaded by diffusers."""
    base.pipeline.load_lora_weights(str(folder), weight_name=name, adapter_name="a")
    try:
        return outputs(base)
    finally:
        base.pipeline.unload_lora_weights()


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_has_the_same_network_after_loading(kind: str, tmp_path: Path) -> None:
    file, base = trained(tmp_path, **KINDS[kind]), load_base(str(tiny_base()))
    plain = outputs(base)
    mine, other = ours(base, file), theirs(base, file.parent, file.name)
    moved = [(a - b).abs().max() > 1e-3 for a, b in zip(mine, plain, strict=True)]
    assert moved == [True, "text_encoders" in KINDS[kind], "text_encoders" in KINDS[kind]]
    for got, expected in zip(other, mine, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_dora_has_a_file_for_diffusers_and_one_for_comfyui(tmp_path: Path) -> None:
    """diffusers leaves the magnitudes of kohya's format out, ComfyUI divides by the norms of the unchanged weights."""
    file, base = trained(tmp_path, dora=True, conv_dim=2), load_base(str(tiny_base()))
    mine, plain = ours(base, file)[0], unet_output(base.unet)
    assert (mine - plain).abs().max() > 1e-2
    assert (theirs(base, file.parent, file.name)[0] - mine).abs().max() > 1e-3  # why there is another file
    torch.testing.assert_close(
        theirs(base, file.with_suffix(""), "diffusers.safetensors")[0], mine, atol=1e-5, rtol=1e-5
    )
    merged_with(base, load_file(file), after=True, expected=mine)
    merged_with(base, load_file(file.with_suffix("") / "comfyui.safetensors"), after=False, expected=mine)


def merged_with(base: Base, tensors: dict[str, Tensor], *, after: bool, expected: Tensor) -> None:
    """Merges W + dW scaled by dora_scale over the norms of rows after the change (LyCORIS) or before (ComfyUI)."""
    kept = {}
    for layer in unet_layers(base.unet, convolutions=True):
        down, up, alpha, scale = (
            tensors[f"{layer.name}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
        )
        weight = layer.module.weight.data
        kept[layer.name] = layer.module, weight
        changed = weight + (up.flatten(1) @ down.flatten(1)).view(weight.shape) * (alpha / len(down))
        norms = (changed if after else weight).flatten(1).norm(dim=1).view(scale.shape)
        layer.module.weight.data = changed * (scale / norms)
    try:
        torch.testing.assert_close(unet_output(base.unet), expected, atol=2e-5, rtol=1e-4)
    finally:
        for module, weight in kept.values():
            module.weight.data = weight


def test_our_painter_paints_with_the_magnitudes(tmp_path: Path) -> None:
    file, base = trained(tmp_path, dora=True), load_base(str(tiny_base()))
    mine = ours(base, file)[0]
    painter = paint.create(None, base)
    painter.paint(["a town"], "", [0], (64, 64), 1, 1.0, [(file, 1.0)])
    got = unet_output(base.unet)
    painter.close()
    torch.testing.assert_close(got, mine, atol=1e-5, rtol=1e-5)


def test_magnitudes_of_inputs_and_layers_of_another_base_are_refused(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    name = next(iter(unet_layers(base.unet, False))).name
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 32), f"{name}.lora_up.weight": torch.ones(32, 2)}
    with pytest.raises(UserError, match="magnitude for each input"):
        for_diffusers({**tensors, f"{name}.dora_scale": torch.ones(1, 32)}, base)
    with pytest.raises(UserError, match="a layer that the base model has not"):
        for_diffusers({"lora_unet_x.dora_scale": torch.ones(3, 1)}, base)
