"""Holes of imported layers, told from parts of the picture that are black by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from bglora.film.layers import LayerEntry

EDGE = 16
"""Grey levels by which the picture beside a hole is brighter than black."""
SHARP_SHARE = 0.5


def imported_mask(entry: LayerEntry, frame: np.ndarray, has_film: bool) -> np.ndarray:
    """The mask of one imported layer: uint8 (H, W) 0/128/255, at the frame's size.

    Where only black says what is a hole, a black part counts if the film shows something else there, or, without a
    film, if it ends in a sharp edge: night fades into its surroundings.

    Args:
        entry: the layer. frame: uint8 (H, W, 3), the film's frame, or the background itself without a film.
    """
    import cv2
    import numpy as np

    from bglora.film.layers import hole
    from bglora.film.png import read_rgba

    mask = hole(entry)
    if entry.mask is None and entry.background is not None:
        picture = read_rgba(entry.background)
        if not (picture[..., 3] < 255).any():
            mask = _from_film(mask, frame) if has_film else _sharp_edged(mask, picture[..., :3])
    if mask.shape != frame.shape[:2]:
        mask = cv2.resize(mask, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(mask, np.uint8)


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
