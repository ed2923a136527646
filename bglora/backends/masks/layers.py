"""Masks of an earlier segmentation, as they were imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends.masks import ShotMasks

if TYPE_CHECKING:
    import numpy as np

IDENTITY = "layers/1"


def create(settings: Any) -> LayerMasks:
    """The backend; it has no settings of its own."""
    return LayerMasks()


class LayerMasks:
    """Takes masks as given; finds the camera and the exposure from what lies outside them."""

    def masks(
        self,
        frames: Sequence[np.ndarray],
        imported: Sequence[np.ndarray | None],
        progress: Callable[[float], None],
    ) -> ShotMasks:
        """See `MaskBackend.masks`; a frame without an imported mask shows no character."""
        import numpy as np

        from bglora.vision.camera import estimate_camera
        from bglora.vision.exposure import estimate_gains

        masks = [
            np.zeros(frame.shape[:2], np.uint8) if mask is None else mask
            for frame, mask in zip(frames, imported, strict=True)
        ]
        holes = [mask > 0 for mask in masks]
        camera = estimate_camera(frames, holes)
        progress(0.5)
        gains = np.ones((len(frames), 3))
        if camera.kind != "unknown":
            gains = estimate_gains(frames, camera, holes)
        progress(1.0)
        return ShotMasks(masks, [None] * len(frames), camera, gains)
