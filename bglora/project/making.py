"""A new project folder: its name, its manifest, its sources."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bglora.errors import UserError

MANIFEST = "project.toml"

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
"""Names that Windows keeps for devices, with any ending."""


def slug(name: str) -> str:
    """A name for files and triggers: the name itself where it is `[A-Za-z0-9._-]+`, else a slug and six hex digits.

    >>> slug("harbor")
    'harbor'
    >>> slug("The Pier")
    'the-pier-6b5eca'
    """
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None and len(name) <= 60
    if plain and not name.endswith(".") and name.split(".")[0].lower() not in RESERVED:
        return name
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    digits = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{short}-{digits}" if short else f"film-{digits}"


def make(
    name: str | Path, films: Sequence[str | Path], layers: Sequence[str | Path], preset: str, title: str, created: date
) -> Path:
    """Makes the folder and its manifest; returns the folder. See `bglora.init`."""
    from bglora.settings.edit import write_text
    from bglora.settings.manifest import SettingsError, check, sources_of
    from bglora.settings.presets import PRESETS

    wanted = Path(name).expanduser()
    if wanted.name in ("", ".."):
        raise UserError("A project needs a name.", where=str(name), cure="Name the film: bglora init film-name")
    root = wanted.parent.absolute() / slug(wanted.name)
    if (root / MANIFEST).exists():
        raise UserError(
            "There is a project here already.",
            where=str(root / MANIFEST),
            cure=f"Go on with it: bglora -C {root.name} run --all; or choose another name.",
        )
    if preset not in PRESETS:
        raise UserError(
            f"There is no preset {preset!r}.", where=f"--preset {preset}", cure=f"Choose one of: {', '.join(PRESETS)}."
        )
    text = _manifest(
        preset,
        {"name": root.name, "title": title or wanted.name, "created": created.isoformat()},
        {
            "films": [_source(film, "film", root) for film in films],
            "layers": [_source(one, "layers", root) for one in layers],
        },
    )
    _, mistakes = check(sources_of(text, root / MANIFEST, ()))
    if mistakes:
        raise SettingsError(mistakes)
    _make_folder(root / "sources")
    write_text(root / MANIFEST, text)
    return root


def make_demo(folder: str | Path) -> Path:
    """The folder of a project on the sample film, made if it is not there. The film is copied into it.

    Every frame is kept: the film is only twelve seconds long, and a place wants more than one picture.
    """
    from bglora.assets import asset
    from bglora.settings.edit import set_value

    place = Path(folder).expanduser()
    if (place / MANIFEST).is_file():
        return place
    root = make(place, (), (), "cpu", "Harbor", date(2026, 1, 1))
    set_value(root, "ingest.fps", "0")
    set_value(root, "ingest.max_per_shot", "0")
    set_value(root, "train.characters", "{ kid = [] }")
    set_value(root, "compose.mode", "regional")
    set_value(root, "compose.region", '["0.25 0.1 0.75 1"]')
    shutil.copyfile(asset("harbor.mp4"), root / "sources" / "harbor.mp4")
    return root


def add_character(root: Path, there: Mapping[str, Sequence[str]], name: str, cutouts: Sequence[str]) -> None:
    """Writes a character, and those that are there, into `train.characters`. Without cut-outs it keeps what it has."""
    from bglora.settings.edit import set_value

    wanted = {key: list(tracks) for key, tracks in there.items()}
    wanted[name] = list(cutouts) or wanted.get(name, [])
    text = ", ".join(f"{json.dumps(key)} = {json.dumps(tracks)}" for key, tracks in wanted.items())
    set_value(root, "train.characters", f"{{{text}}}")


def _manifest(preset: str, project: dict[str, str], sources: dict[str, list[str]]) -> str:
    """The preset's template with what `init` knows written into it."""
    import tomlkit

    from bglora.settings.presets import preset_text

    document: Any = tomlkit.parse(preset_text(preset))
    for table, values in (("project", project), ("sources", sources)):
        for key, value in values.items():
            document[table][key] = value
    return tomlkit.dumps(document)


def _source(path: str | Path, kind: str, root: Path) -> str:
    """A source as the manifest names it: relative if it lies inside the project, else absolute."""
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise UserError(
            f"There is no {'film' if kind == 'film' else 'folder of layers'} at this path.",
            where=str(place),
            cure=f"Check the path after --{kind}; names with spaces need quotes.",
        )
    if kind == "layers" and not place.is_dir():
        raise UserError(
            "Layers are a folder with background/, masks/ or character/ inside.",
            where=str(place),
            cure="Name that folder after --layers, or the film itself after --film.",
        )
    if kind == "film" and place.is_file():
        from bglora.stages.foresight import check_film

        check_film(place)
    inside = place.is_relative_to(root)
    return place.relative_to(root).as_posix() if inside else place.as_posix()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The project folder can't be made: {error.strerror}.",
            where=str(folder),
            cure="Choose a folder that is yours: bglora -C DIR init film-name",
        ) from None
