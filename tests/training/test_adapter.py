"""The adapter computes what peft's LoRA computes, and its step waits for nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from bglora.training.adapter import Adapter, Target, unet_targets
from bglora.training.base import load_base
from bglora.training.loop import Training, Watch
from bglora.training.optimizer import FlatAdamW, clip
from tests.bench.train_cpu import counted
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import tiny_job

DIM, ALPHA = 4, 3.0


@pytest.fixture
def unet() -> Any:
    return copy.deepcopy(load_base(str(tiny_base())).unet)


def inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sample": torch.randn(2, 4, 8, 12, generator=generator),
        "timestep": torch.tensor([100, 900]),
        "encoder_hidden_states": torch.randn(2, 77, 32, generator=generator),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(2, 16, generator=generator),
            "time_ids": torch.full((2, 6), 64.0),
        },
    }


def loss_of(unet: Any, seed: int) -> Tensor:
    return unet(**inputs(seed)).sample.square().mean()


def convolutions(unet: nn.Module) -> list[Target]:
    """3 x 3, 1 x 1 and strided."""
    return [
        Target(f"lora_unet_{path.replace('.', '_')}", unet, path, DIM, ALPHA)
        for path, module in unet.named_modules()
        if isinstance(module, nn.Conv2d) and path.startswith("down_blocks")
    ]


def with_random_ups(adapter: Adapter) -> Adapter:
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapter.parameters().items():
        if "lora_up" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapter.refresh()
    return adapter


def with_peft(unet: Any, adapter: Adapter) -> Any:
    """A copy of the adapter's network under peft, with the adapter's weights."""
    unet.add_adapter(LoraConfig(r=DIM, lora_alpha=ALPHA, target_modules=[target.path for target in adapter.targets]))
    with torch.no_grad():
        for name, weight in adapter.parameters().items():
            peft_weight(unet, adapter, name).copy_(weight)
    return unet


def peft_weight(unet: Any, adapter: Adapter, name: str) -> nn.Parameter:
    layer, _, kind = name.partition(".")
    path = next(target.path for target in adapter.targets if target.name == layer)
    module = unet.get_submodule(path)
    return (module.lora_A if kind.startswith("lora_down") else module.lora_B)["default"].weight


@pytest.mark.parametrize("kind", ["linear", "convolutions", "both"])
def test_outputs_and_gradients_are_those_of_peft(unet: Any, kind: str) -> None:
    other = copy.deepcopy(unet)
    targets = unet_targets(unet, DIM, ALPHA) * (kind != "convolutions") + convolutions(unet) * (kind != "linear")
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0, targets))
    other = with_peft(other, adapter)
    adapter.begin()
    for seed in (1, 2):  # two micro-batches, whose gradients add up
        ours, theirs = loss_of(unet, seed), loss_of(other, seed)
        torch.testing.assert_close(ours, theirs)
        ours.backward()
        theirs.backward()
    adapter.finish()
    for name, gradient in adapter.gradients().items():
        expected = peft_weight(other, adapter, name).grad
        assert expected is not None and expected.abs().max() > 0, name
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()) + 1e-9)


def test_a_steps_first_gradients_overwrite_those_of_the_step_before(unet: Any) -> None:
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0))
    adapter.begin()
    loss_of(unet, 1).backward()
    expected = {name: gradient.clone() for name, gradient in adapter.gradients().items()}
    for gradient in adapter.grads:
        gradient.fill_(float("nan"))
    adapter.begin()
    loss_of(unet, 1).backward()
    adapter.finish()
    assert all(torch.equal(gradient, expected[name]) for name, gradient in adapter.gradients().items())


def test_layers_that_the_loss_does_not_touch_have_no_gradient(unet: Any) -> None:
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0))
    adapter.begin()
    loss_of(unet, 1).backward()
    adapter.begin()
    adapter.finish()
    assert all(not gradient.any() for gradient in adapter.grads)


def test_masked_attention_and_layers_called_alone_give_the_same_gradients(unet: Any) -> None:
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0))
    found = []
    mask = torch.ones(2, 77)
    for more in ({}, {"encoder_attention_mask": mask}):  # a mask of ones hides nothing, but goes diffusers' own way
        adapter.begin()
        unet(**inputs(1), **more).sample.square().mean().backward()
        found.append([gradient.clone() for gradient in adapter.grads])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-7)


class Foreign(nn.Linear):
    """Stands for a quantized layer: only it knows how to multiply by its weight."""


def test_a_layer_of_a_foreign_kind_is_used_through_its_own_forward(unet: Any) -> None:
    plain = with_random_ups(Adapter(copy.deepcopy(unet), DIM, ALPHA, 0))
    for target in unet_targets(unet, DIM, ALPHA):
        target.layer.__class__ = Foreign
    foreign = with_random_ups(Adapter(unet, DIM, ALPHA, 0))
    for adapter in (plain, foreign):
        adapter.begin()
        loss_of(adapter.targets[0].root, 1).backward()
    torch.testing.assert_close(foreign.grads, plain.grads, rtol=1e-3, atol=1e-7)


def test_under_a_bf16_base_gradients_add_up_in_fp32(unet: Any) -> None:
    exact = with_random_ups(Adapter(copy.deepcopy(unet), DIM, ALPHA, 0))
    rounded = with_random_ups(Adapter(unet.to(torch.bfloat16), DIM, ALPHA, 0))
    for adapter in (exact, rounded):
        adapter.begin()
        for seed in (1, 2):
            with torch.autocast("cpu", torch.bfloat16, enabled=adapter is rounded):
                loss = loss_of(adapter.targets[0].root, seed).float()
            loss.backward()
    (one,), (other,) = exact.grads, rounded.grads
    assert other.dtype == torch.float32 and rounded.buffers["unet"].weights.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(one, other, 0) > 0.99
    assert other.norm() == pytest.approx(float(one.norm()), rel=0.05)


def test_a_dropout_of_everything_leaves_the_frozen_network_and_validation_is_not_dropped(unet: Any) -> None:
    with torch.no_grad():
        frozen = loss_of(unet, 1)
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0, unet_targets(unet, DIM, ALPHA) + convolutions(unet)))
    for layer in adapter.layers.values():
        layer.factor = torch.zeros_like
    adapter.begin()
    loss = loss_of(unet, 1)
    torch.testing.assert_close(loss.detach(), frozen)
    loss.backward()
    assert all(not gradient.any() for gradient in adapter.grads)
    with torch.no_grad():
        assert (loss_of(unet, 1) - frozen).abs() > 1e-4


def test_half_of_the_ranks_dropped_is_a_lora_of_the_other_half(unet: Any) -> None:
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, 0))
    for layer in adapter.layers.values():
        layer.factor = lambda ranks: torch.tensor([0.0, 2.0, 0.0, 2.0]).expand(ranks.shape)
    dropped = loss_of(unet, 1).detach()
    for layer in adapter.layers.values():
        layer.factor = None
    for name, parameter in adapter.parameters().items():
        if "lora_up" in name:
            parameter[:, ::2] = 0
            parameter.mul_(2)
    torch.testing.assert_close(loss_of(unet, 1).detach(), dropped)


def steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clipped: bool) -> Iterator[None]:
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** -(2 * number)
        if clipped:
            clip([p.grad for p in parameters if p.grad is not None], 1.0)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 / (number + 1)
        optimizer.step()
        yield


def test_the_flat_optimizer_is_torchs_adamw() -> None:
    ours, theirs = ([nn.Parameter(torch.linspace(-1, 1, size)) for size in (50, 70)] for _ in range(2))
    flat = FlatAdamW([{"params": [one]} for one in ours], 1e-3, weight_decay=0.1)
    plain = torch.optim.AdamW([{"params": [one]} for one in theirs], 1e-3, weight_decay=0.1)
    for _ in zip(steps(flat, ours, True), steps(plain, theirs, False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_a_step_reads_no_number_and_has_at_most_thirty_optimizer_operations(tmp_path: Path, ratio: float) -> None:
    base = load_base(str(tiny_base()))
    job = tiny_job(tmp_path / "pictures", samples=0, loraplus_lr_ratio=ratio)
    training = Training(job, base, tmp_path / "state", tmp_path, Watch(lambda *_: None, lambda: False))
    try:
        training.descend(0)
        reads, operations = counted(lambda: training.descend(1))
    finally:
        training.adapter.detach()
    assert reads == 0
    assert 0 < operations <= 30
