"""How much of a frame is new since another: 0 for the same view, about 0.8 across a cut.

The earlier frame is warped onto the later one by dense optical flow (DIS; Kroeger, Timofte, Dai, Van Gool, "Fast
Optical Flow using Dense Inverse Search", ECCV 2016), so that camera and characters may move. Both are normalized to
local contrast, so that a cut between two dark pictures weighs as much as one between bright ones, and a change of light
little. What remains is the energy of the difference over the energy of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

WIDTH = 144
"""Width of the pictures that are compared."""
_WINDOW = 21
_NOISE = 4.0  # grey levels of local contrast that count as half noise
_FLAT = 0.05  # normalized energy below which a picture has no content to compare


@dataclass(frozen=True)
class Comparison:
    """What changed between two pictures.

    Attributes:
        change: 0 for the same view, about 0.8 for another one.
        across, down: how far the camera turned, in widths of the picture; right and down are positive.
        closer: natural logarithm of how much larger things became.
    """

    change: float
    across: float
    down: float
    closer: float


class Change:
    """Compares small pictures. One object per source: it holds the flow's buffers."""

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grid: np.ndarray | None = None

    @staticmethod
    def small(working: np.ndarray) -> np.ndarray:
        """uint8 (h, w) shrunk to `WIDTH` columns; narrower pictures stay."""
        import cv2

        height, width = working.shape
        columns = min(WIDTH, width)
        rows = max(1, round(height * columns / width))
        return cv2.resize(working, (columns, rows), interpolation=cv2.INTER_AREA)

    def between(self, earlier: np.ndarray, later: np.ndarray) -> Comparison:
        """Compares two small pictures uint8 (h, w) of one size."""
        import cv2
        import numpy as np

        if min(later.shape) < 12:  # too small for the flow's patches
            flow, warped = np.zeros((*later.shape, 2), np.float32), earlier
        else:
            flow = self._flow.calc(later, earlier, None)  # type: ignore[call-overload]
            rows, columns = np.moveaxis(self._pixels(later.shape) + flow, 2, 0)[::-1]
            warped = cv2.remap(earlier, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        one, other = _normalized(warped), _normalized(later)
        difference = float(np.square(one - other).sum())
        energy = float(np.square(one).sum() + np.square(other).sum())
        return Comparison(difference / (energy + _FLAT * one.size), *_camera(flow))

    def _pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        import numpy as np

        if self._grid is None or self._grid.shape[:2] != shape:
            rows, columns = shape
            self._grid = np.dstack(np.meshgrid(np.arange(columns), np.arange(rows))).astype(np.float32)
        return self._grid


def _normalized(picture: np.ndarray) -> np.ndarray:
    """float32 (h, w): deviation from the local mean in units of the local standard deviation."""
    import cv2
    import numpy as np

    values = picture.astype(np.float32)
    deviation = values - cv2.blur(values, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)
    power = cv2.blur(deviation * deviation, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)
    spread = cv2.sqrt(np.maximum(power, 0))  # a running sum can end just below zero
    return deviation / (spread + _NOISE)


def _camera(flow: np.ndarray) -> tuple[float, float, float]:
    """(across, down, closer) of most of the picture: medians of the flow (h, w, 2) from the later to the earlier."""
    import numpy as np

    height, width = flow.shape[:2]
    sparse = flow[2::4, 2::4]
    rows, columns = np.mgrid[2:height:4, 2:width:4]
    across, down = float(np.median(sparse[..., 0])), float(np.median(sparse[..., 1]))
    x, y = columns - (width - 1) / 2, rows - (height - 1) / 2
    distance = x * x + y * y
    outer = distance > (0.2 * width) ** 2
    if not outer.any():
        return 0.0, 0.0, 0.0
    radial = ((sparse[..., 0] - across) * x + (sparse[..., 1] - down) * y)[outer] / distance[outer]
    # Things that come closer lay nearer to the middle before: the flow back points inward. What moves left was seen
    # by a camera that turns right, and the flow back points right.
    return across / width, down / width, float(-np.median(radial))
