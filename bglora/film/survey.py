"""The first look at a source: one pass over all its frames at a small size.

It keeps about 1.4 kB a frame (190 MB for 90 minutes at 24 frames per second); pictures are not held.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

THUMB = (27, 48)
"""(height, width) of the thumbnails that are kept of every frame."""
WORKING_AREA = 512 * 288
"""Pixels of the working picture, on which sharpness, letters and bars are measured; smaller frames are not enlarged."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the working picture of a frame of this size; the aspect is kept."""
    scale = min(1.0, math.sqrt(WORKING_AREA / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


class Survey:
    """What was seen of a source, frame after frame. Call `add` for each frame in order."""

    def __init__(self) -> None:
        self._thumbs: list[np.ndarray] = []
        self.times: list[float] = []
        """Seconds of each frame from the first one's."""
        self.sharpness: list[float] = []
        """Variance of the Laplacian of the working picture, bars left out; 0 for a frame that could not be read."""
        self.failed: set[int] = set()
        """Numbers of frames that could not be read."""
        self.breaks: set[int] = set()
        """Numbers of frames whose size differs from the one before: a shot cannot go on over them."""
        self._brightest: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._thumbs)

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
        else:
            np.maximum(self._brightest, working, out=self._brightest)
        self._thumbs.append(cv2.resize(working, THUMB[::-1], interpolation=cv2.INTER_AREA))
        self.times.append(time)
        self.sharpness.append(sharpness(working[lit(self._brightest)]))

    def add_failed(self, time: float) -> None:
        """Takes in a frame that could not be read: it counts, and looks like the one before."""
        import numpy as np

        self.failed.add(len(self))
        self._thumbs.append(self._thumbs[-1] if self._thumbs else np.zeros(THUMB, np.uint8))
        self.times.append(time)
        self.sharpness.append(0.0)

    def thumbs(self) -> np.ndarray:
        """uint8 (N, 27, 48): all frames, tiny."""
        import numpy as np

        return np.stack(self._thumbs) if self._thumbs else np.zeros((0, *THUMB), np.uint8)


def sharpness(working: np.ndarray) -> float:
    """Variance of the Laplacian of uint8 (h, w); under 80 at the working size a picture looks blurred."""
    import cv2

    return float(cv2.Laplacian(working, cv2.CV_32F).var()) if working.size else 0.0


def lit(brightest: np.ndarray) -> tuple[slice, slice]:
    """The part of the picture inside rows and columns that were black all the time so far."""
    import numpy as np

    rows = np.flatnonzero(brightest.max(axis=1) > 24)
    columns = np.flatnonzero(brightest.max(axis=0) > 24)
    if not len(rows) or not len(columns):
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
