"""The work of `cluster` on pictures: reads plates, leaves out bad ones, sorts the others into places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bglora import backends
from bglora.engine.stage import Item, Tools
from bglora.errors import UserError
from bglora.film.folder import natural_key
from bglora.film.png import read_picture
from bglora.stages import scenes as naming
from bglora.stages.sameplace import Views
from bglora.vision.places import Places, Rules, sort_places
from bglora.vision.worth import Judgement, judge

DROPPED = "dropped by you"
SURE = 0.25
"""Share of the softmax over all words from which a word names a scene; below it several words fit as well."""


@dataclass
class Sorted:
    """What was found, before a person's decisions about scenes.

    Attributes:
        reasons: plates that are in no scene, with the reason.
        scores: plate to likeness, 0 to 1, to its scene or the nearest one.
        nearest: plate to the id of the scene it is nearest to.
        words: scene id to the word that fits it best, with its share; empty where the embedder knows no words.
    """

    scenes: naming.Scenes
    reasons: dict[str, str]
    scores: dict[str, float]
    nearest: dict[str, str]
    notices: list[str] = field(default_factory=list)
    words: dict[str, tuple[str, float]] = field(default_factory=dict)


def sort_plates(item: Item, tools: Tools) -> Sorted:
    """Sorts the item's plates. Raises `UserError` where a person dropped them all or a file is damaged."""
    decided = item.decisions["pictures"]
    files = dict(zip(item.pictures, item.files, strict=True))
    gone = {plate: _told(words) for plate, words in decided.items() if words.startswith("drop")}
    # film order: by name alone shot 1000 would come before shot 999
    plates = sorted((plate for plate in item.pictures if plate not in gone), key=natural_key)
    if not plates:
        raise UserError("All plates are dropped by you.", where="decisions.toml", cure="bglora keep 'PATTERN'")
    table = tools.settings.cluster
    embed = tools.once(f"embed:{table.backend}", lambda: backends.load("embed", table.backend, table))
    judged: list[Judgement] = []
    vectors = embed.embed(_pictures(tools, [files[plate] for plate in plates], judged))
    reasons = _bad(plates, judged, item)
    good = [i for i, plate in enumerate(plates) if plate not in reasons or decided.get(plate) == "keep"]
    unfit = "" if good else f"no plate is good enough ({next(iter(reasons.values()))[7:]}, say), so all are sorted"
    if unfit:
        good, reasons = list(range(len(plates))), {}
    likeness = getattr(embed, "likeness", lambda cosines: np.clip(cosines, 0, 1))
    names = [plates[i] for i in good]
    views = Views(tools.root, [files[name] for name in names], vectors[good], likeness)
    shots = [name.rpartition("/")[0] for name in names]
    places = sort_places(vectors[good], shots, likeness, _rules(item), views.compare, views.confirm)
    sheet = _named(
        item,
        places,
        names,
        plates,
        vectors,
        good,
        likeness,
        {**gone, **{p: r for p, r in reasons.items() if p not in names}},
        embed,
    )
    said = getattr(embed, "said", "")
    if said:
        sheet.notices.append(said)
    if unfit:
        sheet.notices.append(unfit)
    return sheet


def _named(
    item: Item,
    places: Places,
    names: list[str],
    plates: list[str],
    vectors: np.ndarray,
    good: list[int],
    likeness: Any,
    reasons: dict[str, str],
    embed: Any,
) -> Sorted:
    groups = [[names[i] for i in group] for group in places.groups]
    centers = np.stack([vectors[good][list(group)].mean(0) for group in places.groups])
    centers /= np.linalg.norm(centers, axis=1, keepdims=True) + 1e-9
    fitting = _fitting(embed, centers, item)
    words = [word if share >= SURE else "" for word, share in fitting]
    scenes = naming.inherit(groups, item.hints["before"], item.payload["titles"], words)
    ids = [scenes.found[group[0]] for group in groups]
    scores = {name: float(score) for name, score in zip(names, places.scores, strict=True)}
    nearest = {name: ids[at] for name, at in zip(names, places.nearest.tolist(), strict=True)}
    for plate, vector in zip(plates, vectors, strict=True):
        if plate not in nearest:
            alike = likeness(centers @ vector)
            nearest[plate], scores[plate] = ids[int(alike.argmax())], float(alike.max())
    for i, size in places.too_small.items():
        reasons[names[i]] = (
            f"noise: only {size} plates look like this, a scene needs {places.min_size}; "
            f"nearest {nearest[names[i]]} at {scores[names[i]]:.2f}"
        )
    found = Sorted(scenes, reasons, scores, nearest, words=dict(zip(ids, fitting, strict=False)))
    wanted = item.settings["cluster.min_cluster_size"]
    if places.min_size < wanted:
        found.notices.append(
            f"small film: a scene needs {places.min_size} plates here instead of cluster.min_cluster_size = {wanted}"
        )
    return found


def _fitting(embed: Any, centers: np.ndarray, item: Item) -> list[tuple[str, float]]:
    """Per scene the word of `cluster.titles` that fits it best, with its share; empty where nobody can tell."""
    words = item.settings.get("cluster.titles", ())
    return embed.titles(centers, words) if words and hasattr(embed, "titles") else []


def _rules(item: Item) -> Rules:
    read = item.settings
    return Rules(read["cluster.min_cluster_size"], read["cluster.min_samples"], read["cluster.similarity_threshold"])


def _told(words: str) -> str:
    reason = words.partition(": ")[2]
    return f"{DROPPED}: {reason}" if reason else DROPPED


def _pictures(tools: Tools, files: Sequence[str], judged: list[Judgement]) -> Iterator[np.ndarray]:
    """Reads plates one after another; what they are worth is noted on the way."""
    for done, file in enumerate(files):
        picture = read_picture(tools.root / file)
        judged.append(judge(picture))
        tools.progress(done, len(files), "plates looked at")
        yield picture


def _bad(plates: Sequence[str], judged: Sequence[Judgement], item: Item) -> dict[str, str]:
    """Plates that no scene should hold, with the reason."""
    sharp: dict[str, list[float]] = {}
    for plate, one in zip(plates, judged, strict=True):
        sharp.setdefault(plate.rpartition("/")[0], []).append(one.sharpness)
    least = {shot: item.settings["cluster.min_sharpness"] * float(np.median(all_)) for shot, all_ in sharp.items()}
    found: dict[str, str] = {}
    for plate, one in zip(plates, judged, strict=True):
        share = item.payload["guessed"].get(plate)
        if share is not None:
            found[plate] = f"noise: {share:.0%} of it is a guess"
        elif one.fault:
            found[plate] = f"noise: {one.fault}"
        elif one.sharpness < least[plate.rpartition("/")[0]]:
            found[plate] = "noise: blurred beside the other plates of its shot"
    return found
