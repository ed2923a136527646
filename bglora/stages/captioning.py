"""The work of `caption` on pictures: looks at a scene's plates, chooses, asks the captioner, finds lettering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bglora import backends
from bglora.engine.stage import Item, Tools
from bglora.film.lettering import find_letters
from bglora.film.png import read_grey, read_picture, write_png
from bglora.film.survey import working_size
from bglora.stages.dataset import Candidate, choose, folder_name
from bglora.vision.worth import judge

THUMB = (64, 36)
GUESSED, UNTRUSTED = 2, 3
LETTERED = 24
"""Plates of a scene that are searched for lettering at most, evenly chosen."""
RARE = 12
"""One in so many plates may look lettered without being so: windows and books in a row do now and then."""


@dataclass(frozen=True)
class Chosen:
    """What `caption` decided about a scene.

    Attributes:
        folder: `<repeats>_<trigger>`.
        captions: plates that are trained on or held out, to their captions.
        left: other plates, to the reason.
        masks: how many pictures carry loss weights in their alpha channel.
    """

    folder: str
    captions: Mapping[str, Any]
    left: Mapping[str, str]
    held_out: tuple[str, ...]
    keep_tokens: int
    flip: bool
    lettering: tuple[str, ...]
    masks: int


def look_at(item: Item, tools: Tools) -> Chosen:
    """Reads the scene's plates once to choose, and the chosen ones again for the captioner."""
    read, caption, cluster = item.settings, tools.settings.caption, tools.settings.cluster
    files = dict(zip(item.pictures, item.files, strict=False))
    embed = tools.once(f"embed:{cluster.backend}", lambda: backends.load("embed", cluster.backend, cluster))
    writer = tools.once(f"caption:{caption.backend}", lambda: backends.load("caption", caption.backend, caption))
    choice = choose(
        _candidates(item, tools, files, embed),
        read["caption.target_size"],
        read["caption.min_difference"],
        read["caption.held_out"],
    )
    wanted = sorted({*choice.trained, *choice.held_out})
    trigger = item.payload["trigger"]
    pictures = _pictures(tools, [files[name] for name in wanted])
    captions = dict(zip(wanted, writer.caption(pictures, trigger, item.payload["title"]), strict=True))
    lettering = _lettered(tools, files, choice.trained) if read["caption.flip"] == "auto" else ()
    return Chosen(
        folder=folder_name(read["caption.repeats"], trigger),
        captions=captions,
        left=choice.left,
        held_out=choice.held_out,
        keep_tokens=len([tag for tag in f"{trigger},{read['caption.prefix']}".split(",") if tag.strip()]),
        flip=read["caption.flip"] == "on" or (read["caption.flip"] == "auto" and not lettering),
        lettering=lettering,
        masks=sum(bool(item.payload["provenance"].get(name)) for name in choice.trained),
    )


def write_weighted(path: Path, plate: Path, provenance: Path, guessed: float) -> None:
    """Writes a plate with the loss weight of each pixel as alpha: 255 known, `guessed` x 255 a guess, 0 not trusted."""
    picture, origin = read_picture(plate), read_grey(provenance)
    weights = np.full(origin.shape, 255, np.uint8)
    weights[origin == GUESSED] = round(255 * guessed)
    weights[origin == UNTRUSTED] = 0
    write_png(path, np.dstack([picture, weights]))


def _pictures(tools: Tools, files: Sequence[str]) -> Iterator[np.ndarray]:
    for done, file in enumerate(files):
        tools.progress(done, len(files), "plates captioned")
        yield read_picture(tools.root / file)


def _candidates(item: Item, tools: Tools, files: Mapping[str, str], embed: Any) -> list[Candidate]:
    seen: list[tuple[float, np.ndarray]] = []

    def pictures() -> Iterator[np.ndarray]:
        for done, name in enumerate(item.pictures):
            picture = read_picture(tools.root / files[name])
            thumb = cv2.resize(picture, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
            seen.append((judge(picture).sharpness, thumb))
            tools.progress(done, len(item.pictures), "plates looked at")
            yield picture

    vectors = embed.embed(pictures())
    return [
        Candidate(name, sharp, item.payload["guessed"].get(name, 0.0), thumb, vector)
        for name, (sharp, thumb), vector in zip(item.pictures, seen, vectors, strict=True)
    ]


def _lettered(tools: Tools, files: Mapping[str, str], trained: tuple[str, ...]) -> tuple[str, ...]:
    """Plates in which a line of letters was found; none if they are so few that they may be false alarms."""
    some = [trained[round(i)] for i in np.linspace(0, len(trained) - 1, min(LETTERED, len(trained)))]
    found = []
    for name in some:
        gray = cv2.cvtColor(read_picture(tools.root / files[name]), cv2.COLOR_RGB2GRAY)
        height, width = working_size(*gray.shape)
        if find_letters(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)) is not None:
            found.append(name)
    return tuple(found) if len(found) > len(some) // RARE else ()
