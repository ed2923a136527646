"""Weights of words in captions, as A1111 writes them and sd-scripts trains them: (word:1.3), (word), [word].

The grammar is that of A1111's prompts: round brackets multiply by 1.1 or by the number behind the colon, square ones
divide by 1.1, a backslash takes a bracket literally; brackets may be nested, and one that is never closed reaches to
the end.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from bglora.training.text import INNER, STRAIGHT, Marks, windows

STRONGER, WEAKER = 1.1, 1 / 1.1
PIECES = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")


def parts(caption: str) -> list[tuple[str, float]]:
    """The caption's pieces with their weights, neighbors of one weight joined."""
    found: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> bool:
        if not opened[bracket]:
            return False
        first = opened[bracket].pop()
        found[first:] = [(text, weight * factor) for text, weight in found[first:]]
        return True

    for match in PIECES.finditer(caption):
        text, number = match.group(0), match.group(1)
        if text.startswith("\\") and len(text) > 1:
            found.append((text[1:], 1.0))
        elif text in opened:
            opened[text].append(len(found))
        elif number is not None and close("(", float(number)):
            pass
        elif not (text == ")" and close("(", STRONGER)) and not (text == "]" and close("[", WEAKER)):
            found.append((text, 1.0))
    for bracket, factor in (("(", STRONGER), ("[", WEAKER)):
        while close(bracket, factor):
            pass
    return _joined(found) or [("", 1.0)]


def _joined(found: list[tuple[str, float]]) -> list[tuple[str, float]]:
    whole: list[tuple[str, float]] = []
    for text, weight in found:
        if whole and whole[-1][1] == weight:
            whole[-1] = whole[-1][0] + text, weight
        else:
            whole.append((text, weight))
    return whole


def plain(caption: str) -> str:
    """The caption without its weights, as a painter that knows none is to read it."""
    return "".join(text for text, _ in parts(caption))


def weighted_ids(tokenizer: Any, caption: str, pieces: int = 1) -> tuple[Tensor, Tensor]:
    """Token ids (pieces, 77) and their weights, float32 of the same shape; begin, end and filling weigh 1."""
    tokens: list[int] = []
    weights: list[float] = []
    for text, weight in parts(caption):
        own = tokenizer(text.translate(STRAIGHT), add_special_tokens=False, truncation=False, verbose=False).input_ids
        tokens += own
        weights += [weight] * len(own)
    rows = torch.ones(pieces, INNER + 2)
    kept = torch.ones(pieces * INNER)
    length = min(len(weights), len(kept))
    kept[:length] = torch.tensor(weights[:length])
    rows[:, 1:-1] = kept.view(pieces, INNER)
    return windows(tokens, Marks.of(tokenizer), pieces), rows
