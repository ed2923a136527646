"""What is there to ingest: film files, folders of frames, layers, and the names they go by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from bglora.errors import UserError
from bglora.film.folder import folders_below, is_hidden, natural_key, pictures_in
from bglora.film.layers import is_layers

Kind = Literal["video", "folder", "layers"]

VIDEOS = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".m2ts", ".mts", ".ts", ".vob"),
        *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".3gp", ".3g2", ".mxf", ".y4m", ".h264", ".264", ".h265"),
        *(".265", ".hevc", ".ivf", ".dv", ".divx", ".rm", ".rmvb", ".gif", ".apng", ".nut", ".obu"),
    }
)
"""Suffixes by which a file in a folder is taken for a film. A file that is named is opened whatever its suffix."""


@dataclass(frozen=True)
class Source:
    """One film, folder of frames, or folder of layers.

    Attributes:
        name: unique in the project; shots are called `<name>-s<NNN>`.
        title: the name as the user gave it.
        kind: a layers source has no film; its backgrounds are the frames.
        path: the file or folder.
        layers: the layers folder that belongs to it, if any. For a layers source the same as `path`.
    """

    name: str
    title: str
    kind: Kind
    path: Path
    layers: Path | None = None


def find_sources(root: Path, films: Sequence[str], layers: Sequence[str]) -> list[Source]:
    """All sources of a project: what the manifest lists, then what lies in sources/.

    Args:
        root: the project folder; relative paths start there.
        films: files and folders of `[sources] films`.
        layers: folders of `[sources] layers`. With one film they are its layers; with several a folder belongs to the
            film that it or its subfolder is named after; without a film each is a source of its own.
    Raises:
        UserError: a path that isn't there, a folder with nothing in it, layers that fit no film, or no source at all.
    """
    found: list[Source] = []
    for entry in films:
        found += _listed(root / entry, entry)
    given = [_layers_folder(root / entry) for entry in layers]
    taken = {source.path.resolve() for source in found} | {path.resolve() for path in given}
    inbox = root / "sources"
    if inbox.is_dir():
        found += [source for source in _inside(inbox) if not _is_taken(source.path, taken)]
    unique = _named(found)
    if not unique:
        unique = _named([source for folder in given for source in _layer_sources(folder)])
    elif given:
        unique = _with_layers(unique, given)
    if not unique:
        raise UserError(
            "There is no film to work on.",
            where=str(root),
            cure="put a film into sources/, or list it in project.toml under [sources] films",
        )
    return unique


def source_name(title: str) -> str:
    """`title` if it has only A-Z a-z 0-9 . _ -, else a slug of it and six hex digits of its SHA-256.

    File systems of macOS may write an accent as a character of its own: composed first, so that the name is the same.
    """
    title = unicodedata.normalize("NFC", title)
    if re.fullmatch(r"[A-Za-z0-9._-]+", title):
        return title
    slug = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()[:40].strip("-") or "film"
    return f"{slug}-{sha256(title.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def _listed(path: Path, entry: str) -> list[Source]:
    if path.is_dir():
        inside = _inside(path)
        if not inside:
            raise UserError(
                "The folder has neither films nor pictures.",
                where=str(path),
                cure=f'put frames into it or take "{entry}" off [sources] films',
            )
        return inside
    if not path.exists():
        raise UserError(
            "There is no such film.", where=str(path), cure="check the path in project.toml under [sources] films"
        )
    return [Source("", path.stem, "video", path)]


def _inside(folder: Path) -> list[Source]:
    """Films and folders of frames at any depth; what is neither is passed over."""
    found: list[Source] = []
    layers: list[Path] = []
    for below in folders_below(folder):
        if any(parent in below.parents for parent in layers):
            continue
        if is_layers(below):
            layers.append(below)
            found.append(Source("", below.name, "layers", below, below))
            continue
        if pictures_in(below):
            found.append(Source("", below.resolve().name, "folder", below))
        files = [path for path in below.iterdir() if path.suffix.lower() in VIDEOS and not is_hidden(path.name)]
        found += [
            Source("", path.stem, "video", path)
            for path in sorted(files, key=lambda path: natural_key(path.name))
            if path.is_file()
        ]
    return found


def _is_taken(path: Path, taken: set[Path]) -> bool:
    resolved = path.resolve()
    return resolved in taken or any(parent in taken for parent in resolved.parents)


def _named(sources: Iterable[Source]) -> list[Source]:
    """Gives names; equal ones (upper and lower case are one, as on Windows) get -2, -3 in their order."""
    used: set[str] = set()
    named: list[Source] = []
    for source in sources:
        name = base = source_name(source.title)
        again = 2
        while name.casefold() in used:
            name, again = f"{base}-{again}", again + 1
        used.add(name.casefold())
        named.append(replace(source, name=name))
    return named


def _layers_folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(
            "There is no such layers folder.",
            where=str(path),
            cure="check the path in project.toml under [sources] layers",
        )
    return path


def _layer_sources(folder: Path) -> list[Source]:
    """Layers without a film: the folder itself, or each of its subfolders that is a layers folder."""
    if is_layers(folder):
        return [Source("", folder.resolve().name, "layers", folder, folder)]
    below = [path for path in folders_below(folder) if is_layers(path)]
    if below:
        return [Source("", path.name, "layers", path, path) for path in below]
    return [Source("", folder.resolve().name, "layers", folder, folder)]


def _with_layers(sources: list[Source], given: list[Path]) -> list[Source]:
    if len(sources) == 1 and len(given) == 1:
        return [replace(sources[0], layers=_own_folder(given[0], sources[0]) or given[0])]
    named = {source.name: source for source in sources}
    for folder in given:
        fitting = [(source, own) for source in sources if (own := _own_folder(folder, source))]
        if not fitting:
            raise UserError(
                "These layers could belong to any of several films.",
                where=str(folder),
                cure=f"name the folder, or a folder in it, after its film: {', '.join(sorted(named)[:4])}",
            )
        for source, own in fitting:
            named[source.name] = replace(source, layers=own)
    return list(named.values())


def _own_folder(folder: Path, source: Source) -> Path | None:
    """The folder that is named after a source: the given one or one directly below it."""
    below = {path.name: path for path in folder.iterdir() if path.is_dir()}
    for name in (source.name, source.title):
        if name in below:
            return below[name]
    return folder if folder.resolve().name in (source.name, source.title) else None
