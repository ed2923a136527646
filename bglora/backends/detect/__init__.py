"""Who finds characters by words. Every backend here is a `DetectBackend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from bglora.vision.following import Found


class DetectBackend(Protocol):
    """Finds what words name."""

    def find(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[Found]]:
        """Per frame, uint8 RGB (H, W, 3), what one of the words means: boxes in pixels and scores, best first."""
        ...
