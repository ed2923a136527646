"""Which frames of a shot are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bglora.film.shots import Shot
    from bglora.film.survey import Survey


@dataclass(frozen=True)
class Rule:
    """How frames are chosen: fields as in the manifest's `[ingest]`."""

    fps: float
    min_per_shot: int
    max_per_shot: int
    blur_threshold: float


def choose(shot: Shot, survey: Survey, rule: Rule) -> list[int]:
    """Numbers of the frames of a shot that are kept, ascending."""
    out = {number for part in shot.left_out for number in range(part.first, part.last + 1)} | survey.failed
    usable = [number for number in range(shot.first, shot.last + 1) if number not in out]
    if rule.fps == 0:
        return usable
    kept: list[int] = []
    for number in usable:
        if not kept or survey.times[number] - survey.times[kept[-1]] >= 1 / rule.fps - 1e-6:
            kept.append(number)
    if rule.max_per_shot and len(kept) > rule.max_per_shot:
        kept = [
            kept[round(place * (len(kept) - 1) / max(1, rule.max_per_shot - 1))] for place in range(rule.max_per_shot)
        ]
    return kept
