"""LoRA on a frozen network (Hu et al. 2021), with sd-scripts' names. All its weights lie in a few flat buffers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training.low_rank import LowRank, LowRankConv, LowRankLinear, Slot, Turn
from bglora.training.modules import branch_shapes, unet_layers


@dataclass(frozen=True)
class Target:
    """One layer to adapt.

    Attributes:
        name: sd-scripts' name (`lora_unet_input_blocks_4_1_proj_in`).
        root, path: the network and the layer's place in it.
        group: targets of one group share a buffer and a learning rate.
    """

    name: str
    root: nn.Module
    path: str
    dim: int
    alpha: float
    group: str = "unet"

    @property
    def layer(self) -> Any:
        return self.root.get_submodule(self.path)


@dataclass
class Buffer:
    """The weights of one group: all downs, then all ups, one behind the other.

    Attributes:
        weights, grads: fp32. In place of the weights the layers read `computing`, which is the same tensor or, where
            their frozen weights are of another number format, a copy in that format.
        middle: where the ups begin.
    """

    weights: Tensor
    grads: Tensor
    computing: Tensor
    middle: int

    def refresh(self) -> None:
        """To be called after each change of the weights."""
        if self.computing is not self.weights:
            self.computing.copy_(self.weights)


@dataclass
class Group:
    """Parameters with a learning rate of their own: a whole buffer, or its downs or ups; views of it, with `grad`s.

    Attributes:
        ratio: their rate is so many times the group's (LoRA+).
    """

    name: str
    parameter: nn.Parameter
    ratio: float = 1.0


class Adapter:
    """All LoRA layers of one network, or of several. Attached when made; `detach` gives back the networks' own layers.

    A step: `begin`, forward and backward passes (whose gradients add up), `finish`, the optimizer's step, `refresh`.

    Attributes:
        layers: sd-scripts' name to layer.
        buffers: group to its weights.
    """

    def __init__(self, unet: Any, dim: int, alpha: float, seed: int, targets: Sequence[Target] | None = None) -> None:
        """Downs are drawn from the seed and the layer's name, ups are zero.

        Args:
            targets: layers to adapt; by default every linear layer of the U-Net's transformers with `dim` and `alpha`.
        """
        self.targets = list(unet_targets(unet, dim, alpha) if targets is None else targets)
        self.layers: dict[str, LowRank] = {}
        self.buffers: dict[str, Buffer] = {}
        self._places: dict[str, tuple[str, slice, slice]] = {}
        self._turn = Turn(_device(self.targets[0].layer))
        for group in dict.fromkeys(target.group for target in self.targets):
            self._fill(group, [target for target in self.targets if target.group == group], seed)
        self._processors = _join({id(target.root): target.root for target in self.targets}.values())

    def _fill(self, group: str, targets: Sequence[Target], seed: int) -> None:
        """Lays out a group's buffer, draws its weights and puts its layers into their networks."""
        shapes = [branch_shapes(target.layer, target.dim) for target in targets]
        middle = sum(math.prod(down) for down, _ in shapes)
        first = targets[0].layer
        size = middle + sum(math.prod(up) for _, up in shapes)
        weights = torch.zeros(size, device=_device(first))
        dtype = _computing_format(first)
        computing = weights if dtype == weights.dtype else weights.to(dtype)
        buffer = self.buffers[group] = Buffer(weights, torch.zeros_like(weights), computing, middle)
        at, then = 0, middle
        for target, (down, up) in zip(targets, shapes, strict=True):
            here, there = slice(at, at + math.prod(down)), slice(then, then + math.prod(up))
            at, then = here.stop, there.stop
            weights[here] = draw_down(target.name, down, seed).flatten().to(weights.device)
            lying = (up[1], up[0])
            slot = Slot(
                computing[here].view(down),
                computing[there].view(lying),
                buffer.grads[here].view(down),
                buffer.grads[there].view(lying),
            )
            kind = LowRankLinear if len(down) == 2 else LowRankConv
            layer = kind(target.layer, target.alpha / target.dim, self._turn, slot)
            replace_module(target.root, target.path, layer)
            self.layers[target.name] = layer
            self._places[target.name] = group, here, there
        buffer.refresh()

    def detach(self) -> None:
        for attention, processor in self._processors:
            attention.processor = processor
        for target in self.targets:
            replace_module(target.root, target.path, self.layers[target.name].inner)

    def parameters(self) -> dict[str, Tensor]:
        """`<name>.lora_down.weight` (dim, in) and `<name>.lora_up.weight` (out, dim) of every layer, convolutions' with
        their kernel: views of the buffers, fp32."""
        return dict(self._views(lambda buffer: buffer.weights))

    def gradients(self) -> dict[str, Tensor]:
        """The gradients that have added up since `begin`, named as the parameters are."""
        return dict(self._views(lambda buffer: buffer.grads))

    def _views(self, tensor: Any) -> Iterator[tuple[str, Tensor]]:
        for name, layer in self.layers.items():
            group, here, there = self._places[name]
            flat = tensor(self.buffers[group])
            yield f"{name}.lora_down.weight", flat[here].view(layer.slot.down.shape)
            up = flat[there].view(layer.slot.up.shape).t()
            yield f"{name}.lora_up.weight", up if layer.slot.down.ndim == 2 else up[:, :, None, None]

    @property
    def grads(self) -> list[Tensor]:
        """All gradients, a flat tensor for each group."""
        return [buffer.grads for buffer in self.buffers.values()]

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the values of `parameters()` as they were saved."""
        for name, parameter in self.parameters().items():
            parameter.copy_(tensors[name])
        self.refresh()

    def groups(self, ratio: float = 1.0) -> list[Group]:
        """What an optimizer steps through; `ratio` is LoRA+'s (Hayou et al. 2024), of the ups' rate to the downs'."""
        found = []
        for name, buffer in self.buffers.items():
            halves = [(slice(0, buffer.middle), 1.0), (slice(buffer.middle, None), ratio)]
            for part, own in [(slice(None), 1.0)] if ratio == 1.0 else halves:
                parameter = nn.Parameter(buffer.weights[part])
                parameter.grad = buffer.grads[part]
                found.append(Group(name, parameter, own))
        return found

    def begin(self) -> None:
        """The gradients of the step before are done with; the next ones overwrite them."""
        self._turn.number += 1

    def all_written(self) -> None:
        """Gradients count as written in this step: the ones that come are added to them."""
        for layer in self.layers.values():
            layer.slot.written = self._turn.number

    def finish(self) -> None:
        """The gradients are all there; layers that the loss did not touch have none."""
        for layer in self.layers.values():
            if layer.slot.written not in (self._turn.number, -1):
                layer.slot.clear()
                layer.slot.written = -1

    def refresh(self) -> None:
        """The layers compute with the weights as they are now."""
        for buffer in self.buffers.values():
            buffer.refresh()


def unet_targets(unet: Any, dim: int, alpha: float) -> list[Target]:
    """Every linear layer of a U-Net's transformers, with one rank."""
    return [Target(layer.name, unet, layer.path, dim, alpha) for layer in unet_layers(unet, convolutions=False)]


def draw_down(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """A layer's first down matrix: kaiming_uniform with a = sqrt(5), sd-scripts' choice."""
    bound = math.prod(shape[1:]) ** -0.5
    drawn = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(_seed_of(name, seed)))
    return drawn * (2 * bound) - bound


def _device(layer: nn.Module) -> torch.device:
    return next(layer.parameters()).device


def _computing_format(layer: nn.Module) -> torch.dtype:
    """The format of the frozen weights; of a quantized layer, the one that its product comes in."""
    weight: Any = layer.weight
    if weight.is_floating_point():
        return weight.dtype
    return getattr(layer, "compute_dtype", None) or torch.bfloat16


def _join(roots: Any) -> list[tuple[Any, Any]]:
    """Lets attention apply the layers of one input at once. Returns each attention with the processor that it had."""
    from bglora.training.attention import JointAttention, can_join

    found = []
    for root in roots:
        for module in root.modules():
            if type(module).__name__ == "Attention" and can_join(module):
                found.append((module, module.processor))
                module.processor = JointAttention(module)
    return found


def replace_module(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _seed_of(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/init/{name}".encode()).digest()[:7], "big")
