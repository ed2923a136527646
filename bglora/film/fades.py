"""Fades: to and from black, white or any plain color.

    luma          plateau ______
                         /      \\           a ramp between a plain (or nearly black) frame and the level
       plain  __________/        \\____      that the picture then keeps
              ^anchor   ^end      ^anchor

A fade is looked for from its plain end, the anchor: a run of plain frames, or a nearly black frame at the end of a
shot. From there it goes on for as long as the mean luma moves on about as fast as it did so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bglora.film.survey import Survey

_BLACK = 20.0  # mean luma of a black frame at most
_NEARLY = 0.25  # share of the plateau's contrast and luma that a shot which fades out may end with
_SLOWER = 0.25  # share of the ramp's mean slope below which it is over
_RISE = 5.0  # grey levels from the plain frame to the end of the ramp at least
_SHORTEST = 3


@dataclass(frozen=True)
class Plain:
    """A run of frames `first` to `last` inclusive that show nothing."""

    first: int
    last: int
    luma: float

    @property
    def black(self) -> bool:
        return self.luma <= _BLACK


@dataclass(frozen=True)
class Fade:
    """Frames `first` to `last` inclusive, without the plain ones."""

    first: int
    last: int


def find_plain(survey: Survey) -> list[Plain]:
    """Runs of plain frames, in order; what flickers between two of them and shows nothing either joins them."""
    runs: list[tuple[int, int]] = []
    for number, light in enumerate(survey.light):
        if not light.plain:
            continue
        if runs and not shows(survey, runs[-1][1] + 1, number):
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return [
        Plain(first, last, float(np.mean([light.mean for light in survey.light[first : last + 1]])))
        for first, last in runs
    ]


def shows(survey: Survey, first: int, after: int) -> bool:
    """True if one of the frames from `first` on, before `after`, shows something."""
    return any(light.shows for light in survey.light[first:after])


def fade_after(survey: Survey, start: int, end: int, luma: float, second: int) -> Fade | None:
    """The fade-in that begins at frame `start` and is over before `end` (inclusive); None if there is none.

    Args:
        luma: of the plain frames before `start`.
        second: frames in a second.
    """
    length = _ramp(survey, range(start, end + 1), luma, second)
    return Fade(start, start + length - 1) if length >= _SHORTEST else None


def fade_before(survey: Survey, start: int, end: int, luma: float, second: int) -> Fade | None:
    """The fade-out that ends at frame `start` and begins after `end` (inclusive, `end` < `start`); as `fade_after`."""
    length = _ramp(survey, range(start, end - 1, -1), luma, second)
    return Fade(start - length + 1, start) if length >= _SHORTEST else None


def ends_dark(survey: Survey, first: int, last: int, at_end: bool) -> bool:
    """True if a shot's first (or last) frame is next to black, far below what the shot shows otherwise."""
    edge = survey.light[last if at_end else first]
    inner = survey.light[first : last + 1]
    contrast = float(np.percentile([light.contrast for light in inner], 75))
    mean = float(np.percentile([light.mean for light in inner], 75))
    return edge.mean < _BLACK and edge.mean < _NEARLY * mean and edge.contrast < _NEARLY * contrast


def _ramp(survey: Survey, way: range, luma: float, second: int) -> int:
    """Frames from the anchor outward until the mean luma no longer moves away from the plain one as it did so far."""
    distance = np.array([abs(survey.light[number].mean - luma) for number in way])
    window = max(3, second // 4)
    for place in range(2, len(distance)):
        ahead = distance[place + 1 : place + 1 + window]
        if len(ahead) < 2:
            break
        so_far = distance[place] / (place + 1)
        onward = (float(np.median(ahead)) - distance[place]) / ((len(ahead) + 1) / 2)
        if onward < _SLOWER * so_far:
            grown = distance[0] < _NEARLY * distance[place] and distance[place] > _RISE
            return place + 2 if grown else 0
    return len(distance) if len(distance) and distance[0] < _NEARLY * distance[-1] and distance[-1] > _RISE else 0
