"""Shots of a source: where they begin, and which of their frames are no pictures of a place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from bglora.film.cuts import find_cuts

if TYPE_CHECKING:
    from bglora.film.survey import Survey

Why = Literal["fade", "dissolve", "title", "black", "duplicate", "blur"]
BeginsBy = Literal["start", "cut", "fade", "dissolve"]


@dataclass(frozen=True)
class LeftOut:
    """Frames `first` to `last` inclusive that are not kept, and why."""

    first: int
    last: int
    why: Why

    def to_json(self) -> dict[str, Any]:
        return {"first": self.first, "last": self.last, "why": self.why}


@dataclass(frozen=True)
class Shot:
    """Frames `first` to `last` inclusive between two cuts; `left_out` in order, apart from each other."""

    first: int
    last: int
    begins_by: BeginsBy
    left_out: tuple[LeftOut, ...] = field(default=())


def find_shots(survey: Survey) -> list[Shot]:
    """The shots of a source, without gaps, in order.

    A fade through black or a plain color parts two shots, as a dissolve does: the new one begins after the last black
    frame, at the first frame of another color, at the first frame in which the second picture of a dissolve is the
    stronger one.
    """
    if not len(survey):
        return []
    marks = Marks(survey, find_cuts(survey))
    marks.mark_plain_and_fades()
    marks.mark_dissolves()
    marks.mark_titles()
    return marks.shots()


class Marks:
    """Gathers beginnings of shots and reasons to leave frames out."""

    def __init__(self, survey: Survey, cuts: list[int]) -> None:
        import numpy as np

        self._survey = survey
        self._begins: dict[int, BeginsBy] = {0: "start", **dict.fromkeys(cuts, "cut")}
        self._why: list[Why | None] = [None] * len(survey)
        steps = np.diff(survey.times)
        self._second = max(4, round(1 / float(np.median(steps)))) if len(steps) and np.median(steps) > 0 else 24

    def mark_plain_and_fades(self) -> None:
        """Black and plain frames, the ramps to and from them, and shots that end (nearly) in black."""
        from bglora.film.fades import ends_dark, fade_after, fade_before, find_plain, shows

        plain = find_plain(self._survey)
        for run in plain:
            self._mark(run.first, run.last, "black" if run.black else "fade")
            if shows(self._survey, 0, run.first) and shows(self._survey, run.last + 1, len(self._survey)):
                self._part(run.last + 1 if run.black else run.first, run.first, run.last + 1, "fade")
        blank = {number for run in plain for number in range(run.first, run.last + 1)}
        for first, last in self._spans(blank):
            before = next((run for run in plain if run.last + 1 == first), None)
            after = next((run for run in plain if run.first - 1 == last), None)
            if before or ends_dark(self._survey, first, last, at_end=False):
                fade = fade_after(self._survey, first, last, before.luma if before else 0.0, self._second)
                if fade:
                    self._mark(fade.first, fade.last, "fade")
            if after or ends_dark(self._survey, first, last, at_end=True):
                fade = fade_before(self._survey, last, first, after.luma if after else 0.0, self._second)
                if fade:
                    self._mark(fade.first, fade.last, "fade")

    def mark_dissolves(self) -> None:
        """Mixtures of two pictures, looked for where nothing else was found."""
        from bglora.film.dissolves import find_dissolves

        marked = {number for number, why in enumerate(self._why) if why}
        for first, last in self._spans(marked):
            for dissolve in find_dissolves(self._survey.thumbs(first, last)):
                self._mark(first + dissolve.first, first + dissolve.last, "dissolve")
                self._begins.setdefault(first + dissolve.middle, "dissolve")

    def mark_titles(self) -> None:
        """Frames with letters; black frames stay black."""
        for first, last in self._survey.titles():
            for number in range(first, last + 1):
                if self._why[number] != "black":
                    self._why[number] = "title"

    def shots(self) -> list[Shot]:
        starts = sorted(self._begins)
        ends = [start - 1 for start in starts[1:]] + [len(self._survey) - 1]
        return [
            replace(Shot(first, last, self._begins[first]), left_out=self._left_out(first, last))
            for first, last in zip(starts, ends, strict=True)
        ]

    def _mark(self, first: int, last: int, why: Why) -> None:
        for number in range(first, last + 1):
            self._why[number] = self._why[number] or why

    def _part(self, place: int, first: int, last: int, by: BeginsBy) -> None:
        """Begins a shot at `place`, unless a cut already parts the shots between `first` and `last`."""
        if not any(first <= start <= last for start in self._begins):
            self._begins[place] = by

    def _spans(self, without: set[int]) -> list[tuple[int, int]]:
        """Stretches (first, last) between beginnings of shots that have none of some frames."""
        spans: list[tuple[int, int]] = []
        first: int | None = None
        for number in range(len(self._survey) + 1):
            ends = number == len(self._survey) or number in without or number in self._begins
            if ends and first is not None:
                spans.append((first, number - 1))
                first = None
            if number < len(self._survey) and number not in without and first is None:
                first = number
        return spans

    def _left_out(self, first: int, last: int) -> tuple[LeftOut, ...]:
        parts: list[LeftOut] = []
        for number in range(first, last + 1):
            why = self._why[number]
            if why is None:
                continue
            if parts and parts[-1].last == number - 1 and parts[-1].why == why:
                parts[-1] = replace(parts[-1], last=number)
            else:
                parts.append(LeftOut(number, number, why))
        return tuple(parts)
