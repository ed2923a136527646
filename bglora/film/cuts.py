"""Hard cuts: frames that show another view than the frame before, all at once.

A cut stands out from the frames around it: fast pans, fights and noise in the dark change much as well, but in every
frame. Where the old view is back within a few frames it was a flash, not a cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bglora.film.survey import MUCH

if TYPE_CHECKING:
    from bglora.film.survey import Survey

_AROUND = 5


def find_cuts(survey: Survey) -> list[int]:
    """Numbers of the frames that begin a new shot by a hard cut, ascending; 0 is not among them."""
    return sorted({number for number in range(1, len(survey)) if _is_cut(survey, number)} | survey.breaks)


def _is_cut(survey: Survey, number: int) -> bool:
    change = survey.change[number]
    if change < 1.2 * MUCH or survey.passing[number] < 0.6 * change:
        return False
    before, after = survey.light[number - 1], survey.light[number]
    if (before.plain and not after.shows) or (after.plain and not before.shows):
        return False  # the last step of a fade
    if _step(survey, number) < 0.4:
        return False  # the end of a dissolve, where the picture that comes is much darker than the one that goes
    neighbors = [survey.change[near] for near in (number - 1, number + 1) if 0 < near < len(survey)]
    wider = [
        survey.change[near]
        for near in range(max(1, number - _AROUND), min(len(survey), number + _AROUND + 1))
        if near != number
    ]
    usual = sorted(wider)[len(wider) * 3 // 4] if wider else 0.0
    return change > 1.6 * max(neighbors, default=0.0) + 0.02 and change > 1.6 * usual + 0.02


def _step(survey: Survey, number: int) -> float:
    """How much of the way from two frames earlier to two frames later is made in one step: about 1 for a cut."""
    early, late = max(0, number - 3), min(len(survey) - 1, number + 2)
    step = _distance(survey.thumb(number), survey.thumb(number - 1))
    return step / (_distance(survey.thumb(late), survey.thumb(early)) + 1e-6)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.square(one.astype(np.float32) - other).mean()))
