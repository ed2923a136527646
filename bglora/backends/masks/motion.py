"""Masks by motion: who moves in front of a background that other frames show. No weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends.masks import ShotMasks

if TYPE_CHECKING:
    import numpy as np

IDENTITY = "motion/9"

FEWEST_FRAMES = 3
GHOSTS = 0.2
"""Share of outlines in parts that follow the background model as a whole (ghosts) from which masks are not trusted."""

MISFIT = 0.25
"""Share of all outlines that follow the model's edges instead of the frame's: it shows part of somebody who never
leaves his place."""


def create(settings: Any) -> MotionMasks:
    """The backend with the settings of `segment`."""
    return MotionMasks(min_area=settings.min_area)


class MotionMasks:
    """Background model and camera motion of a shot.

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
        """See `MaskBackend.masks`; `imported` is not looked at."""
        import numpy as np

        from bglora.vision.camera import estimate_camera, still_camera
        from bglora.vision.empty import own_motion
        from bglora.vision.exposure import estimate_gains
        from bglora.vision.given import area_at
        from bglora.vision.motion import MotionModel

        count = len(frames)
        empty = [np.zeros(frame.shape[:2], np.uint8) for frame in frames]
        if count < FEWEST_FRAMES:
            some = "one frame" if count == 1 else f"{count} frames"
            reason = f"too few frames: somebody can't be told from the background in {some}, {FEWEST_FRAMES} are needed"
            return ShotMasks(empty, [None] * count, still_camera(count), np.ones((count, 3)), reason)
        camera = estimate_camera(frames)
        gains = np.ones((count, 3))
        if camera.kind == "unknown":
            reason = "" if own_motion(frames, camera).nobody else camera.reason
            return ShotMasks(empty, [None] * count, camera, gains, reason)
        gains = estimate_gains(frames, camera)
        model = MotionModel(frames, camera, gains, area_at(self.min_area, frames[0].shape[1]))
        found = model.masks(progress)
        if model.ghosts > GHOSTS or model.misfit > MISFIT:
            if camera.kind != "still" and own_motion(frames, camera).nobody:
                return ShotMasks(empty, [None] * count, camera, gains)
            reason = (
                "somebody may stay in one place, or the place itself changes: "
                f"{max(model.ghosts, model.misfit):.0%} of the outlines don't fit"
            )
            return ShotMasks(empty, [None] * count, camera, gains, reason)
        if model.doubtful and not (camera.kind != "still" and own_motion(frames, camera).nobody):
            reason = (
                "somebody may move a little without leaving his place, or the place itself may: "
                f"{model.doubtful:.0%} of the picture"
            )
            return ShotMasks(empty, [None] * count, camera, gains, reason)
        masks = [np.where(f.objects, 255, np.where(f.effects, 128, 0)).astype(np.uint8) for f in found]
        return ShotMasks(masks, [f.alpha for f in found], camera, gains)
