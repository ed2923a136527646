"""A project folder, made and opened here; what the commands do with it are methods of `Project`.

Nothing heavy is imported before it is needed: `import bglora` is for scripts that may only want to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.engine.events import Listener, silent
from bglora.errors import UserError
from bglora.project.folder import Project

MANIFEST = "project.toml"

if TYPE_CHECKING:
    from bglora.backends.doctor import Check

__all__ = ["Project", "demo", "doctor", "init", "models", "open"]


def open(folder: str | Path = ".", *, given: Iterable[str] = (), listener: Listener = silent, jobs: int = 0) -> Project:
    """Opens the project in `folder`, or in the nearest folder above it that is one.

    Args:
        folder: the project's folder, or one inside it.
        given: settings for this time only, as `"inpaint.engine=patch"`; stronger than everything else.
        listener: is called with each event of a run (see `bglora.engine.events`).
        jobs: processes for work that can be done side by side; 0 means as many as there are cores.

    Raises:
        UserError: there is no project, or it was made by a newer bglora.
    """
    from bglora.settings.migrations import migrate

    root = _found(folder)
    if root is None:
        raise UserError(
            "There is no bglora project here.",
            where=str(Path(folder).expanduser().absolute()),
            cure="Make one: bglora init film-name --film PATH; or name its folder: bglora -C DIR ...",
        )
    migrate(root)
    return Project(root, tuple(given), listener, jobs)


def _found(folder: str | Path) -> Path | None:
    """The folder itself or the nearest one above it that is a project."""
    start = Path(folder).expanduser().absolute()
    return next((place for place in (start, *start.parents) if (place / MANIFEST).is_file()), None)


def init(
    name: str | Path,
    *,
    films: Sequence[str | Path] = (),
    layers: Sequence[str | Path] = (),
    preset: str = "cpu",
    title: str = "",
    created: date | None = None,
) -> Project:
    """Makes a project folder `name` and opens it.

    Args:
        name: the film's name, or a path that ends in it. The folder gets a slug of it.
        films: film files or folders of frames. They stay where they are.
        layers: folders of an earlier segmentation.
        preset: `cpu` or `studio`.
        title: the film's name as a person writes it; by default `name`.
        created: date in the metadata of everything that the project makes; by default today.

    Raises:
        UserError: a project is already there, a source is missing, or there is no such preset.
    """
    from bglora.project.making import make

    return open(make(name, films, layers, preset, title, created or date.today()))


def demo(folder: str | Path = "bglora-demo", *, listener: Listener = silent, jobs: int = 0) -> Project:
    """A project on the sample film that comes with the package, preset `cpu`. Opened if it is there already."""
    from bglora.project.making import make_demo

    return open(make_demo(folder), listener=listener, jobs=jobs)


def doctor(folder: str | Path = ".", *, given: Iterable[str] = ()) -> list[Check]:
    """Looks at this machine, at what every backend needs and at the project in `folder`, if there is one.

    Each `Check` has the command that mends it.
    """
    from bglora.project.health import examine_all

    return examine_all(Path(folder).absolute(), _found(folder), tuple(given))


def models() -> list[dict[str, Any]]:
    """The weights that this version knows: name, what for, size, license and terms, where they are if they are here."""
    from bglora.backends.stock import listing

    return listing()
