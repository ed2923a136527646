"""Masks of an earlier segmentation, as they were imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends.masks import ShotMasks

if TYPE_CHECKING:
    import numpy as np

IDENTITY = "layers/2"

EFFECT = 128


def create(settings: Any) -> LayerMasks:
    """The backend with the settings of `segment`."""
    return LayerMasks(settings.min_area)


class LayerMasks:
    """Takes masks as given; finds the camera, the exposure and the characters' effects from what lies outside them.

    Effects are looked for where the masks know of none: a segmentation of objects leaves the shadows in.

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

        from bglora.vision.camera import estimate_camera
        from bglora.vision.effects import effects_of
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
        if not any((mask == EFFECT).any() for mask in masks):
            area = max(1, round(self.min_area * (frames[0].shape[1] / 512) ** 2))
            found = effects_of(frames, holes, camera, gains, area)
            masks = [np.where(effect, np.uint8(EFFECT), mask) for mask, effect in zip(masks, found, strict=True)]
        progress(1.0)
        return ShotMasks(masks, [None] * len(frames), camera, gains)
