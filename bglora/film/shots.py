"""Shots of a source: where they begin, and which of their frames are no pictures of a place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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
    """Frames `first` to `last` inclusive between two cuts."""

    first: int
    last: int
    begins_by: BeginsBy
    left_out: tuple[LeftOut, ...] = field(default=())


def find_shots(survey: Survey) -> list[Shot]:
    """The shots of a source, without gaps, in order."""
    import numpy as np

    thumbs = survey.thumbs().astype(np.float32).reshape(len(survey), -1)
    if not len(thumbs):
        return []
    centered = thumbs - thumbs.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centered, axis=1) + 60
    change = 1 - (centered[1:] * centered[:-1]).sum(axis=1) / (norm[1:] * norm[:-1])
    cuts = {0} | survey.breaks
    for place, value in enumerate(change):
        around = np.delete(change[max(0, place - 3) : place + 4], min(place, 3))
        if value > 0.2 and value > 3 * around.max(initial=0):
            cuts.add(place + 1)
    starts = sorted(cuts)
    return [
        Shot(first, after - 1, "start" if first == 0 else "cut")
        for first, after in zip(starts, [*starts[1:], len(thumbs)], strict=True)
    ]
