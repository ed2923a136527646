"""What captions are to the U-Net: embeddings, each computed once unless the text encoders learn as well."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from bglora.training import emphasis, text
from bglora.training.base import Base
from bglora.training.store import Store
from bglora.training.transfer import sent

KEPT = 4096
"""Embeddings kept at most: SDXL's are 0.3 MB each in bf16. Captions that vary come in more forms than that."""


class CaptionBook:
    """Embeddings of captions by both text encoders of a base."""

    def __init__(self, base: Base, trained: bool, weighted: bool = False, store: Store | None = None) -> None:
        """
        Args:
            trained: the encoders learn, so a caption is encoded whenever it is shown, with gradients.
            weighted: captions weigh their words, `(word:1.2)`; see `emphasis`.
            store: has embeddings of earlier trainings; of captions that stay as they are alone.
        """
        self.base, self.trained, self.weighted, self.store = base, trained, weighted, store or Store()
        self._known: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def prepare(self, captions: Iterable[str]) -> None:
        """Encodes distinct captions ahead of their use."""
        if not self.trained:
            for caption in sorted(set(captions)):
                kept = self.store.get(("caption", self.weighted, caption), partial(self._encode_one, caption))
                self._keep(caption, kept["states"], kept["pooled"])
            self.store.trim()

    def embed(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States (b, 77, c) of both encoders joined, and pooled vectors (b, p) of the second, on the base's device."""
        if self.trained and torch.is_grad_enabled():
            return self._encode(captions)
        found = [self._look_up(caption) for caption in captions]
        states, pooled = (sent(torch.stack(parts), self.base.device) for parts in zip(*found, strict=True))
        return states, pooled

    @torch.no_grad()
    def _look_up(self, caption: str) -> tuple[Tensor, Tensor]:
        if self.trained:
            states, pooled = self._encode([caption])
            return states[0], pooled[0]
        if caption not in self._known:
            made = self._encode_one(caption)
            self._keep(caption, made["states"], made["pooled"])
        self._known.move_to_end(caption)
        return self._known[caption]

    @torch.no_grad()
    def _encode_one(self, caption: str) -> dict[str, Tensor]:
        states, pooled = self._encode([caption])
        return {"states": states[0].cpu(), "pooled": pooled[0].cpu()}

    def _keep(self, caption: str, states: Tensor, pooled: Tensor) -> None:
        self._known[caption] = states, pooled
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def _encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        pipeline, device = self.base.pipeline, self.base.device
        tokenizers = pipeline.tokenizer, pipeline.tokenizer_2
        if self.weighted:
            pairs = [[emphasis.weighted_ids(one, caption) for caption in captions] for one in tokenizers]
            (ids_1, weights_1), (ids_2, weights_2) = (
                tuple(sent(torch.stack(part), device) for part in zip(*own, strict=True)) for own in pairs
            )
            first, second, pooled = text.encode(*self.base.encoders, ids_1, ids_2)
            states = [text.emphasized(first, weights_1), text.emphasized(second, weights_2)]
            return torch.cat(states, dim=2), pooled
        ids_1, ids_2 = (
            sent(torch.stack([text.token_ids(tokenizer, caption) for caption in captions]), device)
            for tokenizer in tokenizers
        )
        first, second, pooled = text.encode(*self.base.encoders, ids_1, ids_2)
        return torch.cat([first, second], dim=2), pooled
