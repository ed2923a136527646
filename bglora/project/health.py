"""What `doctor` says: of this machine, of every backend under a project's settings, and of the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.backends.doctor import Check, examine
from bglora.errors import BgloraError, MachineError
from bglora.stages.foresight import backends_of, check_weights, demands, located, source_names

if TYPE_CHECKING:
    from bglora.settings import Settings


def examine_all(folder: Path, root: Path | None, given: Sequence[str]) -> list[Check]:
    """This machine, every backend, and the project in `root` if there is one.

    Args:
        folder: on the disk that would be written to.
        root: a project's folder. Without one, backends are looked at with the settings of the preset cpu.
        given: settings of this time only.
    """
    from bglora.settings import Settings

    settings = Settings()
    project: list[Check] = []
    if root is not None:
        read, project = _read(root, given)
        if read is not None:
            settings = located(root, read)
            project += [
                _looked("project: sources", lambda: _sources(root, settings)),
                _looked("project: weights", lambda: _weights(root, settings)),
            ]
            project += _sd_scripts(root, settings)
    used = {one for chosen in backends_of(settings).values() for one in chosen}
    return [*examine(folder, settings, used), *project]


def _read(root: Path, given: Sequence[str]) -> tuple[Settings | None, list[Check]]:
    from bglora.settings.manifest import SettingsError, load

    try:
        settings = load(root, given)
    except SettingsError as error:
        return None, [
            Check("project: settings", "wrong", f"{one.where}: {one.what}", one.cure) for one in error.mistakes
        ]
    except BgloraError as error:
        return None, [_trouble("project: settings", error)]
    found = f"{root / 'project.toml'}, preset {settings.project.preset}"
    return settings, [Check("project: settings", "ok", found)]


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


def _sd_scripts(root: Path, settings: Settings) -> list[Check]:
    """Whether sd-scripts starts, where it is to train."""
    if settings.train.backend != "kohya":
        return []
    if not settings.train.sd_scripts:
        found = "not named in train.sd_scripts: its configuration is written, not started"
        return [Check("project: sd-scripts", "warning", found, "bglora set train.sd_scripts FOLDER")]
    from bglora.backends.train.kohya import starts

    return [_looked("project: sd-scripts", lambda: starts(settings.train, root))]


def _weights(root: Path, settings: Settings) -> str:
    check_weights(root, settings)
    names = list(dict.fromkeys(one.name for one in demands(root, settings)))
    return ", ".join(f"{name}, a small base model that makes thumbnails" if name == "mini" else name for name in names)
