"""Older project folders open for ever: numbered steps from each format to the next."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bglora.errors import UserError

FORMAT = 1
MANIFEST = "project.toml"

STEPS: dict[int, Callable[[Path], None]] = {}
"""Format to the function that takes a project folder from it to the next. Format 1 is the first."""


def format_of(root: Path) -> int:
    """The format that project.toml names; 1 where it names none or can't be read (its own check tells that better)."""
    try:
        values: dict[str, Any] = tomllib.loads((root / MANIFEST).read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError):
        return FORMAT
    table = values.get("project")
    number = table.get("format", FORMAT) if isinstance(table, dict) else FORMAT
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 1 else FORMAT


def refuse_newer(root: Path) -> None:
    """Stops before a project of a newer bglora is touched."""
    number = format_of(root)
    if number > FORMAT:
        raise UserError(
            f"This project has format {number}; this bglora knows formats up to {FORMAT}.",
            where=f"{root / MANIFEST}: project.format",
            cure="Use the bglora that made it, or a newer one: pip install --upgrade bglora",
        )


def migrate(root: Path) -> list[int]:
    """Takes a project folder to the present format, step by step. Returns the formats that it went through.

    Raises:
        UserError: the project is of a newer format.
    """
    refuse_newer(root)
    done = []
    while (number := format_of(root)) < FORMAT:
        STEPS[number](root)
        done.append(number)
    return done
