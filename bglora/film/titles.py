"""Which frames carry letters: looked for now and then, followed frame by frame once found.

letters   ______________________          how much lighter (or darker) the pixels of the letters are
         |                      \\____     than those next to them; found at x, followed both ways
looked       x     x     x     x
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bglora.film.lettering import find_letters

if TYPE_CHECKING:
    import numpy as np

_EVERY = 12  # frames from one look to the next
_MEMORY = 60  # frames that letters are followed back
_THERE = 0.3  # share of the strength when found; less is not these letters
_GONE = 0.12  # share of the greatest strength at which letters have faded out
_SEEN = 0.2  # share of the looks that must see letters while they are followed


class TitleWatch:
    """Finds runs of frames with letters. Call `add` for each frame in order and `finish` at the end."""

    def __init__(self) -> None:
        self._recent: deque[np.ndarray] = deque(maxlen=_MEMORY)
        self._count = 0
        self._letters: _Letters | None = None
        self._runs: list[tuple[int, int]] = []
        self._rolling: int | None = None

    def add(self, working: np.ndarray) -> None:
        """Takes in one frame, uint8 luma (h, w); frames of another size end a title."""
        if self._recent and self._recent[-1].shape != working.shape:
            self._close()
            self._recent.clear()
        number = self._count
        self._count += 1
        self._recent.append(working)
        if self._letters is not None and not self._letters.still_in(working):
            self._close()
        if number % _EVERY == 0:
            self._look(working, number)

    def add_missing(self) -> None:
        """Takes in a frame that could not be read."""
        self._count += 1

    def finish(self) -> list[tuple[int, int]]:
        """Runs (first, last) of frames that carry letters, in order, apart from each other."""
        self._close()
        merged: list[tuple[int, int]] = []
        for first, last in sorted(self._runs):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged

    def _look(self, working: np.ndarray, number: int) -> None:
        mask = find_letters(working)
        if self._letters is not None:
            self._letters.looked(mask is not None)
        if mask is None:
            self._rolling = None
            return
        if self._letters is None:
            self._letters = _Letters(mask, working, number)
            self._letters.follow_back(self._recent)
        if self._rolling is not None:  # two looks in a row saw letters: credits that roll are never still
            self._runs.append((self._rolling, number))
        self._rolling = number

    def _close(self) -> None:
        if self._letters is not None and self._letters.trusted:
            self._runs.append((self._letters.first, self._count - 1 - (not self._letters.present)))
        self._letters = None


class _Letters:
    """Letters that stand still, from when they come until they are gone."""

    def __init__(self, mask: np.ndarray, working: np.ndarray, number: int) -> None:
        import cv2
        import numpy as np

        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        wider = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        self._inside, self._around = np.flatnonzero(mask), np.flatnonzero(wider & ~near)
        self.first = self._found = number
        self._strength = self._greatest = self._measure(working)
        self._looks = self._seen = 1
        self.present = True

    @property
    def trusted(self) -> bool:
        """True if they were seen in more than one look, and in a fair share of all."""
        return self._seen >= min(2, self._looks) and self._seen >= _SEEN * self._looks

    def looked(self, seen: bool) -> None:
        self._looks += 1
        self._seen += seen

    def follow_back(self, recent: deque[np.ndarray]) -> None:
        """Moves `first` back to where the letters came."""
        for back, working in enumerate(reversed(recent)):
            if self._measure(working) / self._strength < _THERE:
                return
            self.first = self._found - back

    def still_in(self, working: np.ndarray) -> bool:
        strength = self._measure(working) / self._strength
        self._greatest = max(self._greatest, strength * self._strength, key=abs)
        self.present = strength > _GONE * self._greatest / self._strength
        return self.present

    def _measure(self, working: np.ndarray) -> float:
        values = working.ravel()
        difference = float(values[self._inside].mean()) - float(values[self._around].mean())
        return difference or 1e-3
