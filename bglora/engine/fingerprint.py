"""What an item's result depends on, as one hash, and in words why two of them differ.

An item is described by two texts that the ledger stores as they are, so that the usual question "is it still the same?"
is a comparison of strings and needs no hash:

    about    canonical JSON of the stage's version, the settings, decisions, payload, backend and pictures
    inputs   one line a file: its digest and path; only the digests count
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from bglora.engine.stage import Item, Stage

MISSING = "-"
"""Stands for the digest of an input that is not there."""

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts.

    Raises:
        TypeError, ValueError: the value is not made of JSON values (a stage's bug).
    """
    return _canonical(value)


def about_text(stage: Stage, item: Item) -> str:
    """Everything but the files that the item's result depends on."""
    return _canonical(
        {
            "version": stage.version,
            "backend": item.backend,
            "settings": dict(item.settings),
            "decisions": dict(item.decisions),
            "payload": dict(item.payload),
            "pictures": list(item.pictures),
        }
    )


def inputs_text(files: tuple[str, ...], digest_of: Callable[[str], str]) -> str:
    """One line an input file: digest (or `-` if missing), a space, the path."""
    return "\n".join([f"{digest_of(path)} {path}" for path in files])


def fingerprint(stage: str, about: str, inputs: str) -> str:
    """32 hex digits over the stage's name, the about text and the digests of the inputs (not their paths)."""
    state = hashlib.blake2b(digest_size=16)
    state.update(f"{stage}\n{about}\n".encode())
    for line in inputs.split("\n"):
        state.update(line.partition(" ")[0].encode())
        state.update(b"\n")
    return state.hexdigest()


def explain(stage: str, old_about: str, old_inputs: str, new_about: str, new_inputs: str) -> list[str]:
    """Says in words what makes the new description differ from the old one; empty if nothing does."""
    old, new = json.loads(old_about), json.loads(new_about)
    reasons: list[str] = []
    if old["version"] != new["version"]:
        reasons.append(f"code changed ({stage} {old['version']} → {new['version']})")
    if old["backend"] != new["backend"]:
        reasons.append(f"backend changed: {old['backend'] or 'none'} → {new['backend'] or 'none'}")
    reasons += _changes("settings changed", old["settings"], new["settings"])
    reasons += _decisions(old["decisions"], new["decisions"])
    reasons += _changes("changed", old["payload"], new["payload"])
    if old["pictures"] != new["pictures"]:
        reasons.append(_pictures(old["pictures"], new["pictures"]))
    return reasons + _inputs(old_inputs, new_inputs)


def _changes(title: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = sorted(old.keys() | new.keys())
    absent = object()
    return [
        f"{title}: {key} {_short(old.get(key, absent), absent)} → {_short(new.get(key, absent), absent)}"
        for key in keys
        if old.get(key, absent) != new.get(key, absent)
    ]


def _decisions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Whom changed decisions are about."""
    about: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            before, after = _by_name(key, old.get(key)), _by_name(key, new.get(key))
            names = sorted(before.keys() | after.keys())
            about += [name for name in names if before.get(name) != after.get(name)] or [key]
    return _some("decision changed", list(dict.fromkeys(about)))


def _by_name(key: str, decided: Any) -> Mapping[str, Any]:
    """A decision by what it is about: a table is so already, a list is of names, anything else is about the key."""
    if isinstance(decided, Mapping):
        return decided
    if isinstance(decided, list) and all(isinstance(name, str) for name in decided):
        return dict.fromkeys(decided, True)
    return {} if decided is None else {key: decided}


def _short(value: Any, absent: object) -> str:
    if value is absent:
        return "unset"
    text = value if isinstance(value, str) and value else canonical(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _pictures(old: list[str], new: list[str]) -> str:
    more, less = len(set(new) - set(old)), len(set(old) - set(new))
    return f"pictures changed: {more} more, {less} less" if more or less else "pictures changed: their order"


def _inputs(old: str, new: str) -> list[str]:
    before, after = _by_path(old), _by_path(new)
    changed = [path for path in after if path in before and before[path] != after[path]]
    reasons = [f"input missing: {path}" for path in changed if after[path] == MISSING][:1]
    reasons += _some("input changed", [path for path in changed if after[path] != MISSING])
    if sorted(before.values()) != sorted(after.values()):
        reasons += _some("new input", [path for path in after if path not in before])
        reasons += _some("input gone", [path for path in before if path not in after])
    elif not reasons and list(before.values()) != list(after.values()):
        reasons.append("inputs changed: their order")
    return reasons


def _by_path(text: str) -> dict[str, str]:
    pairs = (line.partition(" ") for line in text.split("\n") if line)
    return {path: digest for digest, _, path in pairs}


def _some(title: str, paths: list[str]) -> list[str]:
    if not paths:
        return []
    return [f"{title}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")]
