"""Black letterbox bars: rows and columns at the edges that stay black over a whole source."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bglora.film.survey import Survey


def find_bars(survey: Survey, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows and columns to cut off: (top, bottom, left, right)."""
    return 0, 0, 0, 0
