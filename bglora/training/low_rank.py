"""The low-rank branch beside a frozen layer: few products, gradients written where the optimizer reads them.

A layer computes y = W x + b + s * up(down(x)) (Hu et al. 2021) as one function of x. Forward, the branch is added onto
W x by the product that makes it; backward, dx is built up in one buffer and the gradients of down and up are products
straight into the optimizer's flat buffers, so no weight of the LoRA is a node of the graph. Layers that read one input
(queries, keys, values) share the product with their stacked downs and the sum of their dx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from bglora.training.quantized import QuantizedLinear

Factor = Callable[[Tensor], Tensor]
"""What a dropout multiplies rank activations (..., dim) by, given them. Draws from torch's global generator, whose
state gradient checkpointing restores when it computes a block again."""


class Turn:
    """Counts an adapter's optimizer steps, so that a step's first gradients overwrite those of the step before."""

    def __init__(self, device: torch.device) -> None:
        self.number = 0
        self.anchor = torch.empty(0, device=device, requires_grad=True)  # makes autograd record the branches


class Slot:
    """A layer's place in the flat buffers.

    Attributes:
        down: (dim, in) or (dim, in, k, k), in the number format that the layer computes in.
        up: (dim, out), the transpose of what files hold: thin matrices multiply faster lying than standing.
        down_grad, up_grad: where their gradients belong, fp32.
        written: the turn in which they were last written; -1: they are zero.
    """

    def __init__(self, down: Tensor, up: Tensor, down_grad: Tensor, up_grad: Tensor) -> None:
        self.down, self.up, self.down_grad, self.up_grad = down, up, down_grad, up_grad
        self.written = -1

    def clear(self) -> None:
        self.down_grad.zero_()
        self.up_grad.zero_()


class LowRank(nn.Module):
    """A frozen layer with a low-rank branch beside it, whose weights lie in the adapter's buffers.

    Attributes:
        inner: the frozen layer.
        scale: alpha / dim.
        factor: a dropout on the rank activations; applied where gradients are computed.
    """

    def __init__(self, inner: nn.Module, scale: float, turn: Turn, slot: Slot) -> None:
        super().__init__()
        self.inner, self.scale, self.turn, self.slot = inner, scale, turn, slot
        self.factor: Factor | None = None


class LowRankLinear(LowRank):
    """The branch beside a linear layer. Input (..., in), output (..., out)."""

    def __init__(self, inner: nn.Module, scale: float, turn: Turn, slot: Slot) -> None:
        super().__init__(inner, scale, turn, slot)
        self._alone = Joint([self])

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._alone(x)[0]


class Joint:
    """Linear layers that read one input, applied at once. Their downs lie one behind the other in their buffer."""

    def __init__(self, layers: Sequence[LowRankLinear]) -> None:
        self.layers, self.turn = list(layers), layers[0].turn
        self.slots = [layer.slot for layer in layers]
        self.scale = layers[0].scale
        if any(layer.scale != self.scale for layer in layers):
            raise ValueError("layers of one input must have one alpha / dim")
        self.down = _stacked([slot.down for slot in self.slots])
        self.down_grad = _stacked([slot.down_grad for slot in self.slots])
        self.standing = self.down.t(), [slot.up.t() for slot in self.slots]
        self.dims = [slot.up.shape[0] for slot in self.slots]
        matrices = [_matrix(layer.inner) for layer in layers]
        inner: list[Any] = [layer.inner for layer in layers]
        self.plain = None not in matrices
        self.frozen = [(matrix if self.plain else None, one.bias) for matrix, one in zip(matrices, inner, strict=True)]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Input (..., in); an output (..., out) for each layer."""
        drop = torch.is_grad_enabled() and any([layer.factor is not None for layer in self.layers])
        branch: Any = _JointBranch.apply
        outputs: tuple[Tensor, ...] = branch(self.turn.anchor, x, self, drop)
        if self.plain:
            return outputs
        return tuple(layer.inner(x) + y.to(x.dtype) for layer, y in zip(self.layers, outputs, strict=True))

    def split(self, ranks: Tensor) -> Sequence[Tensor]:
        """Each layer's columns of (rows, sum of dims)."""
        return ranks.split(self.dims, 1) if len(self.dims) > 1 else (ranks,)

    def factors(self, ranks: Tensor, shape: Sequence[int]) -> Tensor:
        """The dropouts of all layers for rank activations (rows, sum of dims) of an input of this shape."""
        found = []
        for layer, part in zip(self.layers, self.split(ranks), strict=True):
            drawn = torch.ones_like(part) if layer.factor is None else layer.factor(part.view(*shape[:-1], -1))
            found.append(drawn.expand(*shape[:-1], part.shape[1]).reshape(part.shape))
        return torch.cat(found, 1)


class _JointBranch(torch.autograd.Function):
    """W_i x + b_i + s_i U_i D_i x of every layer i; without the first two where `joint.plain` is false."""

    @staticmethod
    def forward(context: Any, anchor: Tensor, x: Tensor, joint: Joint, drop: bool) -> tuple[Tensor, ...]:
        shape = x.shape
        rows = x.reshape(-1, shape[-1]).to(joint.down.dtype)
        ranks = torch.mm(rows, joint.standing[0])
        factors = joint.factors(ranks, shape) if drop else None
        if factors is not None:
            ranks.mul_(factors)
        outputs = []
        scale = joint.scale
        parts = zip(joint.frozen, joint.slots, joint.split(ranks), strict=True)
        for (matrix, bias), slot, part in parts:
            if matrix is None:
                y = torch.addmm(part.new_empty(1), part, slot.up, beta=0, alpha=scale)
            else:
                y = functional.linear(rows, matrix(), bias).addmm_(part, slot.up, alpha=scale)
            outputs.append(y.view(*shape[:-1], y.shape[1]))
        context.save_for_backward(rows, ranks, factors)
        context.joint, context.shape = joint, shape
        context.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(context: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, ranks, factors = context.saved_tensors
        joint: Joint = context.joint
        wanted, scale, dx = context.needs_input_grad[1], joint.scale, None
        beta = _beta(joint.slots, joint.turn)
        rank_grads = []  # without the scale, which the products that follow bring in
        lists = joint.frozen, joint.slots, joint.standing[1], grads, joint.split(ranks)
        for (matrix, _), slot, up, grad, part in zip(*lists, strict=True):
            if grad is None:
                rank_grads.append(torch.zeros_like(part))
                if not beta:
                    slot.up_grad.zero_()
                continue
            dy = grad.reshape(-1, grad.shape[-1]).to(rows.dtype)
            rank_grads.append(torch.mm(dy, up))
            _accumulate(slot.up_grad, part.t(), dy, beta, scale)
            if wanted and matrix is not None:
                dx = torch.mm(dy, matrix()) if dx is None else dx.addmm_(dy, matrix())
        inner = rank_grads[0] if len(rank_grads) == 1 else torch.cat(rank_grads, 1)
        if factors is not None:
            inner.mul_(factors)
        _accumulate(joint.down_grad, inner.t(), rows, beta, scale)
        if not wanted:
            return None, None, None, None
        dx = torch.zeros_like(rows) if dx is None else dx
        return None, dx.addmm_(inner, joint.down, alpha=scale).view(context.shape), None, None


class LowRankConv(LowRank):
    """The branch beside a convolution: down has its kernel, stride and padding, up is 1 x 1. Input (b, in, h, w)."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        branch: Any = _ConvBranch.apply
        y: Tensor = branch(self.turn.anchor, x, self, torch.is_grad_enabled() and self.factor is not None)
        return y


class _ConvBranch(torch.autograd.Function):
    """conv(x, W) + b + s * conv(conv(x, D), U)."""

    @staticmethod
    def forward(context: Any, anchor: Tensor, x: Tensor, layer: LowRankConv, drop: bool) -> Tensor:
        inner: Any = layer.inner
        slot, x = layer.slot, x.to(layer.slot.down.dtype)
        how = inner.stride, inner.padding, inner.dilation
        ranks = functional.conv2d(x, slot.down, None, *how)
        factors = None
        if drop and layer.factor is not None:
            factors = layer.factor(ranks.movedim(1, -1)).movedim(-1, 1)
            ranks = ranks * factors
        context.save_for_backward(x, ranks, factors)
        context.layer, context.how = layer, how
        y = functional.conv2d(x, inner.weight, inner.bias, *how)
        return y.add_(functional.conv2d(ranks, _kernel(slot.up)), alpha=layer.scale)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, ranks, factors = context.saved_tensors
        layer: LowRankConv = context.layer
        inner: Any = layer.inner
        slot, beta = layer.slot, _beta([layer.slot], layer.turn)
        dy = grads[0].to(x.dtype)
        scaled = conv2d_input(ranks.shape, _kernel(slot.up), dy).mul_(layer.scale)
        if factors is not None:
            scaled = scaled * factors
        up = torch.tensordot(ranks.movedim(1, 0).flatten(1), dy.movedim(1, 0).flatten(1), ([1], [1])).mul_(layer.scale)
        down = conv2d_weight(x, slot.down.shape, scaled, *context.how)
        for target, grad in ((slot.up_grad, up), (slot.down_grad, down)):
            if beta:
                target.add_(grad)
            else:
                target.copy_(grad)
        if not context.needs_input_grad[1]:
            return None, None, None, None
        dx = conv2d_input(x.shape, inner.weight, dy, *context.how)
        return None, dx.add_(conv2d_input(x.shape, slot.down, scaled, *context.how)), None, None


def _matrix(layer: Any) -> Callable[[], Tensor] | None:
    """What gives the frozen weight as a matrix of numbers: itself, or made anew from fewer bits; None where only the
    layer can multiply by it."""
    if isinstance(layer, QuantizedLinear):
        return layer.matrix
    weight = layer.weight
    if type(layer) is nn.Linear and type(weight) is nn.Parameter and weight.is_floating_point():
        return lambda: weight
    return None


def _kernel(up: Tensor) -> Tensor:
    """(dim, out) as the kernel of a 1 x 1 convolution."""
    return up.t()[:, :, None, None]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Neighbors in one buffer as one matrix."""
    if len(parts) == 1:
        return parts[0]
    first, width = parts[0], parts[0].shape[1]
    offset = first.storage_offset()
    for part in parts:
        if part.storage_offset() != offset or part.shape[1] != width:
            raise ValueError("the downs of layers with one input must lie one behind the other")
        offset += part.numel()
    return first.as_strided((sum(part.shape[0] for part in parts), width), (width, 1))


def _beta(slots: Sequence[Slot], turn: Turn) -> int:
    """Marks the slots as written; 1 where this turn's gradients are added to, 0 where these are the first."""
    fresh = [slot for slot in slots if slot.written != turn.number]
    for slot in fresh:
        slot.written = turn.number
        if len(fresh) < len(slots):
            slot.clear()
    return 0 if len(fresh) == len(slots) else 1


def _accumulate(target: Tensor, a: Tensor, b: Tensor, beta: int, alpha: float) -> None:
    """target = beta * target + alpha * a b, the sum over micro-batches in the target's own number format."""
    if target.dtype == a.dtype:
        target.addmm_(a, b, beta=beta, alpha=alpha)
    elif beta:
        target.add_(a @ b, alpha=alpha)
    else:
        torch.mul(a @ b, alpha, out=target)
