"""Who finds the characters of a shot. Every backend here is a `MaskBackend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from bglora.vision.boxes import Box
    from bglora.vision.camera import Camera
    from bglora.vision.following import Prompt


@dataclass(frozen=True)
class ShotMasks:
    """What a backend found in some frames of one shot.

    Attributes:
        masks: per frame uint8 (H, W): 0 background, 128 effect (shadow, reflection), 255 object. Not grown yet.
        alphas: per frame uint8 (H, W), the objects' alpha (0 to 255), or None where edges are as hard as the mask.
        camera: kind of camera and pose of every frame.
        gains: float64 (N, 3), exposure of each frame relative to the camera's reference frame, per RGB channel.
        unknown: why characters can't be told from background in this shot; empty if they can.
    """

    masks: Sequence[np.ndarray]
    alphas: Sequence[np.ndarray | None]
    camera: Camera
    gains: np.ndarray
    unknown: str = ""


class MaskBackend(Protocol):
    """Finds characters and what belongs to them."""

    def masks(
        self,
        frames: Sequence[np.ndarray],
        imported: Sequence[np.ndarray | None],
        progress: Callable[[float], None],
    ) -> ShotMasks:
        """Finds the characters in frames of one shot.

        Args:
            frames: uint8 RGB (H, W, 3), one size, ascending in time, evenly spread over the shot.
            imported: per frame the mask of an earlier segmentation, uint8 (H, W) 0/128/255, or None.
            progress: told the share that is done, 0 to 1.
        """
        ...


class FollowingBackend(MaskBackend, Protocol):
    """Knows who is who, and can be told by a person or a detector who is meant.

    Its `masks` takes `imported` for what `follow` found, or follows by itself where all of them are None.
    """

    def follow(
        self,
        frames: Sequence[np.ndarray],
        prompts: Mapping[int, Sequence[Prompt]],
        progress: Callable[[float], None],
    ) -> Sequence[np.ndarray]:
        """Follows the characters through a shot of any length.

        Args:
            frames: uint8 RGB (H, W, 3), one size, ascending in time; asked for in slices, so that they need not all be
                in memory.
            prompts: by place in `frames` whom a person pointed out there.
            progress: told the share that is done, 0 to 1.

        Returns:
            Per frame uint16 (H, W), the number of the character at each pixel, from 1; 0 is nobody.
        """
        ...

    def at(self, picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """Masks, bool (H, W) all in one, of who is in these boxes (left, top, right, bottom) of a single picture."""
        ...
