"""Which plates of a scene are trained on, and under which trigger: pure choices, no files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

VOWELS = "aeiou"
ENOUGH = 8
"""Plates that a shot may give to a scene even where the other shots have fewer."""
LETTERS = 6
"""Letters that the film's name has in a trigger, at most."""


@dataclass(frozen=True)
class Candidate:
    """A plate that might be trained on.

    Attributes:
        name: `harbor-s003/000060`.
        sharpness: variance of the Laplacian at the working size.
        guessed: share of it, 0 to 1, that is a guess.
        thumb: float32 (36, 64, 3), 0 to 255, to tell copies by.
        vector: its descriptor, length 1.
    """

    name: str
    sharpness: float
    guessed: float
    thumb: np.ndarray
    vector: np.ndarray

    @property
    def shot(self) -> str:
        return self.name.rpartition("/")[0]


@dataclass(frozen=True)
class Choice:
    """Names of plates to train on and to validate with, and why each other one stays out."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    left: Mapping[str, str]


def choose(candidates: Sequence[Candidate], target: int, min_difference: float, held_out: float) -> Choice:
    """Chooses plates: near copies leave, then what one shot has too many of, then the best `target` that are far apart;
    of these, some are held out."""
    left: dict[str, str] = {}
    single = _balanced(_without_copies(candidates, min_difference, left), left)
    chosen = _far_apart(single, target)
    for one in single:
        if one.name not in chosen:
            left[one.name] = f"not among the {target} most different plates"
    validation = hold_out(sorted(chosen), held_out)
    return Choice(tuple(sorted(chosen - set(validation))), validation, left)


def hold_out(names: Sequence[str], share: float) -> tuple[str, ...]:
    """Plates to validate with: a whole shot of about that share if there is one, else plates spread over all.

    None below four plates; at least one from there on.
    """
    if share <= 0 or len(names) < 4:
        return ()
    count = max(1, round(share * len(names)))
    shots: dict[str, list[str]] = {}
    for name in names:
        shots.setdefault(name.rpartition("/")[0], []).append(name)
    fitting: list[list[str]] = [plates for plates in shots.values() if count / 2 <= len(plates) <= 1.5 * count]
    if len(shots) >= 4 and fitting:
        return tuple(sorted(fitting, key=lambda plates: (abs(len(plates) - count), plates[0]))[0])
    return tuple(names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count))


def triggers(project: str, titles: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A trigger for each scene: a person's own by scene id, else made from project and title; all different.

    `harbor` and `harbor 1` give `hrbr_1`; `harbor` and `The pier` give `hrbr_the_pier`.
    """
    made: dict[str, str] = dict(own)
    taken = {trigger.casefold() for scene, trigger in own.items() if scene in titles}
    for scene, title in titles.items():
        if scene in own:
            continue
        trigger = _trigger(project, title) or scene.replace("-", "_")
        if trigger.casefold() in taken:
            trigger = f"{trigger}_{scene.rpartition('-')[2]}"
        taken.add(trigger.casefold())
        made[scene] = trigger
    return {scene: made[scene] for scene in titles}


def folder_name(repeats: int, trigger: str) -> str:
    """`5_hrbr_pier`: kohya's folder name; what no file system takes is left out of the trigger."""
    return f"{repeats}_{re.sub(r'[^A-Za-z0-9._-]+', '_', _plain(trigger)).strip('._') or 'scene'}"


def _trigger(project: str, title: str) -> str:
    film, words = re.findall(r"[a-z0-9]+", _plain(project)), re.findall(r"[a-z0-9]+", _plain(title))
    rest = words[len(film) :] if film and words[: len(film)] == film else words
    short = _squeezed("".join(film))
    return "_".join(part for part in (short, *rest) if part) if rest else ""


def _squeezed(word: str) -> str:
    """The word without its vowels after the first letter: short, and nothing that a base model knows."""
    short = word[:1] + "".join(letter for letter in word[1:] if letter not in VOWELS)
    return (short if len(short) >= 3 else word)[:LETTERS]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()


def _without_copies(candidates: Sequence[Candidate], least: float, left: dict[str, str]) -> list[Candidate]:
    """Of plates of a shot that differ by less than `least` grey levels, the least guessed and sharpest stays."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (round(c.guessed, 3), -c.sharpness, c.name)):
        copy = next((k for k in kept if k.shot == one.shot and float(np.abs(k.thumb - one.thumb).mean()) < least), None)
        if copy is None:
            kept.append(one)
        else:
            left[one.name] = f"near copy of {copy.name}"
    return sorted(kept, key=lambda c: c.name)


def _balanced(candidates: Sequence[Candidate], left: dict[str, str]) -> list[Candidate]:
    """No shot gives more plates than all the others together, beyond `ENOUGH`.

    Along a slow move of the camera, plates differ a little from one to the next without showing another view; many of
    them would make the LoRA one of that view. Of such a shot, those that are farthest apart stay.
    """
    shots: dict[str, list[Candidate]] = {}
    for one in candidates:
        shots.setdefault(one.shot, []).append(one)
    kept: list[Candidate] = []
    for shot, plates in shots.items():
        others = len(candidates) - len(plates)
        share = max(ENOUGH, others) if others else len(plates)
        chosen = _far_apart(plates, share)
        kept += [one for one in plates if one.name in chosen]
        why = f"{shot} has given its share: {share} plates, the other shots {others}"
        left.update((one.name, why) for one in plates if one.name not in chosen)
    return sorted(kept, key=lambda c: c.name)


def _far_apart(candidates: Sequence[Candidate], target: int) -> set[str]:
    """Greedy farthest points, weighted by worth: sharp plates with few guesses first."""
    if len(candidates) <= target:
        return {one.name for one in candidates}
    vectors = np.stack([one.vector for one in candidates])
    sharp = np.array([one.sharpness for one in candidates])
    worth = (0.5 + 0.5 * np.clip(sharp / (np.median(sharp) + 1e-9), 0, 1)) * (
        1 - np.array([min(one.guessed, 0.9) for one in candidates])
    )
    chosen = [int(worth.argmax())]
    distance = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < target:
        rated = distance * worth
        rated[chosen] = -1
        chosen.append(int(rated.argmax()))
        distance = np.minimum(distance, 1 - vectors @ vectors[chosen[-1]])
    return {candidates[i].name for i in chosen}
