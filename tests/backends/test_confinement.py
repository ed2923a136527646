"""Adapters that act in their region only, and painting that holds the outside to the place alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bglora import backends
from bglora.backends.paint import regions
from bglora.backends.paint.attention import word_places
from bglora.backends.paint.confinement import confined
from bglora.backends.paint.diffusers import Layout
from bglora.errors import UserError
from tests.backends.random_lora import write_lora
from tests.training.tiny_base import tiny_base

SIZE = (64, 96)
CELLS = (8, 12)
RIGHT = regions.from_box((0.5, 0.0, 1.0, 1.0), SIZE)
HOW = ("", 3, SIZE, 2, 3.0)


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("loras")
    return {
        "character": write_lora(home / "character.safetensors", 1, convolutions=True),
        "background": write_lora(home / "background.safetensors", 2),
    }


@pytest.fixture
def painter() -> Iterator[Any]:
    torch.set_num_threads(1)
    found = backends.load("paint", "diffusers", SimpleNamespace(base=str(tiny_base())))
    yield found
    found.close()


def predicted(painter: Any, mask: np.ndarray | None, scale: float) -> torch.Tensor:
    """What the U-Net predicts with the character at a scale: (4, 8, 12)."""
    unet, generator = painter.base.unet, torch.Generator().manual_seed(3)
    noisy, words = torch.randn(1, 4, *CELLS, generator=generator), torch.randn(1, 77, 32, generator=generator)
    added = {"text_embeds": torch.randn(1, 16, generator=generator), "time_ids": torch.full((1, 6), 64.0)}
    (path,) = painter._names
    painter._scale([path], [scale])
    masks = {} if mask is None else {painter._names[path]: mask}
    with torch.no_grad(), confined(unet, masks, CELLS):
        result: torch.Tensor = unet(noisy, torch.tensor([500]), words, added_cond_kwargs=added).sample[0]
    return result


@pytest.mark.parametrize("name", ["character", "background"])
def test_a_mask_of_ones_is_the_whole_adapter_and_one_of_zeros_is_none(
    painter: Any, loras: dict[str, Path], name: str
) -> None:
    painter._hold([loras[name]])
    whole, none = predicted(painter, None, 1.0), predicted(painter, None, 0.0)
    assert (whole - none).abs().mean() > 0.05
    everywhere = predicted(painter, np.ones(SIZE, np.float32), 1.0)
    torch.testing.assert_close(everywhere, whole, rtol=1e-4, atol=1e-4)
    nowhere = predicted(painter, np.zeros(SIZE, np.float32), 1.0)
    if name == "background":  # a LoRA with convolutions has a part without a place: the time's embedding
        torch.testing.assert_close(nowhere, none, rtol=1e-4, atol=1e-4)
    assert (nowhere - none).abs().mean() < 0.3 * (whole - none).abs().mean()
    np.testing.assert_array_equal(predicted(painter, None, 1.0), whole)  # hooks and processors are gone


def test_a_masked_adapter_acts_inside_of_its_region(painter: Any, loras: dict[str, Path]) -> None:
    painter._hold([loras["background"]])
    none, half, whole = predicted(painter, None, 0.0), predicted(painter, RIGHT, 1.0), predicted(painter, None, 1.0)
    change, most = ((one - none).abs().mean(dim=0) for one in (half, whole))
    assert change[:, 8:].mean() > 0.6 * most[:, 8:].mean()
    # what is left outside comes through norms and attention between places
    assert change[:, :4].mean() < 0.7 * most[:, :4].mean() and change[:, :4].mean() < 0.6 * change[:, 8:].mean()


def test_outside_of_the_region_is_what_the_background_alone_paints(painter: Any, loras: dict[str, Path]) -> None:
    adapters = [(loras["character"], 1.0), (loras["background"], 0.7)]
    made = painter.compose("a fox, a town", *HOW, adapters, Layout("a town", RIGHT, {loras["character"]: RIGHT}))
    alone = painter.paint(["a town"], "", [3], *HOW[2:], [(loras["background"], 0.7)])[0]
    np.testing.assert_array_equal(made.place, alone)
    np.testing.assert_array_equal(made.picture[:, :48], alone[:, :48])
    assert np.abs(made.picture[:, 48:].astype(int) - alone[:, 48:]).mean() > 3


def test_the_latents_outside_are_the_places_own_bit_for_bit(
    painter: Any, loras: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bglora.training import painting

    seen: list[torch.Tensor] = []
    decode = painting._decode
    monkeypatch.setattr(
        painting, "_decode", lambda base, latent: (seen.append(latent.clone()), decode(base, latent))[1]
    )
    soft = regions.feathered(RIGHT, 0.3)
    layout = Layout("a town", soft, {loras["character"]: soft})
    painter.compose("a fox, a town", *HOW, [(loras["character"], 1.0)], layout)
    place, picture = seen
    assert torch.equal(place[:, :, :6], picture[:, :, :6]) and not torch.equal(place, picture)


def test_two_characters_act_each_in_a_region_of_their_own(painter: Any, loras: dict[str, Path]) -> None:
    left = regions.from_box((0.0, 0.0, 0.3, 1.0), SIZE)
    right = regions.from_box((0.7, 0.0, 1.0, 1.0), SIZE)
    both = np.maximum(left, right)
    masks = {loras["character"]: left, loras["background"]: right}
    adapters = [(path, 1.0) for path in masks]
    made = painter.compose("a fox, a bear", *HOW, adapters, Layout("a town", both, masks))
    swapped = dict(zip(masks, (right, left), strict=True))
    other = painter.compose("a fox, a bear", *HOW, adapters, Layout("a town", both, swapped))
    change = np.abs(made.picture.astype(int) - other.picture)
    assert change[:, :24].mean() > 1 and change[:, 72:].mean() > 1
    np.testing.assert_array_equal(made.place, other.place)


def test_a_dora_cannot_be_confined_and_leaves_the_model_as_it_was(painter: Any, tmp_path: Path) -> None:
    dora = write_lora(tmp_path / "dora.safetensors", 5, dora=True)
    before = painter.paint(["a town"], "", [1], *HOW[2:])[0]
    with pytest.raises(UserError, match="DoRA cannot be confined"):
        painter.compose("a fox", *HOW, [(dora, 1.0)], Layout("a town", RIGHT, {dora: RIGHT}))
    painter.close()
    np.testing.assert_array_equal(painter.paint(["a town"], "", [1], *HOW[2:])[0], before)


def test_words_are_found_in_the_prompt_by_their_tokens(painter: Any) -> None:
    tokenizer = painter.base.pipeline.tokenizer
    places = word_places(tokenizer, "ab, cd, ef", "cd")
    whole = tokenizer("ab, cd, ef").input_ids
    assert [whole[place] for place in places] == tokenizer("cd", add_special_tokens=False).input_ids
    assert word_places(tokenizer, "ab, cd", "xy") == []
    assert word_places(tokenizer, "ab " * 60 + "xy", "xy") == []  # cut off


def test_attention_to_words_is_a_map_of_the_latents_and_changes_no_picture(painter: Any) -> None:
    before = painter.paint(["ab, cd"], "", [3], *HOW[2:])[0]
    first, second, none = painter.attention("ab, cd", ["ab", "cd", "xy"], *HOW, [])
    assert first.shape == CELLS and none is None
    assert 0 < first.min() <= first.max() < 1 and not np.array_equal(first, second)
    np.testing.assert_array_equal(painter.paint(["ab, cd"], "", [3], *HOW[2:])[0], before)
