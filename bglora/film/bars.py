"""Black letterbox bars: rows and columns at the edges that stay black over a whole source.

Seen on the brightest value that each pixel ever has: bars keep a mean under 20 grey levels there with an edge of one or
two mixed rows, while a picture's own dark edge brightens gradually or in some frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_BLACK = 20.0  # mean of the brightest values of a row of a bar at most
_LIT = 48.0  # mean that is reached within a few rows behind a bar
_EDGE = 4  # rows from the bar to the picture at most
_LEAST = 0.4  # share of height and width that a picture fills at least

Crop = tuple[int, int, int, int]
"""Rows and columns to cut off: top, bottom, left, right."""


class BarWatch:
    """Gathers the brightest value of each pixel at full size; a few frames a second are enough."""

    def __init__(self) -> None:
        self._brightest: np.ndarray | None = None

    def add(self, luma: np.ndarray) -> None:
        """Takes in one frame, uint8 (H, W), full range."""
        import numpy as np

        if self._brightest is None:
            self._brightest = luma.copy()
        elif self._brightest.shape == luma.shape:
            np.maximum(self._brightest, luma, out=self._brightest)

    def bars(self) -> Crop:
        """What to cut off; zeros where there are no bars."""
        if self._brightest is None:
            return 0, 0, 0, 0
        rows = self._brightest.mean(axis=1)
        top, bottom = _dark(rows), _dark(rows[::-1])
        inner = self._brightest[top : len(rows) - bottom]
        columns = inner.mean(axis=0) if len(inner) else rows[:0]
        left, right = _dark(columns), _dark(columns[::-1])
        height, width = len(rows) - top - bottom, len(columns) - left - right
        if height < _LEAST * len(rows) or width < _LEAST * self._brightest.shape[1]:
            return 0, 0, 0, 0
        return top, bottom, left, right


def _dark(means: np.ndarray) -> int:
    """Entries at the beginning that are black up to a sharp edge; 0 if there is none."""
    import numpy as np

    lit = np.flatnonzero(means > _BLACK)
    if not len(lit):
        return 0
    dark = int(lit[0])
    return dark if dark and float(means[dark : dark + _EDGE].max()) >= _LIT else 0
