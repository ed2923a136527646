"""What a training takes, counted on shapes, is what tensors with values take; what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bglora.training import memory, shapes
from bglora.training.base import load_base
from bglora.training.buckets import Size
from bglora.training.counting import Peak, as_on_a_device
from bglora.training.job import Recipe
from bglora.training.loop import Training, Watch
from bglora.training.optimizers import PACKAGES
from bglora.training.options import DropoutOptions
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import RECIPE, tiny_job

BUCKET: Size = (64, 96)
NEAR = 0.07
"""Largest relative difference: attention on a CPU keeps a number for each row, and lays its gradients out otherwise."""


def begun(folder: Path, recipe: dict[str, Any]) -> Training:
    job = tiny_job(folder / "pictures", **recipe)
    base = load_base(job.base, quantization=job.recipe.base_quantization)
    return Training(job, base, folder / "state", folder / "samples", Watch(lambda *_: None, lambda: False))


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "many": {"batch_size": 4, "text_encoders": True, "conv_dim": 3, "dropout": DropoutOptions(0.1, 0.1, 0.0)},
    "little": {"gradient_checkpointing": True, "base_quantization": "int8"},
    "magnitudes": {"dora": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_takes_what_was_counted(tmp_path: Path, case: str) -> None:
    training = begun(tmp_path, CASES[case])
    base, adapter, recipe = training.base, training.adapter, training.recipe
    try:
        if recipe.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
        base.unet.train()
        batch = training.batch(0, 0, training.plan.batches(0)[0])
        adapter.begin()
        adapter.finish()
        given = [part for part in vars(batch).values() if part is not None]
        given += [*adapter.parameters().values(), *adapter.grads]
        with Peak([base.unet, *base.encoders]) as peak:
            peak.know(given)
            if recipe.text_encoders:
                batch = training.batch(0, 0, training.plan.batches(0)[0])
            training.learner.accumulate(batch)
        count = sum(map(torch.numel, adapter.parameters().values()))
    finally:
        base.unet.eval()
        base.unet.disable_gradient_checkpointing()
        adapter.detach()
    bucket = training.examples[training.plan.batches(0)[0][0].picture].bucket
    found = shapes.step(shapes.of(base, recipe, bucket))
    assert found.adapted == count
    assert found.peak == pytest.approx(peak.peak, rel=NEAR)


def test_encoding_and_painting_take_what_was_counted() -> None:
    base = load_base(str(tiny_base()))
    shape = shapes.of(base, RECIPE, BUCKET)
    picture, latent = torch.zeros(1, 3, *BUCKET), torch.zeros(1, 4, BUCKET[0] // 8, BUCKET[1] // 8)
    truths = []
    for run, seen in ((base.vae.encode, picture), (base.vae.decode, latent)):
        with torch.no_grad(), Peak([base.vae]) as peak:
            run(seen.clone())
        truths.append(peak.peak)
    assert shapes.encoding(shape) == pytest.approx(truths[0], rel=NEAR)
    assert shapes.painting(shape, 1) >= truths[1]
    assert shapes.base_bytes(shape) == sum(
        tensor.nbytes for net in (base.unet, base.vae, *base.encoders) for tensor in (*net.parameters(), *net.buffers())
    )
    small = load_base(str(tiny_base()), quantization="int8")
    held = sum(tensor.nbytes for tensor in (*small.unet.parameters(), *small.unet.buffers()))
    rest = shapes.base_bytes(shape) - sum(tensor.nbytes for tensor in base.unet.parameters())
    assert shapes.base_bytes(replace(shape, quantization="int8")) == held + rest


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "schedule_free"])
def test_optimizers_take_what_was_counted(tmp_path: Path, optimizer: str) -> None:
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    training = begun(tmp_path, {"optimizer": optimizer})
    try:
        training.adapter.begin()
        training.adapter.finish()
        given = [*training.adapter.parameters().values(), *training.adapter.grads]
        with Peak() as peak:
            peak.know(given)
            for _ in range(2):
                training.learner.update(1e-4)
        count = sum(map(torch.numel, given)) // 2
    finally:
        training.adapter.detach()
    need = memory.estimate(training.base, training.recipe, BUCKET)
    assert need.adapter == pytest.approx(8 * count + peak.peak, rel=NEAR)


def test_deep_transformers_are_counted_from_shallow_ones() -> None:
    shape = shapes.of(load_base(str(tiny_base())), RECIPE, BUCKET)
    config = json.loads(shape.unet) | {"transformer_layers_per_block": [1, 1, 6]}
    shape = replace(shape, unet=json.dumps(config), checkpointing=True)
    found, whole = shapes.step(shape), shapes._counted(shape)
    assert (found.adapted, found.copies) == (whole.adapted, whole.copies)
    assert found.peak == pytest.approx(whole.peak, rel=NEAR)


def test_a_leaner_recipe_keeps_what_it_can() -> None:
    recipe = Recipe(batch_size=4, accumulation=1, dim=128, alpha=96.0)
    changes = [dict(settings) for settings, _ in memory.leaner_recipes(recipe)]
    assert changes[0] == {"train.gradient_checkpointing": "true"}
    assert changes[1] == {**changes[0], "train.batch_size": "1", "train.accumulation": "4"}
    assert changes[-1]["train.dim"] == "8" and changes[-1]["train.alpha"] == "6"
    assert changes[-1]["train.base_quantization"] == "nf4"
    leanest = list(memory.leaner_recipes(recipe))[-1][1]
    assert (leanest.resolution, leanest.batch_size, leanest.accumulation) == (512, 1, 4)
    assert not list(memory.leaner_recipes(leanest))
    assert not any("base_quantization" in str(s) for s, _ in memory.leaner_recipes(replace(recipe, dora=True)))


def test_torchs_functions_are_its_own_again_afterwards() -> None:
    own = torch.nn.functional.linear
    with pytest.raises(ZeroDivisionError), as_on_a_device(True):
        assert torch.nn.functional.linear is not own
        raise ZeroDivisionError
    assert torch.nn.functional.linear is own
