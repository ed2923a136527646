"""Fill from the same picture alone: structure, then patches. No weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

IDENTITY = "patch/4"


def create(settings: Any) -> PatchFill:
    """The engine; it has no settings of its own."""
    return PatchFill()


class PatchFill:
    """Structure from all that surrounds the hole, then patches that follow it, coarse to fine."""

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """See `FillBackend.fill`; the prompt is not read."""
        from bglora.vision.patchfill import fill_hole

        return fill_hole(frame, hole, seed)
