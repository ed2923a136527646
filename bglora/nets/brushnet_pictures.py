"""Pictures and holes as BrushNet's research code takes and gives them.

Users' masks are white in the hole; the network's mask channel is 1 where a pixel is KEPT. The hole is blacked out,
which is -1 for the network, not the middle grey 0.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CELL = 8
"""Pixels per latent cell."""
HOLE_FROM = 128
"""Level from which a mask means hole."""
BLUR = 21
"""Side in pixels of the Gaussian that softens a pasted hole's edge; sigma by OpenCV's rule, 3.5."""

Pictures = NDArray[np.uint8]


def resized(picture: Pictures, size: tuple[int, int]) -> Pictures:
    """A picture (H, W, 3) or mask (H, W), uint8, in another size (height, width), by Lanczos."""
    if picture.shape[:2] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS), np.uint8)


def whole_cells(height: int, width: int, cell: int = CELL) -> tuple[int, int]:
    """The next smaller size that is made of whole latent cells."""
    return height // cell * cell, width // cell * cell


def blacked_out(pictures: Pictures, holes: np.ndarray) -> Pictures:
    """uint8 (..., H, W, 3) with the hole at 0. `holes`: (..., H, W), bool or 0 to 1, where parts darken in part."""
    return np.asarray(pictures * (1.0 - holes.astype(np.float32))[..., None], np.float32).astype(np.uint8)


def as_tensor(pictures: Pictures) -> Tensor:
    """uint8 (n, H, W, 3) as float32 (n, 3, H, W), -1 to 1, contiguous: the VAE is less exact on a permuted view."""
    values = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).contiguous()
    return values.float() / 127.5 - 1.0


def as_pictures(values: Tensor) -> Pictures:
    """(n, 3, H, W), -1 to 1, as uint8 (n, H, W, 3), rounded."""
    levels = (values.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return np.asarray((levels * 255).round(), np.uint8)


def kept(holes: np.ndarray) -> Tensor:
    """1 where kept, 0 in the hole: float32 (n, 1, H, W). `holes`: (n, H, W), bool, or uint8 with hole from 128 on."""
    inside = holes if holes.dtype == bool else holes >= HOLE_FROM
    return torch.from_numpy(np.ascontiguousarray(~inside))[:, None].float()


def kept_cells(kept_pixels: Tensor, cell: int = CELL) -> Tensor:
    """The mask per latent cell, that of the cell's first pixel: (n, 1, h, w). Grow a hole by a cell before."""
    return kept_pixels[..., ::cell, ::cell]


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
