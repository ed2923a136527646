"""Captions to what the U-Net reads: tokens in pieces of 75, both encoders' states, the second one's pooled vector.

Longer captions are cut into pieces that are encoded one by one and joined, as sd-scripts does (strategy_sdxl.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WINDOW = 77
"""Positions of CLIP: a begin mark, 75 tokens, an end mark."""
INNER = WINDOW - 2
STRAIGHT = str.maketrans(
    {**dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"), **dict.fromkeys("\u201c\u201d\u201e\u201f", '"')}
)
"""Curly quotes are straight to CLIP: its own tokenizer mends texts with ftfy, which transformers' newer ones don't."""


@dataclass(frozen=True)
class Marks:
    """A tokenizer's special ids: begin, end, and what fills up."""

    begin: int
    end: int
    pad: int

    @classmethod
    def of(cls, tokenizer: Any) -> Marks:
        return cls(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def token_ids(tokenizer: Any, caption: str, pieces: int = 1) -> Tensor:
    """(pieces, 77): at most pieces x 75 tokens of a caption; the rest is cut off."""
    tokens = tokenizer(caption.translate(STRAIGHT), add_special_tokens=False, truncation=False, verbose=False).input_ids
    return windows(tokens, Marks.of(tokenizer), pieces)


def windows(tokens: Sequence[int], marks: Marks, pieces: int = 1) -> Tensor:
    """(pieces, 77) of token ids: each piece with a begin mark, cut or filled up to 77."""
    room = pieces * INNER
    kept = list(tokens[:room])
    whole = [marks.begin, *kept, marks.end]
    whole += [marks.pad] * (room + 2 - len(whole))
    if pieces == 1:
        return torch.tensor([whole])
    last = whole[-1]
    rows = [[marks.begin, *whole[1 + start : 1 + start + INNER], last] for start in range(0, room, INNER)]
    if marks.pad != marks.end:
        for row in rows:
            if row[-2] not in (marks.end, marks.pad):
                row[-1] = marks.end
            if row[1] == marks.pad:
                row[1] = marks.end
    return torch.tensor(rows)


def encode(first: Any, second: Any, ids_1: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of ids (b, pieces, 77) for each encoder: states of both (b, pieces x 75 + 2, c), pooled (b, p) of the second.

    States are those before the last layer, without the final norm; the pooled vector is that of the first piece.
    """
    batch, pieces = ids_1.shape[:2]
    one = first(ids_1.reshape(-1, WINDOW), output_hidden_states=True).hidden_states[-2]
    two = second(ids_2.reshape(-1, WINDOW), output_hidden_states=True)
    pooled = two.text_embeds.reshape(batch, pieces, -1)[:, 0]
    return _joined(one, batch), _joined(two.hidden_states[-2], batch), pooled


def _joined(states: Tensor, batch: int) -> Tensor:
    """(b x pieces, 77, c) to (b, pieces x 75 + 2, c): one begin mark in front, one end mark behind."""
    if len(states) == batch:
        return states
    pieces = states.reshape(batch, -1, WINDOW, states.shape[-1])
    inner = pieces[:, :, 1:-1].flatten(1, 2)
    return torch.cat([pieces[:, 0, :1], inner, pieces[:, -1, -1:]], dim=1)


def emphasized(states: Tensor, weights: Tensor) -> Tensor:
    """States (b, n, c) times the weights of their tokens (b, pieces, 77)."""
    if weights.shape[1] == 1:
        return states * weights[:, 0, :, None].to(states.dtype)
    ones = torch.ones_like(weights[:, 0, :1])
    whole = torch.cat([ones, weights[:, :, 1:-1].flatten(1), ones], dim=1)
    return states * whole[..., None].to(states.dtype)
