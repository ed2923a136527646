"""Masks of an earlier segmentation, as they were imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends.masks import ShotMasks

if TYPE_CHECKING:
    import numpy as np

IDENTITY = "layers/3"

EFFECT = 128
EMPTY = 0.9
"""Share of equal pixels from which a hole is empty."""


def create(settings: Any) -> LayerMasks:
    """The backend with the settings of `segment`."""
    return LayerMasks(settings.min_area)


class LayerMasks:
    """Takes masks as given; finds the camera, the exposure and what the masks left of the characters.

    Masks that know of no effect come from a segmentation of objects: it leaves shadows in, and remnants of the
    silhouette at its edges. Both are looked for and go, too, as effects. Masks that know of effects are complete.

    Args:
        min_area: smallest character, in pixels of a picture 512 wide.
    """

    def __init__(self, min_area: int) -> None:
        self.min_area = min_area

    def masks(
        self,
        frames: Sequence[np.ndarray],
        imported: Sequence[np.ndarray | None],
        progress: Callable[[float], None],
    ) -> ShotMasks:
        """See `MaskBackend.masks`; a frame without an imported mask shows no character."""
        import numpy as np

        from bglora.vision.fringe import remnants
        from bglora.vision.given import area_at, company

        masks = [
            np.zeros(frame.shape[:2], np.uint8) if mask is None else mask
            for frame, mask in zip(frames, imported, strict=True)
        ]
        holes = [mask > 0 for mask in masks]
        complete = any((mask == EFFECT).any() for mask in masks)
        if not complete:
            holes = [
                hole | remnants(frame, hole, filled=_filled(frame, hole))
                for frame, hole in zip(frames, holes, strict=True)
            ]
        area = area_at(self.min_area, frames[0].shape[1])
        found = company(frames, holes, area, progress, effects=not complete)
        if not complete:
            masks = [
                np.where((hole | effect) & (mask == 0), np.uint8(EFFECT), mask)
                for mask, hole, effect in zip(masks, holes, found.effects, strict=True)
            ]
        return ShotMasks(masks, [None] * len(frames), found.camera, found.gains)


def _filled(frame: np.ndarray, hole: np.ndarray) -> bool:
    """True if the picture shows something inside the hole; layers without a film are empty there."""
    inside = frame[hole]
    return bool(len(inside)) and float((inside == inside[0]).all(axis=1).mean()) < EMPTY
