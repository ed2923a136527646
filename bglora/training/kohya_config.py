"""Configurations of kohya's sd-scripts (sdxl_train_network.py): rendered from a template, and checked.

sd-scripts takes a --config_file as it comes: a misspelt key trains with the default, a number in quotes fails an hour
later, an empty dataset ends with exit code 0. So everything is checked here, before it starts: every key and type
against the table of its 196 options (`kohya_arguments.json`, sd-scripts 0.10.1), and the settings that undo each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bglora.errors import UserError
from bglora.training.kohya_conflicts import conflicts
from bglora.training.kohya_lists import list_problems

ARGUMENTS = Path(__file__).with_name("kohya_arguments.json")
NOT_HERE = ("config_file", "output_config")
"""Options that make no sense inside the file itself."""
TABLE = "bglora"
"""Table that keys go to which the template lacks; sd-scripts doesn't mind names of tables."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a configuration.

    Attributes:
        key: the option.
        what: what happens.
        cure: the edit that mends it.
        grade: `error` (refused, or trains something else), `notice` (has no effect, or surprises).
    """

    key: str
    what: str
    cure: str
    grade: Literal["error", "notice"] = "error"

    def __str__(self) -> str:
        return f"{self.key}: {self.what} {self.cure}".rstrip()


@cache
def arguments() -> Mapping[str, tuple[str, tuple[Any, ...]]]:
    """Option to its type (`str`, `int`, `float`, `bool`, `int_or_float`, `path`; with `*` a list) and choices."""
    table = json.loads(ARGUMENTS.read_text("utf-8"))
    return {name: (entry[0], tuple(entry[1]) if len(entry) > 1 else ()) for name, entry in table.items()}


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template with other values: keys stay where they stand, with their comments; new ones are added at the end.

    Args:
        template: TOML text.
        values: option to value; None takes the option out.
    """
    import tomlkit

    document = tomlkit.parse(template)
    tables = [table for table in document.values() if isinstance(table, dict)]
    for key, value in values.items():
        homes = [table for table in (document, *tables) if key in table]
        for home in homes:
            if value is None:
                del home[key]
            else:
                home[key] = value
        if not homes and value is not None:
            if TABLE not in document:
                document[TABLE] = tomlkit.table()
            document[TABLE][key] = value  # type: ignore[index]
    return tomlkit.dumps(document)


def checked(text: str, where: str, *, known: Collection[str] = ()) -> list[str]:
    """What surprises in a configuration. `known`: see `check`.

    Raises:
        UserError: it would not train what it says.
    """
    problems = check(text, known=known)
    errors = [str(problem) for problem in problems if problem.grade == "error"]
    if errors:
        raise UserError(
            f"sd-scripts would not train what this configuration says. {' '.join(errors)}",
            where=where,
            cure="Mend these keys in a copy of the template in templates/kohya/ of the project.",
        )
    return [str(problem) for problem in problems if problem.grade == "notice"]


def check(text: str, *, known: Collection[str] = ()) -> list[Problem]:
    """Everything that is wrong with a configuration, errors first; empty if it trains what it says.

    Args:
        known: options that the sd-scripts at hand takes, which may be newer than the table.
    """
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [Problem("the file", f"is no TOML: {error}.", "Mend that line.")]
    flat, found = flattened(document)
    for key, value in flat.items():
        if key in known and key not in arguments():
            found.append(Problem(key, "is newer than the table here; its type is not checked.", "", "notice"))
        else:
            found += _check_key(key, value)
    found += [Problem(*row) for row in (*list_problems(flat), *conflicts(flat))]
    return sorted(found, key=lambda one: one.grade)


def flattened(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """All options in one name space, as sd-scripts sees them."""
    flat: dict[str, Any] = {}
    found: list[Problem] = []
    for name, value in document.items():
        for key, one in value.items() if isinstance(value, dict) else ((name, value),):
            if key in flat:
                found.append(Problem(key, "stands twice; the later one counts.", "Delete one of them."))
            if isinstance(one, dict):
                cure = 'Write a list of texts: ["conv_dim=4"].' if key in arguments() else "Move its keys one table up."
                found.append(Problem(key, "is a table inside a table, which is not read as options.", cure))
                continue
            flat[key] = one
    return flat, found


def _check_key(key: str, value: Any) -> Iterator[Problem]:
    known = arguments()
    if key not in known:
        near = get_close_matches(key.replace("-", "_"), known, 1)
        cure = f"The nearest is {near[0]}." if near else "Delete it."
        yield Problem(key, "is no option of sdxl_train_network.py; it would be ignored silently.", cure)
        return
    if key in NOT_HERE:
        yield Problem(key, "belongs on the command line, not in the file.", "Delete it.")
        return
    kind, choices = known[key]
    wrong = _type_problem(kind, value)
    if wrong:
        yield Problem(key, f"is {_shown(value)}, but {wrong} is needed; it is not converted.", _as_needed(kind, value))
    elif choices and value not in choices:
        yield Problem(key, f"is {_shown(value)}.", f"It can be {', '.join(map(str, choices))}.")
    elif kind == "float" and isinstance(value, int):
        where = "The alpha tensor would be written as a whole number." if key == "network_alpha" else "It stays whole."
        yield Problem(key, f"is a whole number. {where}", f"Write {float(value)}.", "notice")
    elif key == "resolution" and not re.fullmatch(r"\d+(,\d+)?", value):
        yield Problem(key, f"is {_shown(value)}.", 'Write "1024,1024" (width, height) or "1024".')


def _type_problem(kind: str, value: Any) -> str:
    """What is needed instead, or empty."""
    if kind.endswith("*"):
        return _list_problem(kind[:-1], value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "bool": isinstance(value, bool),
        "int": number and isinstance(value, int),
        "float": number,
        "int_or_float": number,
        "str": isinstance(value, str),
        "path": isinstance(value, str),
    }[kind]
    words = {"bool": "true or false", "int": "a whole number", "float": "a number", "int_or_float": "a number"}
    return "" if right else words.get(kind, "a text")


def _list_problem(kind: str, value: Any) -> str:
    entries = value if isinstance(value, list) else [value] if kind == "float" else None
    right = entries is not None and all(not _type_problem(kind, entry) for entry in entries)
    return "" if right else "a list of texts" if kind == "str" else "a list of numbers"


def _as_needed(kind: str, value: Any) -> str:
    if kind == "str" and isinstance(value, int | list):
        numbers = value if isinstance(value, list) else [value]
        return f'Write "{",".join(map(str, numbers))}".'
    if kind == "str*" and isinstance(value, str):
        return f'Write ["{value}"].'
    if kind in ("int", "float", "int_or_float") and isinstance(value, str):
        return f"Write {value} without quotes."
    return "Write it so."


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
