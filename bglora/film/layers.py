"""Layers of an earlier segmentation: pictures of the background with its hole, masks, cut-outs of characters.

A layers folder has one of two forms:

    layers/background/<frame>.png     RGBA with transparent holes, or RGB with black ones
    layers/masks/<frame>.png          grey: 0, 128 effect, 255 object; any value above 0 counts as a hole
    layers/character/<frame>_<track>.png

    layers/<frame>.png                backgrounds and nothing else

`<frame>` is `<FFFFFF>` or `<shot>/<FFFFFF>` where the layers belong to a film, and any name where they have
none. Folders of several sources may lie side by side, each below the name of its source.

What `ingest` records of a source that has layers (`remark["layers"]`):

    {"root": "sources/harbor-layers",              relative to the project, or absolute
     "frames": [{"frame": 74,                      number in the source
                 "background": "background/000074.png" | None,        all paths relative to root
                 "mask": "masks/000074.png" | None,
                 "characters": ["character/000074_1.png", …]}, …]}    sorted by frame

`entries(project_root, remark)` gives the same with whole paths; `hole(entry, shape)` gives the hole whatever its form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.errors import UserError
from bglora.film.folder import natural_key, pictures_below

if TYPE_CHECKING:
    import numpy as np

_PARTS = ("background", "masks", "character")


@dataclass(frozen=True)
class LayerEntry:
    """The layers of one frame; every path is whole."""

    frame: int
    background: Path | None
    mask: Path | None
    characters: tuple[Path, ...]


def is_layers(folder: Path) -> bool:
    """True if the folder itself holds `background/` or `masks/` of an earlier segmentation."""
    return (folder / "background").is_dir() or (folder / "masks").is_dir()


def list_layers(folder: Path, *, numbered: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Lists a layers folder.

    Args:
        folder: a layers folder in one of the two forms.
        numbered: frames by the number in their names (layers of a film); else sorted naturally and numbered from 0.
    Returns:
        The `frames` list of the remark, and the original name of each entry in the same order.
    Raises:
        UserError: no pictures; a name without a frame number where numbers are needed, or no background where not.
    """
    parts = _PARTS if is_layers(folder) else ("",)
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        base = folder / part
        for path in pictures_below(base) if base.is_dir() else ():
            name = path.relative_to(base).with_suffix("").as_posix()
            if part == "character":
                name = re.sub(r"_[^_/]*$", "", name)
            entry = found.setdefault(name, {"background": None, "mask": None, "characters": []})
            relative = path.relative_to(folder).as_posix()
            if part == "character":
                entry["characters"].append(relative)
            else:
                entry["mask" if part == "masks" else "background"] = relative
    if not found:
        raise UserError(
            "The layers folder has no pictures.", where=str(folder), cure="give another folder with --layers"
        )
    names = sorted(found, key=natural_key)
    if not numbered:
        _with_background(folder, found)
        return [{"frame": number, **found[name]} for number, name in enumerate(names)], names
    rows = sorted((_number(folder, name), name) for name in names)
    for (first, one), (second, other) in zip(rows, rows[1:], strict=False):
        if first == second:
            raise UserError(
                f"Two layers claim frame {first}: {one} and {other}.",
                where=str(folder),
                cure="give each frame one background and one mask",
            )
    return [{"frame": number, **found[name]} for number, name in rows], [name for _, name in rows]


def entries(root: Path, remark: Mapping[str, Any]) -> dict[int, LayerEntry]:
    """The layers of a source by frame number; empty if it has none.

    Args:
        root: the project folder.
        remark: what `ingest` recorded of the source.
    """
    layers = remark.get("layers")
    if not layers:
        return {}
    base = root / layers["root"]
    return {
        row["frame"]: LayerEntry(
            row["frame"],
            base / row["background"] if row["background"] else None,
            base / row["mask"] if row["mask"] else None,
            tuple(base / path for path in row["characters"]),
        )
        for row in layers["frames"]
    }


def hole(entry: LayerEntry) -> np.ndarray:
    """The removal mask of one frame: uint8 (H, W), 0 keep, 128 effect, 255 object.

    Taken from the mask if there is one, else from the background's transparency, else from its pure black pixels.
    A pixel of partial alpha counts as hole: its color is mixed with the character's.
    """
    import cv2
    import numpy as np

    from bglora.film.png import read_grey, read_rgba

    if entry.mask is not None:
        values = read_grey(entry.mask)
        if set(np.unique(values)) <= {0, 128, 255}:
            return values
        return np.where(values > 0, np.where(values == 128, 128, 255), 0).astype(np.uint8)
    if entry.background is None:
        raise UserError(
            "A frame has neither mask nor background.", where=f"frame {entry.frame}", cure="add one of them"
        )
    picture = read_rgba(entry.background)
    if (picture[..., 3] < 255).any():
        return np.where(picture[..., 3] < 255, 255, 0).astype(np.uint8)
    black = (picture[..., :3] == 0).all(axis=2).astype(np.uint8)
    # A film has black pixels of its own; a hole is a piece of at least a few pixels' width.
    opened = cv2.morphologyEx(black, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(black)
    kept = np.zeros(count, np.uint8)
    kept[np.unique(labels[opened > 0])] = 255
    kept[0] = 0
    return kept[labels]


def _with_background(folder: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Without a film the background is the frame: raises `UserError` where a mask or a cut-out has none."""
    alone = sorted((name for name, entry in found.items() if entry["background"] is None), key=natural_key)
    if alone:
        raise UserError(
            f"{len(alone)} layers have no background, and there is no film to take it from.",
            where=str(folder / alone[0]),
            cure="put a picture of the same name into background/, or give the film with --film",
        )


def _number(folder: Path, name: str) -> int:
    digits = re.fullmatch(r"(?:.*\D)?(\d+)", name.rsplit("/", 1)[-1])
    if digits is None:
        raise UserError(
            "A layer's name has no frame number.",
            where=str(folder / name),
            cure="name it <FFFFFF>.png or <shot>/<FFFFFF>.png after its frame, or give the layers without a film",
        )
    return int(digits[1])


def cropped(picture: np.ndarray, remark: Mapping[str, Any]) -> np.ndarray:
    """A layer (H, W) or (H, W, C) at the size of the frames: letterbox bars are cut off if it still has them."""
    video = remark["video"]
    if tuple(picture.shape[:2]) != tuple(video["size"]):
        return picture
    top, bottom, left, right = video["crop"]
    return picture[top : picture.shape[0] - bottom, left : picture.shape[1] - right]
