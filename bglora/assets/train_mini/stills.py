"""The training pictures: stills with captions, the views cut from them, and where a character stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bglora.errors import UserError

HELD_OUT_EVERY = 14  # one of 14 built places is never trained on, for the loss on unseen places and for judges


@dataclass(frozen=True)
class Still:
    """One line of captions.jsonl; `details` are the place's words from the caption of its empty camera."""

    path: Path
    place: str
    character: str | None
    lighting: str
    caption: str
    details: str
    pair: str
    built_place: str
    held_out: bool


@dataclass(frozen=True)
class View:
    """A rectangle of a still painted at a size: `box` (left, top, right, bottom) in the still's pixels."""

    box: tuple[float, float, float, float]
    time_ids: tuple[int, int, int, int, int, int]


def read_stills(folder: Path) -> list[Still]:
    """All stills of a folder with captions.jsonl, sorted by file name (KIND-NN-PLACE-CAMERAletter.jpg).

    Raises:
        UserError: the folder has no captions.jsonl, or too few places to keep one apart.
    """
    if not (folder / "captions.jsonl").is_file():
        raise UserError("no stills here: captions.jsonl is missing", where=str(folder), cure="--stills FOLDER")
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines() if line.strip()]
    lines.sort(key=lambda line: str(line["file"]))
    details = {line["pair"]: _details(line["caption"], line["lighting"]) for line in lines if not line["has_character"]}
    places = sorted({_built_place(line["file"]) for line in lines})
    held = set(places[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY])
    if not held:
        raise UserError(
            f"{len(places)} places are too few to train on",
            where=str(folder / "captions.jsonl"),
            cure=f"add stills of at least {HELD_OUT_EVERY // 2 + 1 - len(places)} more places",
        )
    return [
        Still(
            path=folder / line["file"],
            place=line["place"],
            character=line["character"] if line["has_character"] else None,
            lighting=line["lighting"],
            caption=line["caption"],
            details=details.get(line["pair"], line["place"]),
            pair=line["pair"],
            built_place=_built_place(line["file"]),
            held_out=_built_place(line["file"]) in held,
        )
        for line in lines
    ]


def _built_place(file: str) -> str:
    return "-".join(file.split("-")[:3])


def _details(caption: str, lighting: str) -> str:
    tags = [tag.strip() for tag in caption.split(",")]
    dropped = {"3d animated background", "no characters", "empty scene", lighting}
    return ", ".join(tag for tag in tags if tag not in dropped)


def pixels(still: Still) -> Image.Image:
    return Image.open(still.path).convert("RGB")


def character_mask(still: Still, empty: Image.Image | None) -> NDArray[np.float32] | None:
    """Where the still differs from its empty camera, (h, w) in 0..1, or None where that is not known."""
    if still.character is None or empty is None:
        return None
    seen = np.asarray(pixels(still), np.int16)
    difference = np.abs(seen - np.asarray(empty, np.int16)).max(axis=2)
    mask = Image.fromarray(((difference > 28) * 255).astype(np.uint8)).filter(ImageFilter.MedianFilter(5))
    found = np.asarray(mask, np.float32) / 255.0
    return found if found.sum() > 60 else None


def empty_cameras(stills: list[Still]) -> dict[str, Image.Image]:
    """The whole picture without a character of every camera, by pair."""
    return {still.pair: pixels(still) for still in stills if still.path.stem.endswith("a")}


def core_cameras(stills: list[Still]) -> set[str]:
    """Of each place, in each of its words and lights, the camera whose characters stand out most.

    That is by the mean difference from the picture without them, over all its stills: many, large, of other colors. A
    small model that has seen few pictures well paints things, one that has seen many badly paints their average; and
    where every light of a place is among the few, it need not guess how the place looks in another.
    """
    empty = empty_cameras(stills)
    clear: dict[str, float] = dict.fromkeys(empty, 0.0)
    for still in stills:
        mask = character_mask(still, empty.get(still.pair)) if shows_whole_picture(still) else None
        if mask is not None:
            apart = np.abs(np.asarray(pixels(still), np.int16) - np.asarray(empty[still.pair], np.int16)).max(axis=2)
            clear[still.pair] += float((apart * mask).mean())
    best: dict[tuple[str, str, str], str] = {}
    for still in sorted(stills, key=lambda still: (-clear.get(still.pair, -1.0), still.pair)):
        if still.pair in empty:
            best.setdefault((still.place, still.details, still.lighting), still.pair)
    return set(best.values())


def shows_whole_picture(still: Still) -> bool:
    return still.path.stem[-1] in "ade"


def views(
    size: tuple[int, int], target: tuple[int, int], mask: NDArray[np.float32] | None, rng: np.random.Generator
) -> Iterator[View]:
    """Rectangles for a target (height, width): the largest one, a nearer one, and one near the character.

    The time ids are SDXL's (original height, width, crop top, left, target height, width). The largest rectangle
    counts as the whole picture, since that is what the stock pipeline asks for by default.
    """
    height, width = target
    whole = min(size[0] / width, size[1] / height)
    full = (width * whole, height * whole)
    yield _view(size, full, 1.0, target, mask, rng)
    limit = max(1.05, min(2.0, whole))
    yield _view(size, full, float(rng.uniform(1.0, limit)), target, mask, rng)
    if mask is not None:
        yield _view(size, full, float(rng.uniform(0.6 * limit + 0.4, limit)), target, mask, rng)


def _view(
    size: tuple[int, int],
    full: tuple[float, float],
    zoom: float,
    target: tuple[int, int],
    mask: NDArray[np.float32] | None,
    rng: np.random.Generator,
) -> View:
    width, height = full[0] / zoom, full[1] / zoom
    left = _offset(size[0], width, None if mask is None else mask.sum(axis=0), rng)
    top = _offset(size[1], height, None if mask is None else mask.sum(axis=1), rng)
    ids = (target[0], target[1], 0, 0, target[0], target[1])
    if zoom > 1.02:
        scale = target[1] / width
        ids = (
            round(target[0] * zoom),
            round(target[1] * zoom),
            max(0, round((top - (size[1] - full[1]) / 2) * scale)),
            max(0, round((left - (size[0] - full[0]) / 2) * scale)),
            target[0],
            target[1],
        )
    return View((left, top, left + width, top + height), ids)


def _offset(size: float, length: float, weight: NDArray[np.float32] | None, rng: np.random.Generator) -> float:
    room = size - length
    if weight is None:
        return float(rng.uniform(0.0, room)) if room > 0 else 0.0
    center = float((np.arange(len(weight)) + 0.5) @ weight / weight.sum())
    wanted = center - length * float(rng.uniform(0.35, 0.65))
    return float(np.clip(wanted, 0.0, max(room, 0.0)))


def cut(picture: Image.Image, view: View, target: tuple[int, int]) -> NDArray[np.float32]:
    """The view as (height, width, 3) in -1..1."""
    small = picture.resize((target[1], target[0]), Image.Resampling.BOX, box=view.box, reducing_gap=None)
    return np.asarray(small, np.float32) / 127.5 - 1.0


def cut_mask(mask: NDArray[np.float32], view: View, target: tuple[int, int]) -> NDArray[np.float32]:
    """The part of each latent cell (8x8 pixels) that a character covers, (height/8, width/8) in 0..1."""
    picture = Image.fromarray((mask * 255).astype(np.uint8))
    small = picture.resize((target[1] // 8, target[0] // 8), Image.Resampling.BOX, box=view.box)
    return np.asarray(small, np.float32) / 255.0
