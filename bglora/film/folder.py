"""Folders of pictures: what counts as a picture, and the order that a person expects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm"})
"""Suffixes of pictures with 8 or 16 bit values; the linear light of .exr has no place in a film that was graded."""


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key by which `shot2/9.png` comes before `shot10/10.png`; upper and lower case are one."""
    pieces = re.findall(r"\d+|\D+", name.casefold())
    return tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces), name


def is_hidden(name: str) -> bool:
    """True for `.name`, as file managers have it; `..name` is a name of its own."""
    return name.startswith(".") and not name.startswith("..")


def is_picture(path: Path) -> bool:
    """True for a visible file with a picture's suffix."""
    return path.suffix.lower() in PICTURES and not is_hidden(path.name)


def pictures_in(folder: Path) -> list[Path]:
    """Pictures that lie directly in a folder, in natural order."""
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if entry.is_file() and is_picture(Path(entry.name))]
    return [folder / name for name in sorted(names, key=natural_key)]


def folders_below(folder: Path) -> Iterator[Path]:
    """The folder and all visible folders below it, in natural order, links not followed."""
    yield folder
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False) and not is_hidden(entry.name)]
    for name in sorted(names, key=natural_key):
        yield from folders_below(folder / name)


def pictures_below(folder: Path) -> list[Path]:
    """Pictures at any depth, in natural order of their paths."""
    return [path for below in folders_below(folder) for path in pictures_in(below)]
