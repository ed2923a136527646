"""The first look at a source: one pass over all its frames at a small size.

It keeps about 1.7 kB a frame (220 MB for 90 minutes at 24 frames per second); pictures are not held.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bglora.film.change import Change, Comparison
from bglora.film.titles import TitleWatch

if TYPE_CHECKING:
    import numpy as np

THUMB = (27, 48)
"""(height, width) of the thumbnails that are kept of every frame."""
WORKING_AREA = 512 * 288
"""Pixels of the working picture, on which sharpness, letters and bars are measured; smaller frames are not enlarged."""

CHUNK = 4096
"""Thumbnails that lie in one piece of memory."""
LOOK_AHEAD = 5
"""Frames after a change in which the old view may come back."""
MUCH = 0.25
"""Change from which on a cut is possible."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the working picture of a frame of this size; the aspect is kept."""
    scale = min(1.0, math.sqrt(WORKING_AREA / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, slots=True)
class Light:
    """Luma of one frame, bars left out, 0 to 255: mean, standard deviation, and the range of all but 0.2 % of it."""

    mean: float
    contrast: float
    darkest: float
    brightest: float

    @property
    def plain(self) -> bool:
        """True for a frame that shows nothing: black, white, any one color."""
        return self.contrast < 1.6 and self.brightest - self.darkest < 12

    @property
    def shows(self) -> bool:
        """True for a frame that shows something clearly."""
        return self.brightest - self.darkest >= 32


class Survey:
    """What was seen of a source, frame after frame. Call `add` for each frame in order."""

    def __init__(self) -> None:
        self._thumbs: list[np.ndarray] = []
        self._count = 0
        self.times: array[float] = array("d")
        """Seconds of each frame from the first one's."""
        self.sharpness: array[float] = array("d")
        """Variance of the Laplacian of the working picture, bars left out; 0 for a frame that could not be read."""
        self.light: list[Light] = []
        self.change: array[float] = array("d")
        """What is new in each frame since the one before (`change.py`); 0 for the first."""
        self.camera: list[tuple[float, float, float]] = []
        """How the camera moved since the frame before: (across, down, closer), see `change.Comparison`."""
        self.passing: array[float] = array("d")
        """For a frame with much change: the least change of one of the next frames against the one before it, and of
        it against earlier ones. Small at both ends of a flash: the old view is back soon."""
        self.failed: set[int] = set()
        """Numbers of frames that could not be read."""
        self.breaks: set[int] = set()
        """Numbers of frames whose size differs from the one before: a shot cannot go on over them."""
        self._brightest: np.ndarray | None = None
        self._change = Change()
        self._titles = TitleWatch()
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=LOOK_AHEAD + 1)

    def __len__(self) -> int:
        return self._count

    def add(self, working: np.ndarray, time: float) -> None:
        """Takes in one frame.

        Args:
            working: uint8 luma (h, w) at `working_size`, full range.
            time: seconds.
        """
        import cv2
        import numpy as np

        if self._brightest is None or self._brightest.shape != working.shape:
            if self._brightest is not None:
                self.breaks.add(len(self))
            self._brightest = working.copy()
            self._recent.clear()
        else:
            np.maximum(self._brightest, working, out=self._brightest)
        inside = working[lit(self._brightest)]
        small = self._change.small(working)
        step = self._change.between(self._recent[-1][1], small) if self._recent else Comparison(0.0, 0.0, 0.0, 0.0)
        self.change.append(step.change)
        self.camera.append((step.across, step.down, step.closer))
        self.passing.append(1.0)
        self._look_back(small)
        self._recent.append((len(self), small))
        self._titles.add(working)
        self._keep(cv2.resize(working, THUMB[::-1], interpolation=cv2.INTER_AREA))
        self.times.append(time)
        self.light.append(_light(inside))
        self.sharpness.append(sharpness(inside))

    def add_failed(self, time: float) -> None:
        """Takes in a frame that could not be read: it counts, and looks like the one before."""
        import numpy as np

        self.failed.add(len(self))
        self._titles.add_missing()
        self._keep(self.thumb(len(self) - 1) if len(self) else np.zeros(THUMB, np.uint8))
        self.times.append(time)
        self.sharpness.append(0.0)
        self.change.append(0.0)
        self.camera.append((0.0, 0.0, 0.0))
        self.passing.append(1.0)
        self.light.append(self.light[-1] if self.light else Light(0, 0, 0, 0))

    def thumbs(self, first: int, last: int) -> np.ndarray:
        """uint8 (N, 27, 48): frames `first` to `last` inclusive, tiny."""
        import numpy as np

        if last < first:
            return np.zeros((0, *THUMB), np.uint8)
        chunks = range(first // CHUNK, last // CHUNK + 1)
        parts = [self._thumbs[k][max(first - k * CHUNK, 0) : last + 1 - k * CHUNK] for k in chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def thumb(self, number: int) -> np.ndarray:
        """uint8 (27, 48): one frame, tiny."""
        part: np.ndarray = self._thumbs[number // CHUNK][number % CHUNK]
        return part

    def _keep(self, thumb: np.ndarray) -> None:
        import numpy as np

        if self._count % CHUNK == 0:
            self._thumbs.append(np.empty((CHUNK, *THUMB), np.uint8))
        self._thumbs[-1][self._count % CHUNK] = thumb
        self._count += 1

    def titles(self) -> list[tuple[int, int]]:
        """Runs (first, last) of frames that carry letters."""
        return self._titles.finish()

    def _look_back(self, small: np.ndarray) -> None:
        """Compares this frame with the one before each recent change, and after one of its own with earlier ones."""
        for (_, before), (number, _) in pairwise(self._recent):
            if self.change[number] > MUCH:
                self.passing[number] = min(self.passing[number], self._change.between(before, small).change)
        if self.change[-1] > MUCH:
            for _, before in list(self._recent)[:-1]:
                self.passing[-1] = min(self.passing[-1], self._change.between(before, small).change)


def _light(picture: np.ndarray) -> Light:
    import cv2
    import numpy as np

    if not picture.size:
        return Light(0, 0, 0, 0)
    counts = cv2.calcHist([picture], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    levels, total = np.arange(256), picture.size
    mean = float(counts @ levels) / total
    variance = float(counts @ np.square(levels)) / total - mean * mean
    share = np.cumsum(counts) / total
    return Light(
        mean,
        math.sqrt(max(0.0, variance)),
        float(np.searchsorted(share, 0.001)),
        float(np.searchsorted(share, 0.999)),
    )


def sharpness(working: np.ndarray) -> float:
    """Variance of the Laplacian of uint8 (h, w); under 80 at the working size a picture looks blurred."""
    import cv2

    return float(cv2.Laplacian(working, cv2.CV_32F).var()) if working.size else 0.0


def lit(brightest: np.ndarray) -> tuple[slice, slice]:
    """The part of the picture inside rows and columns that were black all the time so far; all of it in the dark."""
    import numpy as np

    rows = np.flatnonzero(brightest.max(axis=1) > 24)
    columns = np.flatnonzero(brightest.max(axis=0) > 24)
    if len(rows) < 0.4 * brightest.shape[0] or len(columns) < 0.4 * brightest.shape[1]:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
