"""Embeddings of captions are those that diffusers makes, and carry gradients only where the encoders learn."""

from __future__ import annotations

import pytest
import torch

from bglora.training.base import MINI, load_base
from bglora.training.caption_book import CaptionBook
from tests.training.tiny_base import tiny_base

CAPTIONS = ("trig, background, old town", "", "wow! it is \u201cquoted\u201d", "far too long, " * 60)


@pytest.mark.parametrize("name", [MINI, "tiny"])
def test_captions_are_embedded_as_diffusers_embeds_prompts(name: str) -> None:
    base = load_base(str(tiny_base()) if name == "tiny" else name)
    book = CaptionBook(base, trained=False)
    states, pooled = book.embed(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        straight = caption.replace("\u201c", '"').replace("\u201d", '"')
        expected, _, summary, _ = base.pipeline.encode_prompt(straight, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(states[row], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled[row], summary[0], atol=1e-5, rtol=1e-5)


def test_a_caption_is_encoded_once_unless_the_encoders_learn() -> None:
    base = load_base(str(tiny_base()))
    calls: list[int] = []
    hook = base.encoders[0].register_forward_hook(lambda *_: calls.append(1))
    for trained, passes in ((False, 2), (True, 4)):
        calls.clear()
        book = CaptionBook(base, trained)
        book.prepare(CAPTIONS[:2])
        for _ in range(2):
            with torch.no_grad():
                book.embed(CAPTIONS[:2])
        assert len(calls) == passes
    hook.remove()


def test_embeddings_of_frozen_encoders_carry_no_gradient() -> None:
    states, pooled = CaptionBook(load_base(str(tiny_base())), trained=False).embed(CAPTIONS[:1])
    assert not states.requires_grad and not pooled.requires_grad and states.shape[:2] == (1, 77)
