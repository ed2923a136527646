"""What the backends that follow characters have in common: `sam2` and `sam3` differ in their networks alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bglora.backends.masks import ShotMasks

if TYPE_CHECKING:
    import numpy as np

    from bglora.backends.detect import DetectBackend
    from bglora.vision.boxes import Box
    from bglora.vision.following import Follower, Found, Prompt


class FollowedMasks:
    """Characters found by words and by a person's prompts, followed through the shot.

    Args:
        follower: the network that follows.
        detector: who finds `targets`; None where there are no words.
        settings: the table of `segment`.
    """

    def __init__(self, follower: Follower, detector: DetectBackend | None, settings: Any) -> None:
        self.follower, self.detector, self.settings = follower, detector, settings

    def masks(
        self,
        frames: Sequence[np.ndarray],
        imported: Sequence[np.ndarray | None],
        progress: Callable[[float], None],
    ) -> ShotMasks:
        """See `MaskBackend.masks` and `FollowingBackend`."""
        import numpy as np

        from bglora.vision.edges import soft_edges
        from bglora.vision.given import area_at, company

        start = 0.0
        if all(mask is None for mask in imported):
            start = 0.7
            labels = self.follow(frames, {}, lambda share: progress(start * share))
            objects = [labels[k] > 0 for k in range(len(frames))]
        else:
            objects = [
                np.zeros(frame.shape[:2], bool) if mask is None else mask > 0
                for frame, mask in zip(frames, imported, strict=True)
            ]
        area = area_at(self.settings.min_area, frames[0].shape[1])
        found = company(frames, objects, area, lambda share: progress(start + (1 - start) * share))
        masks = [
            np.where(solid, 255, np.where(effect, 128, 0)).astype(np.uint8)
            for solid, effect in zip(objects, found.effects, strict=True)
        ]
        alphas = [soft_edges(frame, solid) for frame, solid in zip(frames, objects, strict=True)]
        return ShotMasks(masks, alphas, found.camera, found.gains)

    def follow(
        self,
        frames: Sequence[np.ndarray],
        prompts: Mapping[int, Sequence[Prompt]],
        progress: Callable[[float], None],
    ) -> Sequence[np.ndarray]:
        """See `FollowingBackend.follow`."""
        from bglora.vision.following import Following
        from bglora.vision.given import area_at

        width = frames[:1][0].shape[1]
        following = Following(
            self.follower,
            None if self.detector is None else self._find,
            window=self.settings.window,
            redetect=self.settings.redetect,
            min_area=area_at(self.settings.min_area, width),
        )
        return following.through(frames, prompts, progress)

    def at(self, picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """See `FollowingBackend.at`."""
        import cv2
        import numpy as np

        from bglora.vision.following import Prompt

        height, width = picture.shape[:2]
        found = np.zeros((height, width), bool)
        (view,) = self.follower.look([picture])
        for box in boxes:
            _, logits = self.follower.begin(view, 0, 1, Prompt(box=box))
            found |= cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0
        return found

    def _find(self, picture: np.ndarray) -> Sequence[Found]:
        assert self.detector is not None
        return self.detector.find([picture], self.settings.targets)[0]
