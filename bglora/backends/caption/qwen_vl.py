"""Qwen2-VL, 2.5 or 3 as `caption` backend: a model that looks at the pictures.

It is asked for four fields (see `answers`). A picture whose answers can't be used gets the template's caption, and the
caption says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bglora.backends import Needs, weights
from bglora.backends.batches import batches
from bglora.backends.caption import template
from bglora.backends.caption.answers import LEFT_OUT, Asked, ask_all
from bglora.backends.caption.template import Caption, Template
from bglora.backends.sizes import tensor_bytes
from bglora.nets.published import SHARE

if TYPE_CHECKING:
    from bglora.nets.qwen_vl import QwenVL

VERSION = "qwen_vl/1"
SETTING = "caption.qwen_vl"
USUAL_BYTES = 16_590_000_000
"""Of Qwen2-VL-7B, where nothing tells how large a model is."""


def identity(settings: Any) -> str:
    """Weights and everything that changes an answer; and the template's, which takes over."""
    own = f"{VERSION} {weights.identity(hub_name(settings.qwen_vl))}"
    return f"{own} {settings.quantize} {settings.tries} {settings.max_tokens} {template.IDENTITY}"


def hub_name(name: str) -> str:
    """`Qwen2-VL-7B-Instruct` is Qwen's on the hub; everything else stays as it is."""
    plain = name.startswith("Qwen") and "/" not in name and name not in weights.known()
    return f"Qwen/{name}" if plain else name


def names_of_weights(settings: Any) -> dict[str, str]:
    """The weights that it reads, by the key that names them."""
    return {"qwen_vl": hub_name(settings.qwen_vl)}


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`: the weights, in bfloat16 or fewer bits, and what `batch` pictures take at work."""
    size = (tensor_bytes(hub_name(settings.qwen_vl)) or USUAL_BYTES) / 2**30 * SHARE[settings.quantize]
    return Needs(round(size + 2.5, 1), round(size * 1.1 + 0.5 + 0.2 * settings.batch, 1))


def create(settings: Any) -> Captioner:
    """The backend, loaded; `settings` is the table `caption`.

    Raises:
        MachineError: no weights here, a package is missing, or memory is short.
        UserError: a damaged folder, or one of another model.
    """
    from bglora.nets.qwen_vl import QwenVL

    folder = weights.find(hub_name(settings.qwen_vl), setting=SETTING)
    model = QwenVL(folder, settings.quantize, settings.max_tokens)
    return Captioner(model, template.create(settings), settings.tries, settings.batch)


class Captioner:
    """The `caption` role by a vision and language model."""

    def __init__(self, model: QwenVL, fallback: Template, tries: int, batch: int) -> None:
        self.model, self.template, self.tries, self.batch = model, fallback, tries, batch

    def caption(self, pictures: Iterable[np.ndarray], trigger: str, title: str) -> list[Caption]:
        """Captions for the plates of one scene.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes; as many as a batch are held at once.
            trigger: the first tag of each caption.
            title: the scene's name; not told to the model, which shall say what it sees.

        Raises:
            UserError: the prefix or the words for emptiness name a character.
            MachineError: not even one picture fits into memory.
        """
        self.template.text(trigger, {})
        made: list[Caption] = []
        for batch in batches(pictures, self.batch):
            asked = ask_all(
                len(batch), self.template.mode, self.tries, self._answers(batch), self.template.character_names
            )
            made += [self._caption(picture, one, trigger, title) for picture, one in zip(batch, asked, strict=True)]
        return made

    def _caption(self, picture: np.ndarray, asked: Asked, trigger: str, title: str) -> Caption:
        if not asked.fields:
            (made,) = self.template.caption([picture], trigger, title)
            times = "once" if asked.tries == 1 else f"{asked.tries} times"
            return Caption(made.fields, made.text, f"by the template: asked {times}, and {asked.reason}")
        fields = {**asked.fields, LEFT_OUT[self.template.mode]: ""}
        return Caption(fields, self.template.text(trigger, fields))

    def _answers(self, batch: Sequence[np.ndarray]) -> Any:
        from bglora.nets.device import in_halves
        from bglora.nets.qwen_vl import SMALLER

        def answers(numbers: Sequence[int], questions: Sequence[str]) -> list[str]:
            return in_halves(
                lambda part: self.model.answer([batch[at] for at, _ in part], [words for _, words in part]),
                list(zip(numbers, questions, strict=True)),
                self.batch,
                where="caption.backend = qwen_vl",
                cure=SMALLER,
            )

        return answers
