"""What a network takes of a device's memory, counted on shapes alone: no weights, no device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
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
        self._known = [tensor.untyped_storage() for net in known for tensor in (*net.parameters(), *net.buffers())]
        self._sizes.update((storage._cdata, 0) for storage in self._known)

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


def weights(*nets: nn.Module) -> int:
    """Bytes of parameters and buffers, those that are shared once."""
    tensors = {id(t): t for net in nets for t in (*net.parameters(), *net.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def at_work(run: Callable[[], object], *nets: nn.Module) -> int:
    """Bytes beside the weights at the peak of a run."""
    with torch.inference_mode(), Peak(nets) as peak:
        run()
    return peak.peak


def on_meta(build: Callable[[], Any], dtype: torch.dtype) -> Any:
    """A network without values."""
    with torch.device("meta"):
        return build().to(device="meta", dtype=dtype).eval().requires_grad_(False)
