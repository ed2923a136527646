"""One place in another light: pictures are compared under changes of exposure and white balance.

A camera's exposure and a colorist's grade change a picture by about `v -> gain * v ** gamma` per channel. Instead of
taking color out (gray world: a blue sea floor and a beige beach become the same gray), one picture is seen under a grid
of such changes and the likest counts. The grid is bounded, for a place that would need more is another place, and
every change costs: two places of one color differ by light more often than one place does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
GAMMAS = (0.6, 0.77, 1.0, 1.3, 1.67)
GAINS = (-0.16, -0.08, 0.0, 0.08, 0.16)
"""Natural logarithms of the gains of red and blue; green takes half of their sum back."""
GAMMA_COST, GAIN_COST = 0.2, 1.0
"""Cosine that a squared logarithm of gamma, and of the gains, costs."""
F32 = NDArray[np.float32]

_CHANGES = [(gamma, np.array([r, -(r + b) / 2, b])) for gamma, r, b in product(GAMMAS, GAINS, GAINS)]
COST = np.array([GAMMA_COST * np.log(gamma) ** 2 + GAIN_COST * (gain**2).sum() for gamma, gain in _CHANGES], np.float32)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A uint8 RGB picture (H, W, 3) as (SIDE, SIDE, 3)."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def in_other_light(thumb: np.ndarray) -> Iterator[np.ndarray]:
    """A uint8 RGB picture under every change of the grid, in the order of COST."""
    levels = np.arange(256) / 255
    for gamma, gain in _CHANGES:
        table = np.clip(levels[:, None] ** gamma * np.exp(gain) * 255, 0, 255).round().astype(np.uint8)
        yield np.stack([table[thumb[..., channel], channel] for channel in range(3)], -1)


def compare(thumbs: Sequence[np.ndarray], embed: Callable[[Iterator[np.ndarray]], F32]) -> F32:
    """How alike pictures are in the light that makes them likest.

    Args:
        thumbs: uint8 RGB (SIDE, SIDE, 3), N of them; at least one.
        embed: pictures to unit vectors (…, D).

    Returns:
        float32 (N, N), symmetric: the largest cosine less what the change costs, -1 to 1.
    """
    plain = embed(iter(thumbs))
    alike = np.stack([(embed(in_other_light(thumb)) @ plain.T - COST[:, None]).max(0) for thumb in thumbs])
    return np.maximum(alike, alike.T)
