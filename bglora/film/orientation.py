"""The display matrix of a video: by how much a player turns and mirrors its frames before it shows them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av
    import numpy as np


@dataclass(frozen=True)
class Orientation:
    """Quarter turns and a flip: first mirrored left to right if `mirrored`, then turned counterclockwise.

    Attributes:
        turns: quarter turns counterclockwise, 0 to 3. Other angles are rounded to the next quarter.
        mirrored: left and right are swapped before turning.
    """

    turns: int = 0
    mirrored: bool = False

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) behind the turn, or before it: it is the same swap both ways."""
        return (size[1], size[0]) if self.turns % 2 else size

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """A view of the picture (H, W) or (H, W, C) as a player shows it."""
        import numpy as np

        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turns)


def orientation(frame: av.VideoFrame) -> Orientation:
    """Reads a frame's display matrix (ISO 14496-12, 3x3 of 16.16 fixed point: x' = a x + c y, y' = b x + d y)."""
    import math

    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    values = struct.unpack("=9i", memoryview(data)[:36])  # type: ignore[arg-type]
    a, b, c, d = (values[index] / 65536 for index in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    # y points down, so a positive angle of the matrix turns clockwise on the screen.
    clockwise = math.degrees(math.atan2(b, a))
    return Orientation(round(-clockwise / 90) % 4, mirrored)
