"""Who fills what no frame shows. Every backend here is a `FillBackend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class FillBackend(Protocol):
    """Fills a hole by a guess."""

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """Fills the hole of one picture.

        Args:
            frame: uint8 RGB (H, W, 3); what lies in the hole is not to be used.
            hole: bool (H, W).
            seed: same seed, same result. A second try comes with another seed.
            prompt: words for the empty place; engines that don't read words ignore it.

        Returns:
            uint8 RGB (H, W, 3), bit-identical to `frame` outside the hole.
        """
        ...


class BatchFillBackend(FillBackend, Protocol):
    """An engine that fills several pictures at once faster than one by one."""

    def fill_many(
        self,
        frames: Sequence[np.ndarray],
        holes: Sequence[np.ndarray],
        seeds: Sequence[int],
        prompts: Sequence[str] = (),
    ) -> list[np.ndarray]:
        """What `fill` gives for each, up to rounding.

        Args:
            frames, holes, seeds: one of each a picture; the pictures may differ in size.
            prompts: one a picture, or none at all.
        """
        ...
