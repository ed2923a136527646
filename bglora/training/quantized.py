"""Frozen linear layers in 8 or 4 bits: whole numbers per row (int8), or NF4 (Dettmers et al. 2023) by bitsandbytes.

Weights are made whole again for each product, forward and backward, and forgotten at once: what stays in memory is the
small form. The LoRA beside them is as it always is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bglora.errors import MachineError
from bglora.training.modules import unet_layers
from bglora.training.options import Quantization

BLOCK = 64
"""Weights that share a scale in NF4."""


class QuantizedLinear(nn.Linear, ABC):
    """A frozen linear layer that holds its weight in fewer bits.

    Attributes:
        weight: int8 (out, in), or of NF4 two to a byte, uint8 (out * in / 2, 1).
        scales: fp32: of int8 (out, 1), of NF4 one for every `BLOCK` weights.
        compute_dtype: what the weight is multiplied in.
    """

    scales: Tensor

    def __init__(self, layer: nn.Linear, weight: Tensor, scales: Tensor) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.compute_dtype = layer.weight.dtype
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scales", scales)
        self.bias = layer.bias

    @abstractmethod
    def matrix(self) -> Tensor:
        """The whole weight (out, in) in `compute_dtype`, made anew."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) to (..., out)."""
        product: Any = _Product.apply
        y: Tensor = product(x, self)
        return y


class Int8Linear(QuantizedLinear):
    """A row's largest weight is 127."""

    @classmethod
    def of(cls, layer: nn.Linear, where: torch.device) -> Int8Linear:
        weight = layer.weight.to(where, torch.float32)
        scales = weight.abs().amax(1, keepdim=True).clamp_(min=1e-12) / 127
        scales = scales.to(layer.weight.dtype).float()  # as they are multiplied with
        return cls(layer, (weight / scales).round_().clamp_(-127, 127).to(torch.int8), scales)

    def matrix(self) -> Tensor:
        return self.weight.to(self.compute_dtype) * self.scales.to(self.compute_dtype)


class Nf4Linear(QuantizedLinear):
    """Sixteen values at a normal distribution's quantiles, scaled for every `BLOCK` weights."""

    @classmethod
    def of(cls, layer: nn.Linear, where: torch.device) -> Nf4Linear:
        packed, state = _bitsandbytes().functional.quantize_4bit(
            layer.weight.data.to(where).contiguous(), blocksize=BLOCK, quant_type="nf4"
        )
        return cls(layer, packed, state.absmax)

    def matrix(self) -> Tensor:
        library = _bitsandbytes().functional
        shape = torch.Size((self.out_features, self.in_features))
        state = library.QuantState(self.scales, shape, dtype=self.compute_dtype, blocksize=BLOCK, quant_type="nf4")
        whole: Tensor = library.dequantize_4bit(self.weight.data, state)
        return whole


class _Product(torch.autograd.Function):
    """W x + b, keeping neither x nor the whole W for the way back."""

    @staticmethod
    def forward(context: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        context.layer = layer
        return functional.linear(x.to(layer.compute_dtype), layer.matrix(), layer.bias)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layer: QuantizedLinear = context.layer
        return grads[0].to(layer.compute_dtype) @ layer.matrix(), None


KINDS: dict[str, Any] = {"int8": Int8Linear, "nf4": Nf4Linear}


def quantize(unet: Any, kind: Quantization, where: torch.device) -> None:
    """Puts the linear layers of a U-Net's transformers, nine tenths of SDXL's weights, into fewer bits on a device.

    One layer at a time, so the device never holds the whole weights.

    Raises:
        MachineError: bitsandbytes is missing, or too old for this device.
    """
    if kind == "none":
        return
    for layer in list(unet_layers(unet, convolutions=False)):
        if type(layer.module) is nn.Linear:
            parent, _, name = layer.path.rpartition(".")
            setattr(unet.get_submodule(parent), name, KINDS[kind].of(layer.module, where))


def small_bytes(weight: Tensor, kind: Quantization) -> int:
    """Bytes that a linear layer's weight (out, in) takes in fewer bits, with its scales."""
    if kind == "int8":
        return weight.numel() + 4 * weight.shape[0]
    if kind == "nf4":
        return -(-weight.numel() // 2) + 4 * -(-weight.numel() // BLOCK)
    return weight.numel() * weight.element_size()


def _bitsandbytes() -> Any:
    global _library
    if _library is None:
        try:
            import bitsandbytes
            import bitsandbytes.functional
        except (ImportError, RuntimeError, OSError) as error:
            raise MachineError(
                "A base in 4 bits needs the package bitsandbytes (MIT license), which is not here or does not start.",
                where="train.base_quantization = nf4",
                cure="pip install 'bglora[studio]'; or bglora set train.base_quantization int8, which needs nothing.",
            ) from error
        _library = bitsandbytes
    return _library


_library: Any = None
