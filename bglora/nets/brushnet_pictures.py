"""Pictures and holes as BrushNet's research code takes and gives them.

Users' masks are white in the hole; the network's mask channel is 1 where a pixel is KEPT. The hole is blacked out,
which is -1 for the network, not the middle grey 0.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CELL = 8
"""Pixels per latent cell."""
HOLE_FROM = 128
"""Level from which a mask means hole."""

Pictures = NDArray[np.uint8]


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
