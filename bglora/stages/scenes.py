"""Scenes that keep their names: ids and titles passed on from one clustering to the next, and what a person decided.

What is passed on stands in scenes.json:

    {"scenes":  [{"id", "title", "plates"}],
     "noise":   [plates],
     "moved":   {plate: scene that clustering put it in}   where a merge or split put it elsewhere
     "split":   [{"scene", "plates", "id"}]                the id that each split got
     "retired": [{"id", "title", "plates", "into"?}]       scenes that are no more; their ids are never used again
     "words":   {scene: [word, share]}                     what each shows most likely, where words were compared
     "next":    number of the next new id}

Inheritance goes by what clustering found, before merges and splits: a merged scene's halves are found again as such,
and undoing the decision gives back both ids.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bglora.errors import UserError


@dataclass
class Scenes:
    """All scenes of a project while they are being sorted.

    Attributes:
        plates: scene id to its plates, sorted.
        titles: scene id to title; also of scenes that were.
        found: plate to the scene that clustering put it in.
        splits: the id that each split got.
        merged: id of a scene that a merge took away to the scene it went into.
        unused: decisions that found nothing to do, in words.
        next: number of the next new id.
    """

    plates: dict[str, list[str]]
    titles: dict[str, str]
    found: dict[str, str]
    next: int
    splits: list[dict[str, Any]] = field(default_factory=list)
    merged: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def new_id(self) -> str:
        self.next += 1
        return f"scene-{self.next - 1:02d}"


def inherit(
    groups: Sequence[Sequence[str]],
    before: Mapping[str, Any],
    sources: Mapping[str, str],
    words: Sequence[str] = (),
) -> Scenes:
    """Gives each group the id of the old scene with which it shares most plates, else a new one.

    Args:
        groups: plates of each place.
        before: content of the scenes.json before; empty the first time.
        sources: source name to title, for titles of new scenes.
        words: per group what it shows (`beach`), the title of a new scene; empty, or none at all: after its source.
    """
    known = _known(before)
    titles = {one["id"]: one["title"] for one in (*before.get("retired", ()), *before.get("scenes", ()))}
    number = max([int(before.get("next", 0)), *(_number(name) + 1 for name in titles)])
    scenes = Scenes({}, titles, {}, number)
    taken = _matched(groups, known)
    for place, group in enumerate(groups):
        name = taken.get(place) or scenes.new_id()
        scenes.plates[name] = sorted(group)
        scenes.found.update(dict.fromkeys(group, name))
        if name not in titles:
            word = words[place] if words else ""
            titles[name] = _free(word, titles.values()) if word else _new_title(group, sources, titles.values())
    return scenes


def decide(
    scenes: Scenes, decisions: Iterable[Mapping[str, Any]], before: Mapping[str, Any], out: set[str] | None = None
) -> None:
    """Applies merges, splits and moves in the order they were decided.

    Args:
        decisions: `{"merge": [ids], "into": id}`, `{"split": id, "plates": [patterns]}` or
            `{"move": [patterns], "into": id}`.
        out: plates that are in no scene and may be moved into one; those that are moved are taken out of it.
    """
    ids = {(one["scene"], tuple(one["plates"])): one["id"] for one in before.get("split", ())}
    for one in decisions:
        if "split" in one:
            _split(scenes, one["split"], list(one["plates"]), ids)
        elif "move" in one:
            _move(scenes, list(one["move"]), one["into"], set() if out is None else out)
        else:
            _merge(scenes, list(one["merge"]), one["into"])


def give_back(scenes: Scenes, plate: str, scene: str) -> None:
    """Puts a plate that was noise into a scene because a person keeps it."""
    scenes.plates[scene] = sorted({*scenes.plates[scene], plate})
    scenes.found[plate] = scene


def summary(
    scenes: Scenes, noise: Sequence[str], before: Mapping[str, Any], renames: Mapping[str, str]
) -> dict[str, Any]:
    """The content of scenes.json."""
    titles = {**scenes.titles, **renames}
    alive: list[dict[str, Any]] = [
        {"id": name, "title": titles[name], "plates": sorted(scenes.plates[name])}
        for name in sorted(scenes.plates, key=_number)
        if scenes.plates[name]
    ]
    moved = {
        plate: scenes.found[plate]
        for scene in alive
        for plate in scene["plates"]
        if scenes.found.get(plate, scene["id"]) != scene["id"]
    }
    content: dict[str, Any] = {"scenes": alive, "noise": sorted(noise), "next": scenes.next}
    if moved:
        content["moved"] = dict(sorted(moved.items()))
    if scenes.splits:
        content["split"] = scenes.splits
    retired = _retired(scenes, {scene["id"] for scene in alive}, before, titles)
    if retired:
        content["retired"] = retired
    return content


def _known(before: Mapping[str, Any]) -> list[tuple[str, set[str]]]:
    """Old scenes as clustering found them, living ones first."""
    found: dict[str, set[str]] = {}
    moved = before.get("moved", {})
    for scene in before.get("scenes", ()):
        for plate in scene["plates"]:
            found.setdefault(moved.get(plate, scene["id"]), set()).add(plate)
    living = sorted(found.items(), key=lambda pair: _number(pair[0]))
    return living + [(one["id"], set(one["plates"])) for one in before.get("retired", ()) if one["id"] not in found]


def _matched(groups: Sequence[Sequence[str]], known: list[tuple[str, set[str]]]) -> dict[int, str]:
    """Group to old id: most shared plates first, each used once."""
    place_of = {plate: place for place, group in enumerate(groups) for plate in group}
    shared = []
    for rank, (name, plates) in enumerate(known):
        counts = Counter(place_of[plate] for plate in plates if plate in place_of)
        shared += [(-count, rank, place, name) for place, count in counts.items()]
    taken: dict[int, str] = {}
    used: set[str] = set()
    for _, _, place, name in sorted(shared):
        if place not in taken and name not in used:
            taken[place] = name
            used.add(name)
    return taken


def _split(scenes: Scenes, scene: str, patterns: list[str], ids: Mapping[tuple[str, tuple[str, ...]], str]) -> None:
    there = scenes.plates.get(scene, [])
    out = [plate for plate in there if any(fnmatchcase(plate, pattern) for pattern in patterns)]
    if not out or len(out) == len(there):
        scenes.unused.append(f"split of {scene}: {'none' if not out else 'all'} of its plates match")
        return
    name = ids.get((scene, tuple(patterns))) or scenes.new_id()
    scenes.titles.setdefault(name, f"{scenes.titles.get(scene, scene)} (part)")
    scenes.plates[name] = out
    scenes.plates[scene] = [plate for plate in there if plate not in set(out)]
    scenes.splits.append({"scene": scene, "plates": patterns, "id": name})


def _move(scenes: Scenes, patterns: list[str], into: str, out: set[str]) -> None:
    while into in scenes.merged:
        into = scenes.merged[into]
    if into not in scenes.plates:
        scenes.unused.append(f"move into {into}: there is no {into} now")
        return
    moved = 0
    for place in (*(name for name in scenes.plates if name != into), ""):
        there = scenes.plates[place] if place else sorted(out)
        going = [plate for plate in there if any(fnmatchcase(plate, pattern) for pattern in patterns)]
        if not going:
            continue
        moved += len(going)
        scenes.plates[into] = sorted({*scenes.plates[into], *going})
        if place:
            scenes.plates[place] = [plate for plate in there if plate not in set(going)]
        else:
            out -= set(going)
            scenes.found.update(dict.fromkeys(going, into))
    if not moved:
        scenes.unused.append(f"move into {into}: no plate outside it matches")


def _merge(scenes: Scenes, others: list[str], into: str) -> None:
    for other in others:
        if into not in scenes.plates or other not in scenes.plates or other == into:
            missing = into if into not in scenes.plates else other
            scenes.unused.append(f"merge of {other} into {into}: there is no {missing} now")
            continue
        scenes.plates[into] = sorted(scenes.plates[into] + scenes.plates.pop(other))
        scenes.merged[other] = into


def _retired(
    scenes: Scenes, alive: set[str], before: Mapping[str, Any], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    gone = {one["id"]: list(one["plates"]) for one in (*before.get("retired", ()), *before.get("scenes", ()))}
    gone.update({name: [] for name in scenes.merged})
    found: list[dict[str, Any]] = []
    for name in sorted(set(gone) - alive, key=_number):
        entry = {"id": name, "title": titles.get(name, name), "plates": gone[name]}
        if name in scenes.merged:
            entry["into"] = scenes.merged[name]
        found.append(entry)
    return found


def _new_title(group: Sequence[str], sources: Mapping[str, str], used: Iterable[str]) -> str:
    """`harbor 1`: the source that most plates come from, and the first number that is free."""
    source = Counter(source_of(plate) for plate in sorted(group)).most_common(1)[0][0]
    stem, there = sources.get(source, source), set(used)
    number = 1
    while f"{stem} {number}" in there:
        number += 1
    return f"{stem} {number}"


def _free(word: str, used: Iterable[str]) -> str:
    """`beach`, or `beach 2` where that is taken."""
    there, number, title = set(used), 1, word
    while title in there:
        number += 1
        title = f"{word} {number}"
    return title


def source_of(plate: str) -> str:
    """`harbor-s003/000060` to `harbor`."""
    return plate.rpartition("/")[0].rpartition("-s")[0]


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def read_scenes(path: Path) -> Mapping[str, Any]:
    """What scenes.json says; empty where there is none.

    Raises:
        UserError: a person edited it and it can't be read any more.
    """
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for scene in (*content["scenes"], *content.get("retired", ())):
            if not isinstance(scene["plates"], list) or not isinstance(scene["id"] + scene["title"], str):
                raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            "The scenes of the clustering before can't be read, so their ids and titles can't be passed on.",
            where=str(path),
            cure="Mend the file, or delete it: scenes are then numbered anew.",
        ) from None
    return content
