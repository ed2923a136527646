"""Decisions as they are written: which of them replace or undo which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any

from bglora.decisions import EMPTIED, PATTERN, SHAPES


class Draft:
    """A file's decisions while others take their place among them; found by what they are about, however many.

    Args:
        tables: tomlkit's, in the order of deciding.
    """

    def __init__(self, tables: Iterable[Any]) -> None:
        self.tables: dict[int, Any] = {}
        self._plain: dict[int, dict[str, Any]] = {}
        self._about: dict[tuple[str, Any], set[int]] = {}
        self._patterns: set[int] = set()  # of drops
        self._next = 0
        for table in tables:
            self._append(table, dict(table.unwrap()))

    def place(self, kind: str, values: dict[str, Any]) -> None:
        """Puts a decision at the end; what it replaces goes."""
        import tomlkit

        emptied = kind in EMPTIED and not any(values.get(key) for key in EMPTIED[kind])
        there = sorted(self._about.get((kind, _hashable(values[kind])), ()), reverse=True)
        same = [number for number in there if self._plain[number].get("stage") == values.get("stage")]
        undone = list(self._about.get(("drop", values[kind]), ())) if kind == "keep" else []
        for number in same:
            if kind == "retry":
                values["times"] = int(self._plain[number].get("times", 1)) + 1
            if emptied or kind not in ("split", "prompt"):
                self._remove(number)
        for number in undone:
            self._remove(number)
        if emptied or (undone and not same and not self._dropped(values[kind])):
            return
        table = tomlkit.table()
        table.trivia.indent = "\n" if self.tables else ""
        for key, value in values.items():
            table.add(key, value)
        self._append(table, values)

    def _dropped(self, name: str) -> bool:
        """Whether a drop speaks of pictures that a name or pattern may be about."""
        drops = self._plain if PATTERN.search(name) else self._patterns
        return any(_meet(self._plain[number].get("drop"), name) for number in drops)

    def _append(self, table: Any, values: dict[str, Any]) -> None:
        number = self._next
        self._next += 1
        self.tables[number], self._plain[number] = table, values
        for key in _keys(values):
            self._about.setdefault(key, set()).add(number)
        if PATTERN.search(str(values.get("drop", ""))):
            self._patterns.add(number)

    def _remove(self, number: int) -> None:
        for key in _keys(self._plain.pop(number)):
            self._about[key].discard(number)
        self._patterns.discard(number)
        del self.tables[number]


def _keys(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return [(kind, _hashable(values[kind])) for kind in SHAPES if kind in values]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _meet(one: str | None, other: str) -> bool:
    """Whether two names or patterns may speak of the same picture; two patterns always may."""
    if one is None or one == other:
        return one is not None
    if PATTERN.search(one) and PATTERN.search(other):
        return True
    return re.match(translate(one), other) is not None or re.match(translate(other), one) is not None
