"""Character LoRAs, trained on the cut-outs of `segment`: items of the stage `train`, beside those of the scenes.

Each chosen cut-out stands on a plain background once and on a plate once, with little weight on what is around it, so
that the LoRA learns the character and no background. The pictures become a dataset in kohya's layout, too.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bglora.engine.stage import Item, Tools, View
from bglora.errors import UserError

if TYPE_CHECKING:
    from bglora.stages.train import SceneData

PREFIX = "character-"
HOME = "segmented/character/"
MOST = 24
"""Cut-outs of a character that are trained on at most: more of the same walk teach nothing."""
LOOKED_AT = 5
"""Cut-outs of a track by which its character is recognized."""
LOW = 0.6
"""Share of the median height below which a cut-out is a piece of the character."""
HEIGHTS = (0.55, 0.92)
PLAIN = ("gray", (128, 128, 128)), ("white", (236, 236, 232)), ("dark", (52, 54, 60)), ("beige", (205, 190, 165))
GUESSED = 2
"""The provenance that background pixels get: they weigh as little as guesses do."""


@dataclass(frozen=True)
class Character:
    """What an item of `train` has more than a scene's, or other than it.

    Attributes:
        name: `character-kid`. title: `kid`.
    """

    name: str
    title: str
    files: tuple[str, ...]
    settings: Mapping[str, Any]
    payload: Mapping[str, Any]


def listed(view: View, scenes: Sequence[SceneData]) -> Iterator[Character]:
    """The characters of `train.characters`.

    Args:
        scenes: the datasets, whose plates stand behind the cut-outs.

    Raises:
        UserError: there are no cut-outs, or none fits a pattern.
    """
    wanted = view.settings.train.characters
    if not wanted:
        return
    tracks = _tracks(view)
    plates = [{"image": entry["image"], "text": entry["text"]} for data in scenes for entry in data.pictures]
    settings = {
        "compose.character_prompt": view.settings.compose.character_prompt,
        "caption.prefix": view.settings.caption.prefix,
        "caption.empty_words": view.settings.caption.empty_words,
        "caption.flip": view.settings.caption.flip,
    }
    rank = 0
    for name, patterns in wanted.items():
        chosen = _named(name, patterns, tracks) if patterns else tracks
        files = {path for paths in chosen.values() for path in paths}
        payload = {
            "trigger": trigger(view.settings.project.name, name),
            "tracks": {track: list(paths) for track, paths in chosen.items()},
            "group": None if patterns else rank,
            "plates": plates,
        }
        all_files = tuple(sorted(files.union(*(plate.values() for plate in plates))))
        yield Character(PREFIX + name, name, all_files, settings, payload)
        rank += not patterns


def trigger(project: str, name: str) -> str:
    """`harbor` and `kid` give `hrbr_kid`."""
    from bglora.stages.dataset import triggers

    return triggers(project, {name: name}, {})[name]


def is_character(item: Item) -> bool:
    return "tracks" in item.payload


def prepared(item: Item, tools: Tools) -> tuple[Item, tuple[str, ...]]:
    """The item as the trainer takes it, with pictures that lie in scratch, and their paths for the outcome.

    Raises:
        UserError: no cut-out is good enough.
    """
    cutouts = _cutouts(item, Path(tools.root))
    rng = np.random.default_rng(tools.seed)
    held = set(range(2, len(cutouts), 8)) if len(cutouts) >= 8 else set()
    folder = f"datasets/{item.name}/1_{item.payload['trigger']}"
    side = int(item.settings["train.resolution"])
    trained: list[dict[str, str]] = []
    held_out: list[dict[str, str]] = []
    files: list[str] = []
    for number, cutout in enumerate(cutouts):
        for kind in ("plain", "place"):
            name = f"{number:03d}-{kind}"
            entry, made = _picture(item, tools, cutout, rng, side, folder, name)
            (held_out if number in held else trained).append(entry)
            files += [] if number in held else made
    words = item.settings["compose.character_prompt"]
    about = {
        "trigger": item.payload["trigger"],
        "repeats": 1,
        "flip": item.settings["caption.flip"] != "off",
        "keep_tokens": 1 + len(_tags(words)),
    }
    own = ("compose.", "caption.")
    settings = {key: value for key, value in item.settings.items() if not key.startswith(own)}
    payload = {**item.payload, "about": about, "pictures": trained, "held_out": held_out}
    return replace(item, settings=settings, payload=payload), tuple(files)


def _tracks(view: View) -> dict[str, list[str]]:
    """Track (`harbor-s003_1`) to its cut-outs' paths."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in view.rows("segment"):
        for path in row.outputs:
            match = re.fullmatch(rf"{HOME}(.+)/[^/]+_(\d+)\.png", path)
            if match:
                found[f"{match[1]}_{match[2]}"].append(path)
    if not found:
        raise UserError(
            "There are no cut-outs to train a character on.",
            where=str(view.root / HOME),
            cure="bglora set segment.cutouts true, then: bglora segment",
        )
    return dict(sorted(found.items()))


def _named(name: str, patterns: Sequence[str], tracks: Mapping[str, list[str]]) -> dict[str, list[str]]:
    found = {
        track: paths for track, paths in tracks.items() if any(fnmatch.fnmatchcase(track, one) for one in patterns)
    }
    if not found:
        raise UserError(
            f"No cut-outs fit the patterns of the character {name}.",
            where=f"train.characters, {name}: {', '.join(patterns)}",
            cure=f"Name tracks as SHOT_NUMBER; there are {', '.join(list(tracks)[:6])}"
            + (" and more." if len(tracks) > 6 else "."),
        )
    return found


def _cutouts(item: Item, root: Path) -> list[np.ndarray]:
    """The character's cut-outs, evenly spread over its tracks, pieces left out: uint8 RGBA."""
    from bglora.vision import cast

    tracks: dict[str, list[str]] = item.payload["tracks"]
    if item.payload["group"] is not None:
        looked = {name: [_read(root / path) for path in _spread(paths, LOOKED_AT)] for name, paths in tracks.items()}
        groups = _by_size(cast.groups(looked), tracks)
        if item.payload["group"] >= len(groups):
            raise UserError(
                f"Only {len(groups)} characters can be told apart by their colors.",
                where=f"train.characters, {item.payload['title']}",
                cure='Say which cut-outs are its own: train.characters = { name = ["SHOT_1", "SHOT_2"] }',
            )
        tracks = {name: tracks[name] for name in groups[item.payload["group"]]}
    found = [_read(root / path) for paths in tracks.values() for path in paths]
    found = [cutout for cutout in found if (cutout[..., 3] > 0).any()]
    if not found:
        raise UserError(
            "The cut-outs of the character are empty.", where=f"train {item.name}", cure="Look at segmented/character."
        )
    median = float(np.median([cutout.shape[0] for cutout in found]))
    return _spread([cutout for cutout in found if cutout.shape[0] >= LOW * median], MOST)


def _by_size(groups: Sequence[Sequence[str]], tracks: Mapping[str, list[str]]) -> list[Sequence[str]]:
    return sorted(groups, key=lambda group: (-sum(len(tracks[name]) for name in group), group[0]))


def _picture(
    item: Item, tools: Tools, cutout: np.ndarray, rng: np.random.Generator, side: int, folder: str, name: str
) -> tuple[dict[str, str], list[str]]:
    """Writes one training picture with caption and weights; its entry for the trainer, and its files."""
    from bglora.vision import cast

    root, scratch = Path(tools.root), Path(tools.scratch)
    height, across = rng.uniform(*HEIGHTS), rng.uniform()
    plates = item.payload["plates"]
    if name.endswith("plain") or not plates:
        words, color = PLAIN[int(rng.integers(len(PLAIN)))]
        background, place = np.full((side, side, 3), color, np.uint8), [f"plain {words} background"]
    else:
        plate = plates[int(rng.integers(len(plates)))]
        background, place = _square(root / plate["image"], side), _place_tags(root / plate["text"], item.settings)
    picture, alpha = cast.placed(cutout, background, height, across, rng.uniform(0.6, 1.0))
    caption = ", ".join([item.payload["trigger"], item.settings["compose.character_prompt"], *place])
    image, text = f"{folder}/{name}.png", f"{folder}/{name}.txt"
    weights = scratch / "weights" / f"{name}.png"
    for path in (scratch / image, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(scratch / image, compress_level=1)
    Image.fromarray(np.where(alpha > 0, 0, GUESSED).astype(np.uint8)).save(weights)
    (scratch / text).write_text(caption + "\n", "utf-8", newline="\n")
    entry = {"name": f"{item.name}/{name}", "image": str(scratch / image), "caption": caption}
    return {**entry, "provenance": str(weights)}, [image, text]


def _place_tags(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """A plate's caption without trigger, prefix and the words that say that nobody is there."""
    left_out = {*_tags(settings["caption.prefix"]), *_tags(settings["caption.empty_words"])}
    return [tag for tag in _tags(path.read_text("utf-8").split("\n")[0])[1:] if tag not in left_out]


def _tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",") if tag.strip()]


def _square(path: Path, side: int) -> np.ndarray:
    from bglora.training.buckets import cut_picture
    from bglora.training.pictures import cut_pixels, read_picture

    picture = read_picture(path)
    return cut_pixels(picture, cut_picture(picture.shape[:2], [(side, side)]))


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGBA"))
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(
            "A cut-out cannot be read.", where=str(path), cure="Delete it and run: bglora segment --overwrite-edits"
        ) from error


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread."""
    if len(values) <= most:
        return list(values)
    return [values[(2 * i + 1) * len(values) // (2 * most)] for i in range(most)]
