"""What a network takes of a device's memory, counted on shapes alone: no weights, no device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bglora.training.counting import Peak


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
