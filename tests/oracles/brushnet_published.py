"""Steps of BrushNet's research code that the program does otherwise: sizes cut to whole cells, the soft paste."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bglora.nets.brushnet_pictures import CELL, Pictures

BLUR = 21
"""Side in pixels of the Gaussian that softens a pasted hole's edge; sigma by OpenCV's rule, 3.5."""


def resized(picture: Pictures, size: tuple[int, int]) -> Pictures:
    """A picture (H, W, 3) or mask (H, W), uint8, in another size (height, width), by Lanczos."""
    if picture.shape[:2] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS), np.uint8)


def whole_cells(height: int, width: int, cell: int = CELL) -> tuple[int, int]:
    """The next smaller size that is made of whole latent cells."""
    return height // cell * cell, width // cell * cell


def paste_weight(hole: np.ndarray) -> NDArray[np.float32]:
    """How much of the painted picture the authors' paste takes: 1 in the whole hole, fading within 10 pixels outside.

    Args:
        hole: (H, W), bool or 0 to 1.
    Returns:
        float32 (H, W).
    """
    inside = hole.astype(np.float32)
    soft = cv2.GaussianBlur(inside, (BLUR, BLUR), 0, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(1 - (1 - inside) * (1 - soft), np.float32)


def soft_paste(original: Pictures, painted: Pictures, hole: np.ndarray) -> Pictures:
    """The authors' paste of a painted picture (H, W, 3) into the original: known pixels near the hole change with it.

    `bglora.vision.holecrop.pasted` is what the plates are made with; it changes no known pixel.
    """
    weight = paste_weight(hole)[..., None]
    return np.asarray(original * (1 - weight) + painted * weight, np.float32).astype(np.uint8)
