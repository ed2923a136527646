"""Adapters that act in a region only: their branches are masked on every level of the U-Net, with soft edges.

A LoRA adds up(down(x)) to what a layer gives. Here the sum is weighted by a mask: layers of tokens know the grid of
their level, convolutions their feature map. Keys and values of cross-attention belong to words, not to places; there
attention is computed with and without the branch, and the two results are mixed by place. What has no place at all (the
time embedding of the resnets in LoRAs with convolutions) stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.training.pictures import area_weights

WORDS = ("to_k", "to_v")


class Grids:
    """A mask on every grid of a U-Net.

    Args:
        mask: float32 (H, W), 0 to 1, at the picture's size. cells: (h, w) of the latents. levels: of the U-Net.
    """

    def __init__(self, mask: np.ndarray, cells: tuple[int, int], levels: int) -> None:
        self.mask = mask
        self._grids: dict[int, tuple[int, int]] = {}
        for _ in range(levels):
            self._grids.setdefault(cells[0] * cells[1], cells)
            cells = (-(-cells[0] // 2), -(-cells[1] // 2))
        self._known: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}

    def on(self, output: Tensor) -> Tensor | None:
        """The mask for a layer's output, ready to be multiplied: (1, n, 1) or (1, 1, h, w). None: it has no places."""
        if output.ndim == 4:
            return self._at(int(output.shape[2]), int(output.shape[3]), output)[None, None]
        if output.ndim == 3 and output.shape[1] in self._grids:
            rows, columns = self._grids[int(output.shape[1])]
            return self._at(rows, columns, output).reshape(1, -1, 1)
        return None

    def _at(self, rows: int, columns: int, like: Tensor) -> Tensor:
        key = (rows, columns, like.dtype, like.device)
        if key not in self._known:
            self._known[key] = torch.from_numpy(area_weights(self.mask, rows, columns)).to(like.device, like.dtype)
        return self._known[key]


@contextmanager
def confined(unet: Any, masks: Mapping[str, np.ndarray], cells: tuple[int, int]) -> Iterator[None]:
    """While it lasts, each named adapter acts by its mask only; the others everywhere.

    Args:
        masks: adapter name (peft's) to float32 (H, W), 0 to 1. cells: (h, w) of the latents.

    Raises:
        UserError: one of them is a DoRA, whose effect on a layer is no sum.
    """
    levels = len(unet.config.block_out_channels)
    grids = {name: Grids(mask, cells, levels) for name, mask in masks.items()}
    with ExitStack() as undo:
        words = {name: 1.0 for name in masks}
        for path, layer in _adapted(unet):
            for name in grids.keys() & layer.lora_B.keys():
                if name in layer.lora_variant:
                    raise UserError(
                        "A DoRA cannot be confined to a region: it changes the whole of each layer.",
                        where="compose.mode = regional",
                        cure="Take a plain LoRA (train.dora = false) for the character, or set the mode to weighted.",
                    )
                spoken = ".attn2." in path and path.rpartition(".")[2] in WORDS
                act = _heard(words, name) if spoken else _placed(grids[name])
                undo.callback(layer.lora_B[name].register_forward_hook(act).remove)
        for attention in _speaking(unet, grids):
            plain = attention.processor
            attention.processor = _MixedAttention(plain, grids, words)
            undo.callback(setattr, attention, "processor", plain)
        yield


def _adapted(unet: Any) -> Iterator[tuple[str, Any]]:
    for path, module in unet.named_modules():
        if hasattr(module, "lora_B") and hasattr(module, "base_layer"):
            yield path, module


def _speaking(unet: Any, names: Mapping[str, Any]) -> Iterator[Any]:
    """Cross-attentions whose keys or values one of the adapters changes."""
    for path, module in unet.named_modules():
        if path.endswith(".attn2") and any(
            names.keys() & getattr(getattr(module, part), "lora_B", {}).keys() for part in WORDS
        ):
            yield module


def _placed(grid: Grids) -> Any:
    def act(_: Any, __: Any, output: Tensor) -> Tensor:
        mask = grid.on(output)
        return output if mask is None else output * mask

    return act


def _heard(words: Mapping[str, float], name: str) -> Any:
    def act(_: Any, __: Any, output: Tensor) -> Tensor:
        return output * words[name]

    return act


class _MixedAttention:
    """Attention to words with and without each adapter's branch, mixed by place."""

    def __init__(self, plain: Any, grids: Mapping[str, Grids], words: dict[str, float]) -> None:
        self.plain, self.grids, self.words = plain, grids, words

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        masks = {name: grid.on(hidden_states) for name, grid in self.grids.items()}
        placed = {name: mask for name, mask in masks.items() if mask is not None}
        result = self._with(None, attn, hidden_states, *args, **kwargs)
        if not placed:
            return result
        total = torch.stack(list(placed.values())).sum(dim=0)
        most = total.clamp(min=1.0)  # where regions lie over each other they share the place
        mixed = result * (1.0 - total / most)
        for name, mask in placed.items():
            mixed = mixed + self._with(name, attn, hidden_states, *args, **kwargs) * (mask / most)
        return mixed

    def _with(self, name: str | None, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.words.update({one: float(one == name) for one in self.words})
        result: Tensor = self.plain(attn, hidden_states, *args, **kwargs)
        return result
