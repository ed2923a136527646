"""What a LoRA leaves out while it learns: sd-scripts' three kinds, as factors of the rank activations."""

from __future__ import annotations

import torch
from torch import Tensor

from bglora.training.adapter import Adapter
from bglora.training.options import DropoutOptions


class Dropout:
    """The dropouts of one layer, drawn from torch's global generators: the layer, then activations, then ranks."""

    def __init__(self, options: DropoutOptions) -> None:
        self.options = options

    def __call__(self, ranks: Tensor) -> Tensor:
        """Factors of rank activations (b, ..., dim): 0 for what is left out."""
        options = self.options
        if options.module_dropout and float(torch.rand(1)) < options.module_dropout:
            return torch.zeros_like(ranks)
        neurons = kept = None
        if options.network_dropout:
            neurons = torch.rand(ranks.shape, device=ranks.device) >= options.network_dropout
        if options.rank_dropout:
            kept = torch.rand((len(ranks), ranks.shape[-1]), device=ranks.device) > options.rank_dropout
        return factors(neurons, kept, ranks, options)


def factors(neurons: Tensor | None, kept: Tensor | None, ranks: Tensor, options: DropoutOptions) -> Tensor:
    """Of masks of what stays: `neurons` like the rank activations (b, ..., dim), `kept` (b, dim)."""
    found = torch.ones_like(ranks)
    if neurons is not None:
        found = found * neurons / (1 - options.network_dropout)
    if kept is not None:
        found = found * kept.view(len(kept), *[1] * (ranks.ndim - 2), -1) / (1 - options.rank_dropout)
    return found


def attach(adapter: Adapter, options: DropoutOptions) -> None:
    """Every layer of the adapter drops out while gradients are computed."""
    for layer in adapter.layers.values():
        layer.factor = Dropout(options)
