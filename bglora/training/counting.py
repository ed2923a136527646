"""Memory counted on shapes: networks without values run as on a device, and what lives at once is added up."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Peak(TorchDispatchMode):
    """Counts bytes of tensors that live at once while it is entered, except those of `known` networks.

    An operation counts by what it returns: attention is taken to be fused, as it is on cards.
    """

    def __init__(self, known: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._known: list[torch.UntypedStorage] = []
        for net in known:
            self.know((*net.parameters(), *net.buffers()))

    def know(self, tensors: Iterable[Tensor]) -> None:
        """These are not counted, and neither are views of them."""
        for tensor in tensors:
            self._known.append(tensor.untyped_storage())
            self._sizes[self._known[-1]._cdata] = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


class _Fused(torch.autograd.Function):
    """Stands for fused attention: keeps query, key, value and result, never the attention matrix."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, rows, _ = query.shape
        result = query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)  # so devices lay it out
        context.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(context: Any, *_: Any) -> Any:
        return tuple(torch.empty_like(tensor.transpose(1, 2)).transpose(1, 2) for tensor in context.saved_tensors[:3])


@contextmanager
def as_on_a_device(half: bool) -> Iterator[None]:
    """torch's functions that networks call do on shapes what they do on a device: attention is fused, which the meta
    device cannot do, and (`half`) autocast to bf16 is on, which it does not know.

    Not for several threads: the functions are torch's own, replaced for a while. A mode of torch would not do, since
    none is on while gradient checkpointing computes a block again.
    """
    lists: list[tuple[str, Callable[..., Any]]] = [
        ("scaled_dot_product_attention", lambda query, key, value, *_, **__: _attended(query, key, value))
    ]
    if half:
        lists += [(name, _cast(getattr(functional, name), torch.float32)) for name in ("group_norm", "layer_norm")]
        lists += [(name, _cast(getattr(functional, name), torch.bfloat16)) for name in ("linear", "conv2d")]
    before = {name: getattr(functional, name) for name, _ in lists}
    try:
        for name, function in lists:
            setattr(functional, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(functional, name, function)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    fused: Any = _Fused.apply
    result: Tensor = fused(query, key, value)
    return result


def _cast(function: Callable[..., Any], kind: torch.dtype) -> Callable[..., Any]:
    """The function in one number format, whatever it is given."""

    def cast(value: Any) -> Any:
        return value.to(kind) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return run
