"""What a model is asked about a place, and what is made of its answer. No model here.

An answer is JSON, alone or among other words, or lines `field: words`. It counts if it has all four fields in English,
short enough, and names nobody; else it is asked again, in other words and with what was wrong, and after `tries` the
caller's template takes over.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bglora.backends.caption.template import FIELDS, named_character, tags

MOST_WORDS = 24
NOTHING = {"", "none", "n/a", "na", "null", "nothing", "unknown", "-"}
OPTIONAL = {"architecture"}
"""Fields of which there may be nothing to say."""

ASKED: Mapping[str, Mapping[str, str]] = {
    "place": {
        "scene_type": "the view: how near and from what height, and what stands in front",
        "architecture": "what is built there, its shapes and materials",
        "lighting": "where the light comes from, its color, the time of day",
        "atmosphere": "weather, air and mood",
    },
    "style": {
        "scene_type": "what kind of place it is, indoors or outdoors",
        "architecture": "what is built there, its shapes and materials",
        "lighting": "where the light comes from, its color, the time of day",
        "atmosphere": "what else is in the picture: plants, water, ground, sky, things",
    },
}
LEFT_OUT = {"place": "architecture", "style": "lighting"}
"""Asked, so that the words for it don't end up in another field, and left out of the caption: what is built never
changes and belongs to the trigger; the light is the style's."""

NOBODY = 'Name no person, animal or character. If nothing is built there, write "none" for architecture.'


class UnusableError(ValueError):
    """An answer from which no caption can be made; the words say why."""


@dataclass(frozen=True)
class Asked:
    """What came of a picture's questions.

    Attributes:
        fields: by name; empty if no answer could be used.
        tries: how often it was asked.
        reason: what was wrong with the last answer; empty if nothing.
    """

    fields: Mapping[str, str]
    tries: int
    reason: str = ""


def question(mode: str, attempt: int, reason: str = "") -> str:
    """The words of the first, second or third question about a picture.

    Args:
        mode: `place` or `style`.
        attempt: 0, 1, 2.
        reason: what was wrong with the answer before.
    """
    asked = ASKED[mode]
    said = f" Your last answer could not be used: {reason}." if reason else ""
    if attempt == 0:
        listed = "\n".join(f'"{name}": {meaning}' for name, meaning in asked.items())
        return (
            "Describe this empty place. Answer in English with one JSON object and nothing else. "
            f"It has these four keys, each with a phrase of 3 to 10 words:\n{listed}\n{NOBODY}{said}"
        )
    if attempt == 1:
        listed = "\n".join(f"{name}: <{meaning}>" for name, meaning in asked.items())
        return (
            f"Look at the place in this picture.{said} Answer in English with exactly these four lines, "
            f"a short phrase in place of each pair of brackets, and nothing else:\n{listed}\n{NOBODY}"
        )
    listed = ", ".join(f'"{name}": "..."' for name in asked)
    meanings = "; ".join(f"{name} is {meaning}" for name, meaning in asked.items())
    return (
        f"Replace the dots by short English phrases about this picture and answer with the result alone: {{{listed}}}. "
        f"Here {meanings}. {NOBODY}{said}"
    )


def ask_all(
    count: int,
    mode: str,
    tries: int,
    answer: Callable[[Sequence[int], Sequence[str]], Sequence[str]],
    names: Sequence[str] = (),
) -> list[Asked]:
    """Asks about each picture until its answer can be used, at most `tries` times.

    Args:
        count: how many pictures.
        answer: takes pictures, by number, and a question for each; gives the answers.
        names: of the film's characters.
    """
    made = [Asked({}, 0) for _ in range(count)]
    for attempt in range(tries):
        open_ = [at for at, one in enumerate(made) if not one.fields]
        if not open_:
            break
        said = answer(open_, [question(mode, attempt, made[at].reason) for at in open_])
        for at, words in zip(open_, said, strict=True):
            try:
                made[at] = Asked(read(words, names), attempt + 1)
            except UnusableError as error:
                made[at] = Asked({}, attempt + 1, str(error))
    return made


def read(answer: str, names: Sequence[str] = ()) -> dict[str, str]:
    """The four fields of an answer, each on one line.

    Raises:
        UnusableError: what is wrong, in words.
    """
    found = _json(answer)
    if not found and "{" in answer:
        raise UnusableError("its JSON is broken, or cut off")
    found = found or _lines(answer)
    if not found:
        raise UnusableError("it has none of the four fields")
    fields = {}
    for name in FIELDS:
        if name not in found:
            raise UnusableError(f"it has no {name}")
        fields[name] = _clean(name, found[name])
    named = named_character([tag for words in fields.values() for tag in tags(words)], names)
    if named:
        raise UnusableError(f"it names a character, {named!r}, where nobody is")
    return fields


def _json(answer: str) -> dict[str, Any]:
    """The first JSON object in an answer that has one of the fields."""
    reader = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", answer)):
        try:
            value, _ = reader.raw_decode(answer, start)
        except ValueError:
            continue
        fields = {_key(name): words for name, words in value.items()}
        if set(fields) & set(FIELDS):
            return fields
    return {}


def _lines(answer: str) -> dict[str, Any]:
    """Lines `field: words`; bold print, list marks and quotes around the field are no matter."""
    found: dict[str, Any] = {}
    for line in answer.splitlines():
        name, colon, words = line.partition(":")
        if colon and _key(name) in FIELDS:
            found.setdefault(_key(name), words.strip().strip("*,").strip())
    return found


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", re.sub(r"^[\d.)\s]+|[^\w\s-]", "", name).strip().casefold()).strip("_")


def _clean(name: str, value: Any) -> str:
    """A field as it goes into a caption."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise UnusableError(f"its {name} is no text")
    words = re.sub(r"\s+", " ", ", ".join(parts)).strip(" \"'<>.;")
    if words.casefold() in NOTHING or set(words) == {"."}:
        if name in OPTIONAL:
            return ""
        raise UnusableError(f"its {name} is empty")
    if any(letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN") for letter in words):
        raise UnusableError(f"its {name} is not in English")
    if len(words.split()) > MOST_WORDS:
        raise UnusableError(f"its {name} has {len(words.split())} words")
    plain = [_small(tag.strip(" .;")) for tag in re.split(r"[,;]|\. ", words)]
    return ", ".join(tag for tag in plain if tag and not re.match(r"(no|without)\b", tag, re.IGNORECASE)) or _only(name)


def _only(name: str) -> str:
    if name in OPTIONAL:
        return ""
    raise UnusableError(f"its {name} says only what is not there")


def _small(tag: str) -> str:
    """A sentence's capital letter is none in a tag; a word in capitals stays."""
    return tag[0].lower() + tag[1:] if len(tag) > 1 and not tag[1].isupper() else tag
