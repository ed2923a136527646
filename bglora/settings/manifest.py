"""Reads the settings of a project: `--set` > environment > project.toml > preset.

All mistakes are told at once, each with its line in project.toml (or the option or variable that it stands in) and the
nearest right key.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from bglora.errors import UserError
from bglora.settings import Settings
from bglora.settings.presets import PRESETS, preset_values

MANIFEST = "project.toml"
PREFIX, DELIMITER = "BGLORA_", "__"

Values = dict[str, Any]


@dataclass(frozen=True)
class Mistake:
    """One wrong key or value: where it stands, and what would be right."""

    key: str
    where: str
    what: str
    cure: str


class SettingsError(UserError):
    """One or more wrong settings."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        if len(mistakes) == 1:
            only = mistakes[0]
            super().__init__(only.what, where=only.where, cure=only.cure)
            return
        lines = "\n".join(f"{one.where}: {one.what} {one.cure}" for one in mistakes)
        super().__init__(
            f"{len(mistakes)} settings are wrong.", where=lines, cure="Mend them; `bglora settings` prints every key."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return SettingsError, (self.mistakes,)


@dataclass(frozen=True)
class Source:
    """Values with a name for each: where a person finds them."""

    values: Values
    places: Mapping[str, str]
    kind: str

    def place(self, key: str) -> str | None:
        """Where `key` or the part of it that is given here stands."""
        if not _has(self.values, key):
            return None
        inside = (place for name, place in self.places.items() if name.startswith(f"{key}."))
        return self.places.get(key) or self.places.get(key.partition(".")[0]) or next(inside, self.kind)


@dataclass(frozen=True)
class Reading:
    """Settings and where each value comes from."""

    settings: Settings
    sources: tuple[Source, ...]

    def origin(self, key: str) -> str:
        """`--set inpaint.steps=8`, `BGLORA_INPAINT__STEPS`, `project.toml:14`, `preset cpu` or `default`."""
        return next((place for source in self.sources if (place := source.place(key))), "default")


def load(root: Path, given: Iterable[str] = ()) -> Settings:
    """The settings of the project in `root`. `given` are `KEY=VALUE` of `--set`.

    Raises:
        UserError: project.toml is missing, unreadable or no TOML.
        SettingsError: all wrong keys and values.
    """
    return read(root, given).settings


def read(root: Path, given: Iterable[str] = ()) -> Reading:
    """As `load`, and remembers where each value comes from."""
    path = root / MANIFEST
    sources = sources_of(text_of(path), path, given)
    settings, mistakes = check(sources)
    if settings is None or mistakes:
        raise SettingsError(mistakes)
    return Reading(settings, sources)


def text_of(path: Path) -> str:
    """The text of a manifest; a byte order mark is passed over."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path.name} is not UTF-8 text.", where=f"{path}:{line}", cure="Save the file as UTF-8 in your editor."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path.name} can't be read: {error.strerror}.",
            where=str(path),
            cure="Check that the file is there and yours.",
        ) from None


def parse(text: str, path: Path) -> Values:
    """TOML text as values; a syntax error becomes a `UserError` with its line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
        message, line = (found[1], found[2]) if found else (str(error), str(text.count("\n") + 1))
        raise UserError(
            f"{path.name} is not valid TOML: {message}.",
            where=f"{path}:{line}",
            cure="Mend that line; text values need quotes, lists need [ ].",
        ) from None


def sources_of(text: str, path: Path, given: Iterable[str]) -> tuple[Source, ...]:
    """All four sources, strongest first."""
    manifest = parse(text, path)
    strong = (from_options(given), from_environment(), Source(manifest, Lines(text, path.name), path.name))
    preset = next((name for one in strong if (name := one.values.get("project", {}).get("preset"))), "cpu")
    if preset not in PRESETS:  # told as a wrong value by the check
        preset = "cpu"
    return (*strong, Source(preset_values(preset), {}, f"preset {preset}"))


def from_options(given: Iterable[str]) -> Source:
    """`--set KEY=VALUE`, later ones win."""
    values: Values = {}
    places: dict[str, str] = {}
    for option in given:
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_0-9]+\.[A-Za-z_0-9]+", key):
            raise UserError(
                f"--set wants TABLE.KEY=VALUE, not {option!r}.",
                where=f"--set {option}",
                cure="Write it like --set inpaint.engine=patch; `bglora settings` prints every key.",
            )
        _put(values, key, value_of(key, text.strip()))
        places[key] = f"--set {option}"
    return Source(values, places, "--set")


class _Environment(EnvSettingsSource):
    """Reads lists as TOML where pydantic-settings would want JSON, so that they are written as in project.toml."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return _toml_value(value)


def from_environment() -> Source:
    """`BGLORA_INPAINT__STEPS=8`."""
    named = {name.lower(): name for name in os.environ if name.upper().startswith(PREFIX) and DELIMITER in name}
    found = _Environment(Settings)()
    values: Values = {}
    places: dict[str, str] = {}
    for lower, name in named.items():
        table, _, rest = lower.removeprefix(PREFIX.lower()).partition(DELIMITER)
        key = f"{table}.{rest}"
        value = found.get(table, {}).get(rest, os.environ[name])
        _put(values, key, value_of(key, value) if isinstance(value, str) else value)
        places[key] = name
    return Source(values, places, "environment")


def value_of(key: str, text: str) -> Any:
    """A value typed in a shell. Text needs no quotes, and lists may be written with commas: `person,animal`."""
    field = field_of(key)
    if field is not None and field.annotation is str and not text.startswith(('"', "'")):
        return text
    value = _toml_value(text)
    if field is not None and get_origin(field.annotation) is tuple and not isinstance(value, list):
        return [_toml_value(part.strip()) for part in text.split(",")] if isinstance(value, str) else [value]
    return value


def field_of(key: str) -> FieldInfo | None:
    """The field of a dotted key, None where there is none."""
    table, _, name = key.partition(".")
    found = fields().get(table)
    return found.get(name) if found else None


def fields() -> dict[str, dict[str, FieldInfo]]:
    """Every table with its fields."""
    tables: dict[str, dict[str, FieldInfo]] = {}
    for table, field in Settings.model_fields.items():
        model = field.annotation
        if model is not None and hasattr(model, "model_fields"):
            tables[table] = dict(model.model_fields)
    return tables


def check(sources: Sequence[Source]) -> tuple[Settings | None, list[Mistake]]:
    """Validates the sources laid over each other."""
    merged: Values = {}
    for source in reversed(sources):
        for table, values in source.values.items():
            both = isinstance(values, dict) and isinstance(merged.get(table), dict)
            merged[table] = {**merged[table], **values} if both else values
    try:
        return Settings.model_validate(merged), []
    except ValidationError as error:
        mistakes = [_mistake(one, sources) for one in error.errors(include_url=False)]
        return None, sorted(mistakes, key=lambda one: _natural(one.where))


def _mistake(error: Any, sources: Sequence[Source]) -> Mistake:
    key = ".".join(str(part) for part in error["loc"][:2])
    place = next((found for source in sources if (found := source.place(key))), MANIFEST)
    if error["type"] == "extra_forbidden":
        near = nearest(key)
        what = f"There is no table [{key}]." if "." not in key else f"There is no key {key}."
        if near:
            cure = f"The nearest is {near}." if "." in near else f"The nearest is [{near}]."
        else:
            cure = "Remove it; `bglora settings` prints every key."
        return Mistake(key, place, what, cure)
    wrong = re.sub(r"^(Input|Value error,) ", "", error["msg"]).strip()
    wrong = wrong.replace("should be a valid ", "should be a ").replace("a integer", "a whole number")
    field = field_of(key)
    about = field.description if field is not None and field.description else "`bglora settings` prints every key."
    value = error["input"]
    if error["type"] in ("literal_error", "value_error") and isinstance(value, str) and field is not None:
        close = difflib.get_close_matches(value, re.findall(r"'([^']*)'", error["msg"]), 1, 0.5)
        about = f"The nearest is {close[0]!r}." if close else about
    return Mistake(key, place, f"{key} = {value!r} {wrong}.", about)


def nearest(key: str) -> str | None:
    """The right key that a wrong one most resembles."""
    tables = fields()
    table, _, name = key.partition(".")
    if not name:
        return next(iter(difflib.get_close_matches(table, tables, 1, 0.6)), None)
    here = difflib.get_close_matches(name, tables.get(table, ()), 1, 0.6)
    if here:
        return f"{table}.{here[0]}"
    owners = {field: one for one, names in tables.items() for field in names}
    elsewhere = difflib.get_close_matches(name, owners, 1, 0.75)
    return f"{owners[elsewhere[0]]}.{elsewhere[0]}" if elsewhere else None


class Lines(Mapping[str, str]):
    """Where each key of a TOML text stands: `{"inpaint.steps": "project.toml:14"}`. Found when first asked for."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._found: dict[str, str] | None = None

    def _places(self) -> dict[str, str]:
        if self._found is None:
            self._found = {key: f"{self._name}:{line}" for key, line in lines_of(self._text).items()}
        return self._found

    def __getitem__(self, key: str) -> str:
        return self._places()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of each key and table.

    tomllib tells no lines. But a text cut off after a line parses exactly when no value is left open there, and what
    appears with that line is what the line defines.
    """
    found: dict[str, int] = {}
    cut, start = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        cut += line
        try:
            values = tomllib.loads(cut)
        except tomllib.TOMLDecodeError:
            continue
        for table, inside in values.items():
            found.setdefault(table, start)
            if isinstance(inside, dict):
                for key in inside:
                    found.setdefault(f"{table}.{key}", start)
        start = number + 1
    return found


def _toml_value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if values.keys() == {"value"} else text


def _put(values: Values, key: str, value: Any) -> None:
    table, _, name = key.partition(".")
    values.setdefault(table, {})[name] = value


def _has(values: Values, key: str) -> bool:
    table, _, name = key.partition(".")
    inside = values.get(table)
    return table in values if not name else isinstance(inside, dict) and name in inside


def _natural(text: str) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]
