"""A base in fewer bits: it computes what its whole form computes up to rounding, and the LoRA's gradients are exact."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bglora.errors import MachineError
from bglora.training import quantized
from bglora.training.adapter import Adapter
from bglora.training.base import load_base
from bglora.training.job import Paused
from bglora.training.quantized import QuantizedLinear, quantize, small_bytes
from tests.training.test_adapter import ALPHA, DIM, loss_of, with_random_ups
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train

HERE = torch.device("cpu")
NEEDS_LIBRARY = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
KINDS = ["int8", pytest.param("nf4", marks=NEEDS_LIBRARY)]
ROUNDING = {"int8": 0.01, "nf4": 0.11}
"""Relative error of normally distributed weights: uniform steps of a row's largest / 127, and NF4's sixteen values."""


def small(kind: Any) -> Any:
    unet = copy.deepcopy(load_base(str(tiny_base())).unet)
    quantize(unet, kind, HERE)
    return unet


def whole_again(unet: Any) -> Any:
    """The same network with its rounded weights as plain ones."""
    plain = copy.deepcopy(unet)
    for path, layer in list(plain.named_modules()):
        if isinstance(layer, QuantizedLinear):
            linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            linear.weight.data = layer.matrix()
            if layer.bias is not None:
                linear.bias.data = layer.bias.data
            parent, _, name = path.rpartition(".")
            setattr(plain.get_submodule(parent), name, linear.requires_grad_(False))
    return plain


def gradients(unet: Any) -> tuple[Tensor, dict[str, Tensor]]:
    adapter = with_random_ups(Adapter(unet, DIM, ALPHA, seed=3))
    adapter.begin()
    loss = loss_of(unet, 1)
    torch.autograd.backward(loss)
    adapter.finish()
    return loss.detach(), adapter.gradients()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_whole_form_up_to_rounding_and_as_small_as_told(kind: Any) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 96)
    layer = quantized.KINDS[kind].of(linear, HERE)
    held = layer.weight.nbytes + layer.scales.nbytes
    assert held == small_bytes(linear.weight, kind) < linear.weight.nbytes / 3
    weight = torch.randn(96, 128)
    linear.weight.data = weight
    off = (quantized.KINDS[kind].of(linear, HERE).matrix() - weight).norm() / weight.norm()
    assert off < ROUNDING[kind]
    x = torch.randn(2, 5, 128, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x)
    (asked,) = torch.autograd.grad(nn.functional.linear(x, layer.matrix(), layer.bias).square().sum(), x)
    assert torch.allclose(grad, asked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_rounded_weights_and_near_those_of_the_whole_ones(kind: Any) -> None:
    unet = small(kind)
    assert sum(isinstance(module, QuantizedLinear) for module in unet.modules()) == len(Adapter(unet, 1, 1.0, 0).layers)
    unet = small(kind)
    loss, own = gradients(unet)
    same_loss, same = gradients(whole_again(small(kind)))
    assert torch.equal(loss, same_loss)
    assert all(torch.equal(own[name], same[name]) for name in same)
    _, exact = gradients(copy.deepcopy(load_base(str(tiny_base())).unet))
    flat, asked = (torch.cat([part.flatten() for part in grads.values()]) for grads in (own, exact))
    assert float((flat - asked).norm() / asked.norm()) < 5 * ROUNDING[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_weights_are_not_kept_for_the_way_back(kind: Any) -> None:
    unet, largest = small(kind), 0
    Adapter(unet, DIM, ALPHA, seed=3)
    shapes = {layer.matrix().shape for layer in unet.modules() if isinstance(layer, QuantizedLinear)}

    def note(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest += tensor.ndim == 2 and (tensor.shape in shapes or tensor.t().shape in shapes) and tensor.shape[0] > 64
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss_of(unet, 1)
    assert not largest


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_on_it_stops_and_goes_on_to_the_same_bytes(tmp_path: Path, kind: Any) -> None:
    job = tiny_job(tmp_path / "pictures", samples=0, epochs=1, base_quantization=kind)
    whole = train(job, Watcher(tmp_path / "whole"))
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path / "cut", at=1))
    train(job, Watcher(tmp_path / "cut"))
    file = whole.outputs[0]
    assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert any(isinstance(module, QuantizedLinear) for module in load_base(job.base, quantization=kind).unet.modules())


def test_the_whole_base_is_loaded_again_after_one_in_fewer_bits() -> None:
    small_one = load_base(str(tiny_base()), quantization="int8")
    assert any(isinstance(module, QuantizedLinear) for module in small_one.unet.modules())
    assert not any(isinstance(module, QuantizedLinear) for module in load_base(str(tiny_base())).unet.modules())


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_its_library_four_bits_are_refused_with_a_way_out() -> None:
    with pytest.raises(MachineError) as caught:
        load_base(str(tiny_base()), quantization="nf4")
    assert "bitsandbytes" in caught.value.what and "MIT" in caught.value.what
    assert "int8" in caught.value.cure
