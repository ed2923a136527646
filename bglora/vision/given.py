"""What goes with characters whose masks are given: the camera, the exposure, their shadows and reflections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import U8, Bool
from bglora.vision.camera import Camera, estimate_camera
from bglora.vision.effects import effects_of
from bglora.vision.exposure import estimate_gains


@dataclass(frozen=True)
class Company:
    """What was found beside given characters.

    Attributes:
        camera: kind of camera and pose of every frame.
        gains: float64 (N, 3), exposure of each frame relative to the camera's reference frame.
        effects: per frame bool (H, W), shadows and reflections, outside the given masks.
    """

    camera: Camera
    gains: NDArray[np.float64]
    effects: list[Bool]


def company(
    frames: Sequence[U8],
    masks: Sequence[Bool],
    min_area: int,
    progress: Callable[[float], None],
    *,
    effects: bool = True,
) -> Company:
    """Finds the camera outside of given masks, the exposure, and the effects of those who are in them.

    Args:
        frames: uint8 RGB (H, W, 3) of one shot. masks: bool (H, W), who is in each frame.
        min_area: smallest character in pixels of these frames.
        progress: told the share that is done, 0 to 1.
        effects: look for effects; else none are given.
    """
    camera = estimate_camera(frames, masks)
    progress(0.5)
    gains = np.ones((len(frames), 3))
    if camera.kind != "unknown":
        gains = estimate_gains(frames, camera, masks)
    found = [np.zeros_like(mask) for mask in masks]
    if effects:
        found = effects_of(frames, masks, camera, gains, min_area)
    progress(1.0)
    return Company(camera, gains, found)


def area_at(min_area: int, width: int) -> int:
    """Pixels of a picture `width` wide that an area in pixels of one 512 wide takes; at least 1."""
    return max(1, round(min_area * (width / 512) ** 2))
