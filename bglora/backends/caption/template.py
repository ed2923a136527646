"""The embedded `caption` backend: a template filled with what can be measured. It never claims what it can't see.

    {trigger}, {prefix}, {scene_type}, {architecture}, {lighting}, {atmosphere}, no characters, empty scene

In the mode `place`, view, light and colors are named; what is built there never changes and is left to the trigger. In
the mode `style`, what is there is named (view, shapes, colors above and below), and light and tone are left out: they
are the style's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bglora.errors import UserError

IDENTITY = "template/1"

FIELDS = ("scene_type", "architecture", "lighting", "atmosphere")

WORDS = """
person persons people man men woman women boy boys girl girls child children kid kids baby human humans figure
character characters creature creatures monster animal animals dog dogs cat cats horse horses bird birds fish bunny
rabbit bear dragon robot hero heroine crowd pedestrian pedestrians villager villagers 1girl 1boy 2girls 2boys solo
"""
CHARACTERS = frozenset(WORDS.split())
"""Words that say that somebody is there."""


@dataclass(frozen=True)
class Caption:
    """A caption.

    Attributes:
        fields: by name; empty ones are left out of the text.
        text: the whole of it, on one line.
        said: why another than the chosen captioner wrote it; empty if none did.
    """

    fields: Mapping[str, str]
    text: str
    said: str = ""


def create(settings: Any) -> Template:
    """The backend; `settings` is the table `caption`."""
    return Template(settings.prefix, settings.mode, settings.empty_words, tuple(settings.character_names))


@dataclass(frozen=True)
class Template:
    """The `caption` role without a model."""

    prefix: str
    mode: str
    empty_words: str
    character_names: tuple[str, ...] = ()

    def caption(self, pictures: Iterable[np.ndarray], trigger: str, title: str) -> list[Caption]:
        """Captions for the plates of one scene.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes.
            trigger: the first tag of each caption.
            title: the scene's name; only captioners that look at it need it.

        Raises:
            UserError: the prefix or the words for emptiness name a character.
        """
        from bglora.vision import looks

        found = []
        for picture in pictures:
            look = looks.measure(picture)
            fields = dict.fromkeys(FIELDS, "") | {"scene_type": looks.view_words(look)}
            if self.mode == "style":
                fields |= {"architecture": looks.shape_words(look), "atmosphere": looks.content_words(look)}
            else:
                fields |= {"lighting": looks.light_words(look), "atmosphere": looks.color_words(look)}
            found.append(Caption(fields, self.text(trigger, fields)))
        return found

    def text(self, trigger: str, fields: Mapping[str, str]) -> str:
        """The whole caption of these fields.

        Raises:
            UserError: it would name a character.
        """
        body = tags(self.prefix, *(fields.get(name, "") for name in FIELDS))
        word = named_character(body, self.character_names)
        if word:
            raise UserError(
                f"A caption would name a character: {word!r}. The background LoRA would learn to paint one.",
                where=f"caption.prefix = {self.prefix!r}",
                cure='bglora set caption.prefix "background"',
            )
        return ", ".join(tags(trigger, *body, self.empty_words))


def tags(*parts: str) -> list[str]:
    """The comma-separated tags of the parts, in order, without empty ones."""
    return [tag.strip() for part in parts for tag in part.split(",") if tag.strip()]


def named_character(body: Sequence[str], names: Sequence[str] = ()) -> str:
    """The first word in the tags that says that somebody is there, or empty.

    A tag that denies it ("no characters", "nobody", "without people", "empty scene") is no such word.
    """
    own = {name.casefold() for name in names if name.strip()}
    for tag in body:
        words = re.findall(r"[^\W_]+", tag.casefold())
        if words and words[0] in ("no", "without", "empty"):
            continue
        hit = next((word for word in words if word in CHARACTERS or word in own), "")
        hit = hit or next((name for name in own if " " in name and name in tag.casefold()), "")
        if hit:
            return hit
    return ""
