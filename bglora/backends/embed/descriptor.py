"""The embedded `embed` backend: tells places apart by colors, layout and texture. A small learned projection, no net.

    picture ─► 64 x 64 ─┬─► joint histogram of lightness and color (5 x 11 x 11, CIELAB, soft bins), edges  653
                        ├─► the same histogram with the light taken out                                     605
                        └─► mean and spread of color in four rows, with and without its light                48
            ─► 192 x 192 ─► histogram of edge strength and direction at three scales (3 x 4 x 4)             48
                                    │
                                    ▼  linear discriminants (assets/places), 1354 to 24, length 1

The square root of each histogram is taken (Hellinger's kernel: Arandjelovic and Zisserman 2012, "Three things
everyone should know to improve object retrieval"), so that a large sky doesn't outweigh the small things that
tell places apart; edges count more than flat areas for the same reason. The light is taken out by gray world and a
gamma that brings the median to the same lightness: that alone would make a blue sea floor and a beige beach the same
gray, and colors alone change with the light, so both are measured and the projection weighs them: it keeps what
differs between places and drops what differs between cameras, exposures and white balances of one place (Fisher's
discriminants, scaled as in probabilistic LDA: Ioffe 2006). It was learned on rendered stills; assets/places says
which.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bglora.backends.batches import batches
from bglora.vision.descriptor import measure

IDENTITY = "descriptor/3"

PROJECTION = Path(__file__).parents[2] / "assets" / "places" / "projection.npz"
OPPOSITE = 0.6
"""Cosine below zero that counts as no likeness at all; see `likeness`."""
FAR = 65.0
"""Median distance to what the stills measure on average from which a film is unlike them: stills of any place are at
about 50, other rendered films at 45 to 50, cartoons and flat drawings at 70 and more."""
PLAIN, PLAIN_ZERO = 653, 0.2
"""How many of the measurements are plain color and edges; cosine of those that counts as no likeness at all."""
AT_ONCE = 32

F32 = NDArray[np.float32]


def create(settings: Any) -> Descriptor:
    """The backend; it has no settings."""
    return Descriptor()


class Descriptor:
    """The `embed` role without a neural net.

    Attributes:
        plain: whether the pictures embedded last are unlike those that the projection was learned on, so that plain
            colors and edges are compared instead.
    """

    plain = False

    def embed(self, pictures: Iterable[np.ndarray]) -> F32:
        """Describes pictures.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes; taken a few at a time, so a generator keeps memory small.

        Returns:
            float32 (N, 24), or (N, 653) where they are `plain`, each row of length 1.
        """
        mean, basis = projection()
        rows: list[F32] = []
        with ThreadPoolExecutor() as pool:
            for batch in batches(pictures, AT_ONCE):
                rows += pool.map(measure, batch)
        if not rows:
            return np.zeros((0, basis.shape[1]), np.float32)
        measured = np.stack(rows)
        away = np.linalg.norm(measured - mean, axis=1)
        self.plain = bool(np.median(away) > FAR)
        vectors = measured[:, :PLAIN] if self.plain else (measured - mean) @ basis
        return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), np.float32)

    def likeness(self, cosines: np.ndarray) -> np.ndarray:
        """Cosines of the pictures embedded last as likeness: 0.75 is the border of two places, 1 the same.

        The border, a cosine of 0.6, was chosen on stills, each fifth of the places by a projection learned on the
        others; of `plain` pictures, whose cosines are never negative, it is 0.8.
        """
        zero = PLAIN_ZERO if self.plain else -OPPOSITE
        return np.clip((cosines - zero) / (1 - zero), 0.0, 1.0)


@cache
def projection() -> tuple[np.ndarray, np.ndarray]:
    """What `measure` gives on average, float64 (1354,), and the discriminants, (1354, 24)."""
    with np.load(PROJECTION, allow_pickle=False) as file:
        return file["mean"].astype(np.float64), file["basis"].astype(np.float64)
