"""SAM 3 (Meta 2025) on transformers' classes: finds by words, and follows as SAM 2 does.

One model holds both: a detector that gives the masks of all that a word means, and a tracker with SAM 2's interface
that sees through the detector's encoder. transformers' own way to run them together keeps every frame of a shot;
here they work as a detector and a `Follower` (see `vision.following`), a window at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from bglora.nets import pretrained
from bglora.nets.device import in_halves
from bglora.nets.sam2 import Sam2Follower, View, views
from bglora.nets.sam2_checkpoint import SHARED
from bglora.vision.arrays import U8, Bool
from bglora.vision.boxes import suppressed, within
from bglora.vision.following import Found

MEAN = STD = (0.5, 0.5, 0.5)
LENGTH = 32
"""Tokens of a word or phrase."""
ONE = 0.6
"""Intersection over union from which two boxes are one character."""
LEAST = 0.5
CURE = "Choose sam2, lower segment.window, or set BGLORA_DEVICE=cpu"


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The whole model from a folder of the hub. Raises as `pretrained.load`."""
    shared, other = (f"tracker_model.{name}" for name in SHARED)
    return pretrained.load("Sam3VideoModel", folder, ["sam3_video"], device, dtype, [(shared, other)])


class Sam3Follower(Sam2Follower):
    """A `Follower` on SAM 3's tracker.

    Args:
        model: `transformers.Sam3VideoModel`, loaded, on its device.
    """

    def __init__(self, model: Any, batch: int = 4) -> None:
        super().__init__(model.tracker_model, batch)
        self.whole = model

    def look(self, frames: Sequence[U8]) -> list[View]:
        """See `Follower.look`."""
        return in_halves(self._look, frames, self.batch, where="SAM 3", cure=CURE)

    @torch.inference_mode()
    def _look(self, frames: Sequence[U8]) -> list[View]:
        seen = self.whole.detector_model.get_vision_features(self.pixels(frames, MEAN, STD))
        features, positions = self.whole.get_vision_features_for_tracker(seen)
        return views(features, positions, frames)


class Sam3Detector:
    """A detector, as those of `grounding`, on SAM 3's detector: what it finds comes with masks.

    Args:
        follower: the follower on the same model. folder: where its tokenizer lies.
        least: score (0 to 1) from which something counts.
    """

    def __init__(self, follower: Sam3Follower, folder: Path, least: float = LEAST) -> None:
        self.follower, self.least = follower, least
        self.tokenizer = pretrained.tokenizer(folder)

    def find(self, frames: Sequence[U8], words: Sequence[str]) -> list[list[Found]]:
        """Per frame (uint8 RGB (H, W, 3)) what of it one of the words means, best first, with masks."""
        return in_halves(lambda part: self._find(part, words), frames, 1, where="SAM 3", cure=CURE)

    @torch.inference_mode()
    def _find(self, frames: Sequence[U8], words: Sequence[str]) -> list[list[Found]]:
        detector = self.follower.whole.detector_model
        out = []
        for frame in frames:
            embedded = detector.get_vision_features(self.follower.pixels([frame], MEAN, STD))
            found: list[Found] = []
            for word in words:
                text = self.tokenizer(
                    word, return_tensors="pt", padding="max_length", max_length=LENGTH, truncation=True
                ).to(self.follower.device)
                seen = detector(
                    vision_embeds=embedded, input_ids=text["input_ids"], attention_mask=text["attention_mask"]
                )
                found += self._kept(seen, frame)
            out.append([found[k] for k in suppressed([one.box for one in found], [one.score for one in found], ONE)])
        return out

    def _kept(self, seen: Any, frame: U8) -> list[Found]:
        height, width = frame.shape[:2]
        scores = (seen.pred_logits.sigmoid() * seen.presence_logits.sigmoid())[0].float().cpu()
        boxes = seen.pred_boxes[0].float().cpu() * torch.tensor([width, height, width, height])
        found = []
        for k in torch.nonzero(scores > self.least).flatten().tolist():
            mask = _grown(seen.pred_masks[0, k].float().cpu().numpy(), (height, width))
            if mask.any():
                box = tuple(boxes[k].tolist())
                found.append(Found(within((box[0], box[1], box[2], box[3]), height, width), float(scores[k]), mask))
        return found


def _grown(logits: np.ndarray, size: tuple[int, int]) -> Bool:
    return np.asarray(cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) > 0)
