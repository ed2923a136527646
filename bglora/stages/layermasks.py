"""Holes of imported layers, told from parts of the picture that are black by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from bglora.film.layers import LayerEntry

EDGE = 16
"""Grey levels by which the picture beside a hole is brighter than black."""
SHARP_SHARE = 0.5
"""Share of a hole's outline that ends in a sharp edge at least."""
COMPARED = 12
"""Frames of a shot that say what is black in it."""
MOSTLY = 0.6
"""Share of the other frames that must show something where a hole runs into a black part of the picture."""
STRIP = 0.97
"""Share of its bounding box that a black bar along a whole side fills at least."""


class LayerHoles:
    """The holes of one shot's layers.

    Where only black says what is a hole, a black part counts if the film shows something else there, or, without a
    film, if it ends in a sharp edge: night fades into its surroundings. A black part without a sharp edge may be a hole
    that runs into the night: then it is what most other frames don't show black. Bars along a side are none.

    Args:
        layers: the shot's layers by frame number. has_film: the layers belong to a film.
    """

    def __init__(self, layers: Mapping[int, LayerEntry], has_film: bool) -> None:
        self.layers, self.has_film = layers, has_film

    def mask(self, number: int, frame: np.ndarray) -> np.ndarray:
        """The mask of one frame: uint8 (H, W) 0/128/255, at the frame's size.

        Args:
            frame: uint8 (H, W, 3), the film's frame, or the background itself without a film.
        """
        import cv2
        import numpy as np

        from bglora.film.layers import hole
        from bglora.film.png import read_rgba

        entry = self.layers[number]
        mask = hole(entry)
        if entry.mask is None and entry.background is not None:
            picture = read_rgba(entry.background)
            if not (picture[..., 3] < 255).any():
                mask = _from_film(mask, frame) if self.has_film else self._without_film(mask, picture[..., :3])
        if mask.shape != frame.shape[:2]:
            mask = cv2.resize(mask, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
        return np.asarray(mask, np.uint8)

    def _without_film(self, mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
        import numpy as np

        mask = np.where(_bars(mask > 0), 0, mask).astype(np.uint8)
        sharp = _sharp_edged(mask, picture)
        soft = (mask > 0) & (sharp == 0)
        if soft.any() and self._black is not None and self._black.shape == soft.shape:
            sharp[_thick(soft & (self._black < 1 - MOSTLY))] = 255
        return sharp

    @cached_property
    def _black(self) -> np.ndarray | None:
        """How often each pixel is black in the shot, 0 to 1; None where the frames' sizes differ or are too few."""
        import numpy as np

        from bglora.film.png import read_rgba

        paths = [entry.background for entry in self.layers.values() if entry.background is not None]
        chosen = [paths[k * len(paths) // COMPARED] for k in range(COMPARED)] if len(paths) > COMPARED else paths
        maps = [(read_rgba(path)[..., :3] == 0).all(axis=2) for path in chosen]
        if len(maps) < 3 or len({one.shape for one in maps}) > 1:
            return None
        return np.asarray(np.mean(maps, axis=0))


def _from_film(mask: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Black parts in which the film's frame is mostly not black."""
    import cv2
    import numpy as np

    count, labels = cv2.connectedComponents((mask > 0).astype(np.uint8))
    if frame.shape[:2] != mask.shape:
        frame = cv2.resize(frame, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_AREA)
    bright = np.bincount(labels.ravel(), (frame.max(2) > EDGE).ravel().astype(float), count)
    keep = bright > 0.3 * np.bincount(labels.ravel(), minlength=count)
    keep[0] = False
    return np.where(keep[labels], mask, 0).astype(np.uint8)


def _sharp_edged(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Black parts with a bright pixel within 2 px beyond most of their edge (the picture's border doesn't count)."""
    import cv2
    import numpy as np

    count, labels = cv2.connectedComponents((mask > 0).astype(np.uint8))
    near = cv2.dilate(picture.max(2), np.ones((5, 5), np.uint8)) > EDGE
    inner = cv2.erode((mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    edge = (mask > 0) & ~inner
    total = np.bincount(labels[edge], minlength=count)
    sharp = np.bincount(labels[edge & near], minlength=count)
    keep = sharp >= SHARP_SHARE * np.maximum(total, 1)
    keep[0] = False
    return np.where(keep[labels], mask, 0).astype(np.uint8)


def _bars(black: np.ndarray) -> np.ndarray:
    """Rectangles of black along a whole side of the picture: letterbox, no hole."""
    import numpy as np

    found = np.zeros_like(black)
    for turned, out in ((black, found), (black[::-1], found[::-1]), (black.T, found.T), (black.T[::-1], found.T[::-1])):
        rows = turned.mean(1) >= STRIP
        depth = len(rows) if rows.all() else int(np.argmin(rows))
        if 0 < depth < len(rows) // 2:
            out[:depth] |= turned[:depth]
    return found


def _thick(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask that are at least five pixels wide somewhere."""
    import cv2
    import numpy as np

    from bglora.vision.arrays import touching

    core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
    return touching(mask, np.asarray(core))
