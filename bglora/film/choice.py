"""Which frames of a shot are kept.

With the character gone a still shot is one picture, and a pan is many: of the sharpest frame of each stretch those are
taken that show something which the ones taken so far do not, the most telling first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bglora.film.shots import LeftOut, Shot

if TYPE_CHECKING:
    from bglora.film.survey import Survey

_NEW = 0.12  # share of the view that a frame must add
_CHANGED = 24.0  # grey levels by which a place of the thumbnail looks different
_CHARACTERS = 0.5  # share of the view that characters may change without making it another view
_SOFT = 0.5  # a frame is no blurred one if it has this share of the sharpness that its shot has anyway


@dataclass(frozen=True)
class Rule:
    """How frames are chosen; fields as in the manifest's `[ingest]`."""

    fps: float
    min_per_shot: int
    max_per_shot: int
    blur_threshold: float


@dataclass(frozen=True)
class Choice:
    """Numbers of frames of one shot, each ascending: kept, and passed over for blur or because they add nothing."""

    kept: tuple[int, ...]
    blurred: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()

    def noted_in(self, shot: Shot) -> Shot:
        """The shot with the passed over frames among those that are left out."""
        parts = [*shot.left_out]
        parts += [LeftOut(number, number, "blur") for number in self.blurred]
        parts += [LeftOut(number, number, "duplicate") for number in self.repeated]
        return replace(shot, left_out=tuple(sorted(parts, key=lambda part: part.first)))


def choose(shot: Shot, survey: Survey, rule: Rule, layered: Collection[int] = ()) -> Choice:
    """Chooses frames of a shot; those in `shot.left_out` and those that could not be read never.

    With `rule.fps` 0 every other frame is kept, also blurred and equal ones, and `max_per_shot` alone limits them.
    Otherwise frames that an earlier segmentation left layers of (`layered`) are the only candidates of their shot.
    """
    out = {number for part in shot.left_out for number in range(part.first, part.last + 1)} | survey.failed
    usable = [number for number in range(shot.first, shot.last + 1) if number not in out]
    if rule.fps == 0 or not usable:
        return Choice(tuple(_spread(usable, rule.max_per_shot)))
    usable = [number for number in usable if number in layered] or usable
    candidates = _sharpest_of_stretches(usable, survey, rule.fps)
    limit = min(rule.blur_threshold, _SOFT * float(np.percentile([survey.sharpness[n] for n in usable], 90)))
    sharp = [number for number in candidates if survey.sharpness[number] >= limit]
    kept = _adding(sharp, shot, survey, rule.max_per_shot)
    kept = _at_least(kept, sharp, rule.min_per_shot)
    kept = _at_least(kept, sorted(usable, key=lambda number: -survey.sharpness[number]), rule.min_per_shot)
    passed = [number for number in candidates if number not in kept]
    return Choice(
        tuple(sorted(kept)),
        tuple(number for number in passed if number not in sharp),
        tuple(number for number in passed if number in sharp),
    )


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of the numbers (0: all), evenly spread."""
    if not most or len(numbers) <= most:
        return list(numbers)
    return [numbers[int((place + 0.5) * len(numbers) / most)] for place in range(most)]


def _sharpest_of_stretches(usable: Sequence[int], survey: Survey, fps: float) -> list[int]:
    """The sharpest frame of each 1/fps seconds."""
    best: dict[int, int] = {}
    start = survey.times[usable[0]]
    for number in usable:
        stretch = math.floor((survey.times[number] - start) * fps + 1e-6)
        if stretch not in best or survey.sharpness[number] > survey.sharpness[best[stretch]]:
            best[stretch] = number
    return [best[stretch] for stretch in sorted(best)]


def _at_least(kept: list[int], others: Sequence[int], least: int) -> list[int]:
    """Adds others until there are enough: of equals the one farthest from those that are there."""
    filled, left = list(kept), [number for number in others if number not in kept]
    while left and len(filled) < least:
        far = max(left, key=lambda number: min((abs(number - there) for there in filled), default=0))
        left.remove(far)
        filled.append(far)
    return filled


def _adding(candidates: Sequence[int], shot: Shot, survey: Survey, most: int) -> list[int]:
    """Candidates one by one, each time the one that adds most, while it adds enough; `most` of them (0: any number)."""
    if not candidates:
        return []
    views = _Views(shot, survey)
    first = max(candidates, key=lambda number: (survey.sharpness[number], -number))
    taken = [first]
    adds = {number: views.new(number, first) for number in candidates if number != first}
    while adds and (not most or len(taken) < most):
        best = max(adds, key=lambda number: (adds[number], -number))
        if adds.pop(best) < _NEW:
            break
        taken.append(best)
        for number in adds:
            adds[number] = min(adds[number], views.new(number, best))
    return taken


class _Views:
    """What the frames of a shot see, from the camera's way through it and from thumbnails."""

    def __init__(self, shot: Shot, survey: Survey) -> None:
        steps = np.array(survey.camera[shot.first : shot.last + 1], np.float64).reshape(-1, 3)
        steps[0] = 0
        self._first = shot.first
        self._way = np.cumsum(steps, axis=0)
        self._survey = survey

    def new(self, number: int, other: int) -> float:
        """Share of the view of one frame, 0 to 1, that another one doesn't show."""
        across, down, closer = np.abs(self._way[number - self._first] - self._way[other - self._first])
        height, width = self._survey.thumb(number).shape
        shared = max(0.0, 1 - across) * max(0.0, 1 - down * width / height) * math.exp(-closer)
        return max(1 - shared, self._changed(number, other) - _CHARACTERS)

    def _changed(self, number: int, other: int) -> float:
        one, two = (self._survey.thumb(place).astype(np.float32) for place in (number, other))
        return float((np.abs(one - two) > _CHANGED).mean())
