"""What the places of a picture look at: attention to some of a prompt's words while it is being painted.

After DAAM (Tang et al. 2023): cross-attention of all heads and layers, brought to one grid and averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def word_places(tokenizer: Any, prompt: str, phrase: str) -> list[int]:
    """Where the tokens of a phrase stand in the encoded prompt; empty if it isn't in it, or is cut off."""
    whole = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
    part = tokenizer(phrase, add_special_tokens=False).input_ids
    for start in range(len(whole) - len(part) + 1):
        if part and whole[start : start + len(part)] == part:
            return list(range(start, start + len(part)))
    return []


class Attention:
    """Adds up what each latent cell looks at.

    Args:
        places: of the words in the prompt. cells: (h, w) of the latents. levels: of the U-Net.
    """

    def __init__(self, places: Sequence[int], cells: tuple[int, int], levels: int) -> None:
        self.places, self.cells, self.levels = list(places), cells, levels
        self.total = torch.zeros(cells)
        self.looks = 0

    def see(self, attn: Any, hidden_states: Tensor, words: Tensor) -> None:
        """Takes in one layer's attention of the pictures with the prompt: the second half of guided ones."""
        grid = self._grid(int(hidden_states.shape[1]))
        if grid is None:
            return
        query, key = (
            part[-1:].unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()
            for part in (attn.to_q(hidden_states), attn.to_k(words))
        )
        share = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)[0, :, :, self.places]
        seen = share.mean(dim=(0, 2)).reshape(1, 1, *grid)
        self.total += functional.interpolate(seen, self.cells, mode="bilinear", align_corners=False)[0, 0].cpu()
        self.looks += 1

    def mean(self) -> np.ndarray:
        """float32 (h, w)."""
        return (self.total / max(1, self.looks)).numpy()

    def _grid(self, tokens: int) -> tuple[int, int] | None:
        rows, columns = self.cells
        for _ in range(self.levels):
            if rows * columns == tokens:
                return rows, columns
            rows, columns = -(-rows // 2), -(-columns // 2)
        return None


class _Watched:
    def __init__(self, plain: Any, attention: Attention) -> None:
        self.plain, self.attention = plain, attention

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if encoder_hidden_states is not None:
            self.attention.see(attn, hidden_states, encoder_hidden_states)
        result: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        return result


@contextmanager
def watched(unet: Any, attention: Attention) -> Iterator[None]:
    """While it lasts, all cross-attention is added up. The pictures are the same."""
    found = [module for path, module in unet.named_modules() if path.endswith(".attn2")]
    plain = [module.processor for module in found]
    for module, processor in zip(found, plain, strict=True):
        module.processor = _Watched(processor, attention)
    try:
        yield
    finally:
        for module, processor in zip(found, plain, strict=True):
            module.processor = processor
