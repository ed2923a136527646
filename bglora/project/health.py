"""What `doctor` says of a project: its settings, its sources, its base model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.backends.doctor import Check
from bglora.errors import BgloraError, MachineError
from bglora.stages.foresight import check_base, source_names

if TYPE_CHECKING:
    from bglora.settings import Settings


def examine_project(root: Path, given: Sequence[str]) -> Iterator[Check]:
    """Everything in the project in `root` that would stop a run, each with its cure."""
    from bglora.settings.manifest import SettingsError, load

    try:
        settings = load(root, given)
    except SettingsError as error:
        for one in error.mistakes:
            yield Check("project: settings", "wrong", f"{one.where}: {one.what}", one.cure)
        return
    except BgloraError as error:
        yield _trouble("project: settings", error)
        return
    yield Check("project: settings", "ok", f"{root / 'project.toml'}, preset {settings.project.preset}")
    yield _looked("project: sources", lambda: _sources(root, settings))
    yield _looked("project: base model", lambda: _base(root, settings))


def _looked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except BgloraError as error:
        return _trouble(name, error)


def _trouble(name: str, error: BgloraError) -> Check:
    found = f"{error.what} ({error.where})"
    return Check(name, "missing" if isinstance(error, MachineError) else "wrong", found, error.cure)


def _sources(root: Path, settings: Settings) -> str:
    names = source_names(root, settings)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _base(root: Path, settings: Settings) -> str:
    check_base(root, settings)
    base = settings.train.base
    return f"{base}, a small model that makes thumbnails" if base == "mini" else base
