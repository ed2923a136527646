"""Changes single keys of project.toml. tomlkit keeps comments, order and white space as they are.

Also how files of a project are written: one writer at a time, in one step.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from bglora.errors import UserError
from bglora.settings.manifest import (
    MANIFEST,
    Mistake,
    Reading,
    SettingsError,
    check,
    field_of,
    nearest,
    read,
    sources_of,
    text_of,
    value_of,
)
from bglora.settings.presets import PRESETS, preset_values

PATIENCE = 30.0
"""Seconds to wait for another who writes."""


def set_value(root: Path, key: str, text: str) -> list[str]:
    """Writes `key = text` into project.toml if the value is right.

    Other mistakes in the file don't stand in the way, so that it can be mended key by key. Changing `project.preset`
    also moves every value that still is the old preset's to the new one's.

    Returns:
        The keys that changed.

    Raises:
        UserError: there is no such key, or the value is wrong; nothing is written.
    """
    known(key)
    value = value_of(key, text)
    path = root / MANIFEST
    before = text_of(path)
    document = tomlkit.parse(before) if _parses(before, path) else tomlkit.document()
    old_preset = document.get("project", {}).get("preset", "cpu")
    changed = _put(document, key, value)
    if key == "project.preset" and value in PRESETS and old_preset in PRESETS:
        changed += _follow_preset(document, old_preset, value)
    after = tomlkit.dumps(document)
    _, mistakes = check(sources_of(after, path, ()))
    own = [one for one in mistakes if one.key == key]
    if own:
        raise SettingsError([Mistake(one.key, f"set {key}", one.what, one.cure) for one in own])
    if after != before:
        write_text(path, after)
    return changed


def get_value(root: Path, key: str, given: tuple[str, ...] = ()) -> tuple[Any, str]:
    """The value of a key or table, as JSON values, and where it comes from."""
    known(key, tables=True)
    reading = read(root, given)
    return plain(reading, key), reading.origin(key)


def plain(reading: Reading, key: str) -> Any:
    """A key's value or a table's values, as JSON values."""
    value: Any = reading.settings
    for part in key.split("."):
        value = getattr(value, part)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else _json(value)


def toml_literal(value: Any) -> str:
    """A JSON value as it is written in project.toml, on one line."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_literal(one) for one in value) + "]"
    return str((_inline(value) if isinstance(value, dict) else tomlkit.item(value)).as_string())


def toml_lines(key: str, value: Any) -> list[str]:
    """What `get_value` gives for a key, as a person reads it: of a table a line for each key."""
    if "." not in key:
        return [f"{name} = {toml_literal(one)}" for name, one in value.items()]
    return [value if isinstance(value, str) else toml_literal(value)]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Nobody else who asks so writes this file of a project meanwhile. Entering it again in the same thread is fine.

    Raises:
        UserError: somebody else writes and does not come to an end, or the project can't be written into.
    """
    from filelock import FileLock, Timeout

    folder = path.parent.resolve() / ".bglora"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{path.stem}.lock", timeout=PATIENCE, is_singleton=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"Another process has been writing {path.name} for {PATIENCE:g} seconds.",
            where=str(path),
            cure="End it, then do this again.",
        ) from None
    except OSError as error:
        raise UserError(
            f"{path.name} can't be written: {error.strerror or error}.",
            where=str(folder),
            cure="Check that the folder is yours to write into.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step: a reader sees the old text or the new one, never half of it."""
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                os.chmod(aside, path.stat().st_mode & 0o777)
            else:
                os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise UserError(
            f"{path.name} can't be written: {error.strerror}.",
            where=str(path.parent),
            cure="Make the folder writable or free some room, then run the command again.",
        ) from None


def _parses(text: str, path: Path) -> bool:
    return bool(sources_of(text, path, ()))


def _put(document: tomlkit.TOMLDocument, key: str, value: Any) -> list[str]:
    table, _, name = key.partition(".")
    if table not in document:
        document[table] = tomlkit.table()
    inside: Any = document[table]
    if name in inside and _json(inside[name]) == _json(value):
        return []
    inside[name] = _inline(value) if isinstance(value, dict) else value
    return [key]


def _inline(values: dict[str, Any]) -> Any:
    """On one line, where the key stands: a table of its own would end the one that it is in."""
    table = tomlkit.inline_table()
    table.update(values)
    return table


def _follow_preset(document: tomlkit.TOMLDocument, old: str, new: str) -> list[str]:
    """Values that a person left as the old preset had them become the new preset's."""
    was, will = preset_values(old), preset_values(new)
    changed = []
    for table, values in will.items():
        for name, value in values.items():
            here = document.get(table, {})
            untouched = name in here and _json(here[name]) == was.get(table, {}).get(name)
            if table != "project" and untouched:
                changed += _put(document, f"{table}.{name}", value)
    return changed


def known(key: str, *, tables: bool = False) -> None:
    """Refuses a key that there is not; with `tables`, a table is a key, too."""
    from bglora.settings import Settings

    if field_of(key) is not None or (tables and key in Settings.model_fields):
        return
    near = nearest(key)
    raise UserError(
        f"There is no key {key}.",
        where=key,
        cure=f"The nearest is {near}." if near else "`bglora settings` prints every key.",
    )


def _json(value: Any) -> Any:
    """tomlkit's items and tuples as plain JSON values."""
    unwrapped = value.unwrap() if hasattr(value, "unwrap") else value
    return json.loads(json.dumps(unwrapped, default=str))
