"""Characters found by words: Grounding DINO (Liu et al. 2023) and OWLv2 (Minderer et al. 2023), by transformers.

Both give a box and a score for everything that a word may mean; boxes of one character are thinned out here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bglora.errors import UserError, first_line
from bglora.nets import pretrained
from bglora.nets.device import in_halves
from bglora.vision.arrays import U8
from bglora.vision.boxes import suppressed, within
from bglora.vision.following import Found

ONE = 0.6
"""Intersection over union from which two boxes are one character."""
BATCH = 4
CURE = "Choose a smaller detector (segment.grounding), or set BGLORA_DEVICE=cpu"


class _Detector(ABC):
    """What both have in common: batches, thresholds, boxes in pixels.

    Args:
        folder: the model in the hub's layout, with tokenizer and preprocessor files.
        device: where it runs; in float32, for its few looks decide whom everything after them follows.
        least: score (0 to 1) from which something counts.
    """

    CLASS, KIND, PROCESSOR = "", "", ""

    def __init__(self, folder: Path, device: torch.device, least: float) -> None:
        self.model = pretrained.load(self.CLASS, folder, [self.KIND], device, torch.float32)
        self.tokenizer = pretrained.tokenizer(folder)
        self.pictures = _processor(self.PROCESSOR, folder)
        self.device, self.least, self.folder = device, least, folder

    def find(self, frames: Sequence[U8], words: Sequence[str]) -> list[list[Found]]:
        """Per frame (uint8 RGB (H, W, 3)) what of it one of the words means, best first."""
        texts = [word.strip().lower() for word in words]
        return in_halves(lambda part: self._find(part, texts), frames, BATCH, where=str(self.folder), cure=CURE)

    @torch.inference_mode()
    def _find(self, frames: Sequence[U8], words: Sequence[str]) -> list[list[Found]]:
        scores, boxes = self._answers(frames, words)
        return [
            _kept(score.cpu(), _corners(box.cpu()) * self._scale(frame), frame, self.least)
            for frame, score, box in zip(frames, scores, boxes, strict=True)
        ]

    def _pixels(self, frames: Sequence[U8]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in self.pictures(list(frames), return_tensors="pt").items()}

    @abstractmethod
    def _answers(self, frames: Sequence[U8], words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Scores (N, Q) and boxes (N, Q, 4): center and size, in shares of the picture as the net sees it."""

    @abstractmethod
    def _scale(self, frame: U8) -> Tensor:
        """What four shares are multiplied by to give pixels of the frame."""


class GroundingDino(_Detector):
    """Grounding DINO: reads all words as one sentence, `person. animal.`"""

    CLASS, KIND, PROCESSOR = "GroundingDinoForObjectDetection", "grounding-dino", "GroundingDinoImageProcessorPil"

    def _answers(self, frames: Sequence[U8], words: Sequence[str]) -> tuple[Tensor, Tensor]:
        sentence = ". ".join(words) + "."
        text = self.tokenizer([sentence] * len(frames), return_tensors="pt", return_token_type_ids=True)
        tokens, most = text["input_ids"].shape[1], self.model.config.max_text_len
        if tokens > most:
            raise UserError(
                f"There are too many targets: {tokens} tokens, {most} fit.",
                where="segment.targets",
                cure="Name fewer words.",
            )
        seen = self.model(**self._pixels(frames), **{name: value.to(self.device) for name, value in text.items()})
        return seen.logits.sigmoid().amax(-1), seen.pred_boxes

    def _scale(self, frame: U8) -> Tensor:
        height, width = frame.shape[:2]
        return torch.tensor([width, height, width, height], dtype=torch.float32)


class Owlv2(_Detector):
    """OWLv2: one query a word; pictures are padded to a square at the right and below."""

    CLASS, KIND, PROCESSOR = "Owlv2ForObjectDetection", "owlv2", "Owlv2ImageProcessorPil"
    QUERY = "a photo of a {}"
    LENGTH = 16

    def _answers(self, frames: Sequence[U8], words: Sequence[str]) -> tuple[Tensor, Tensor]:
        queries = [self.QUERY.format(word) for word in words] * len(frames)
        text = self.tokenizer(
            queries, return_tensors="pt", padding="max_length", max_length=self.LENGTH, truncation=True
        )
        seen = self.model(
            input_ids=text["input_ids"].to(self.device),
            attention_mask=text["attention_mask"].to(self.device),
            pixel_values=self._pixels(frames)["pixel_values"],
        )
        return seen.logits.sigmoid().amax(-1), seen.pred_boxes

    def _scale(self, frame: U8) -> Tensor:
        return torch.full((4,), float(max(frame.shape[:2])))


def _processor(name: str, folder: Path) -> Any:
    try:
        return pretrained.class_of(name).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"How pictures are prepared for it can't be read: {first_line(error)}",
            where=str(folder),
            cure=pretrained.CURE,
        ) from error


def _corners(boxes: Tensor) -> Tensor:
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], -1)


def _kept(scores: Tensor, boxes: Tensor, frame: U8, least: float) -> list[Found]:
    """Boxes from a score on, cut to the frame, one a character."""
    height, width = frame.shape[:2]
    good = scores > least
    found = [
        Found(within((box[0], box[1], box[2], box[3]), height, width), float(score))
        for box, score in zip(boxes[good].tolist(), scores[good].tolist(), strict=True)
    ]
    found = [one for one in found if one.box[2] - one.box[0] >= 1 and one.box[3] - one.box[1] >= 1]
    return [found[k] for k in suppressed([one.box for one in found], [one.score for one in found], ONE)]
