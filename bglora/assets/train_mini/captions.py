"""The words a picture is trained with: its own caption, or the same facts in the order that the product writes."""

from __future__ import annotations

import numpy as np

from bglora.assets.train_mini.stills import Still

EMPTY_WORDS = "no characters, empty scene"
GENERAL_WORDS = ("person", "people", "character", "animal", "creature")
"""What a negative prompt against characters says: without pictures under these words it would say nothing to `mini`."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def choose_caption(still: Still, rng: np.random.Generator) -> str:
    """One caption for one training example; empty in a tenth of cases, for classifier-free guidance."""
    if rng.random() < 0.1:
        return ""
    if still.character is not None and rng.random() < 0.08:
        return ", ".join(rng.permutation(GENERAL_WORDS)[: int(rng.integers(2, 6))])
    words = still.caption if rng.random() < 0.4 else _composed(still, rng)
    if rng.random() < 0.2:  # a made-up word in front must not change the picture: it is the place of a LoRA's trigger
        words = f"{_made_up_word(rng)}, {words}"
    return words


def _composed(still: Still, rng: np.random.Generator) -> str:
    details = still.details if rng.random() < 0.9 else still.place
    tags = [details]
    if still.place == "sea floor" and "under water" not in details and rng.random() < 0.5:
        tags.append("under water")
    if rng.random() < 0.93:
        tags.append(still.lighting)
    if rng.random() < 0.15:
        rng.shuffle(tags)
    if rng.random() < 0.7:
        tags.insert(
            0, "3d animated background" if still.character is None or rng.random() < 0.5 else "3d animated scene"
        )
    if still.character is None:
        if rng.random() < 0.9:
            tags.append(EMPTY_WORDS)
    else:
        choice = rng.random()
        if choice < 0.2:
            tags.append("with a character")
        elif choice < 0.3:
            tags.extend(rng.permutation(GENERAL_WORDS)[: int(rng.integers(1, 4))])
        elif choice < 0.6:
            tags.append(f"with a character, {still.character}")
        else:
            tags.insert(1, still.character)
    return ", ".join(tags)


def _made_up_word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(LETTERS), size=int(rng.integers(4, 10))))
