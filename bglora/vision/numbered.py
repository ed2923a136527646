"""A frame whose pixels have numbers, one a character: who claims which pixel, and how that is kept small."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import cv2
import numpy as np

from bglora.vision.arrays import F32, Bool
from bglora.vision.boxes import Box, box_of

SAME = 0.5
"""Intersection over union from which two masks, or two boxes, are one character."""


@dataclass(frozen=True)
class Seen:
    """A net's answer in a frame.

    Attributes:
        box: rows and columns in which it is positive.
        logits: float32, in the box. inside: bool, where it counts.
    """

    box: tuple[slice, slice]
    logits: F32
    inside: Bool

    @classmethod
    def of(cls, logits: F32, size: tuple[int, ...]) -> Seen | None:
        """Grown to the frame's size (height, width), bilinearly; None where nothing is positive."""
        rows, columns = np.flatnonzero((logits > 0).any(1)), np.flatnonzero((logits > 0).any(0))
        if not len(rows):
            return None
        (height, width), (h, w) = size[:2], logits.shape
        top, bottom = max(0, int((rows[0] - 1) * height / h)), min(height, -int(-(rows[-1] + 2) * height // h))
        left, right = max(0, int((columns[0] - 1) * width / w)), min(width, -int(-(columns[-1] + 2) * width // w))
        place = np.array(
            [[w / width, 0, (left + 0.5) * w / width - 0.5], [0, h / height, (top + 0.5) * h / height - 0.5]]
        )
        grown = cv2.warpAffine(
            logits,
            place,
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        seen = cls((slice(top, bottom), slice(left, right)), np.asarray(grown, np.float32), np.asarray(grown > 0))
        return seen if seen.inside.any() else None


@dataclass(frozen=True)
class Mask:
    """Where somebody is: a box (rows, columns) of the frame and the mask in it."""

    box: tuple[slice, slice]
    inside: Bool

    def bounds(self) -> Box:
        """The box around the mask, in the frame."""
        left, top, right, bottom = box_of(self.inside)
        y, x = self.box[0].start, self.box[1].start
        return left + x, top + y, right + x, bottom + y


@dataclass
class NumberedFrame:
    """A frame's numbers.

    Attributes:
        labels: uint16 (H, W), the number of the character at each pixel, 0 for nobody.
        best: float32 (H, W), the logits by which each pixel was won.
        boxes: in which box each number is that was claimed for.
    """

    labels: np.ndarray
    best: F32
    boxes: dict[int, tuple[slice, slice]] = field(default_factory=dict)

    def claim(self, number: int, seen: Seen, *, sure: bool = False) -> None:
        """Gives somebody the pixels at which his logits are the highest; all that are his if it is `sure`."""
        best = self.best[seen.box]
        won = seen.inside if sure else seen.inside & (seen.logits > best)
        self.labels[seen.box][won] = number
        best[won] = np.maximum(best[won], seen.logits[won])
        self.boxes[number] = seen.box

    def fill(self, number: int, seen: Seen) -> None:
        """Gives somebody those of his pixels that are nobody's."""
        labels = self.labels[seen.box]
        labels[seen.inside & (labels == 0)] = number

    def clear(self, number: int) -> None:
        """Takes all pixels from somebody."""
        self.labels[self.labels == number] = 0

    def mask(self, number: int) -> Mask | None:
        """Where somebody is who was claimed for; None if nowhere."""
        if number not in self.boxes:
            return None
        inside = self.labels[self.boxes[number]] == number
        return Mask(self.boxes[number], np.asarray(inside)) if inside.any() else None

    def whom(self, seen: Seen) -> int:
        """The number of the one whose mask this is; 0 if it is nobody's."""
        own = int(seen.inside.sum())
        numbers, shared = np.unique(self.labels[seen.box][seen.inside], return_counts=True)
        for number, both in zip(numbers.tolist(), shared.tolist(), strict=True):
            if number and both >= SAME * own / 2 and both >= SAME * (own + int((self.labels == number).sum()) - both):
                return int(number)
        return 0


@dataclass(frozen=True)
class Runs:
    """A label map (height, width) as runs of equal numbers, row by row: lengths and numbers, deflated."""

    size: tuple[int, int]
    count: int
    data: bytes

    @classmethod
    def of(cls, labels: np.ndarray) -> Runs:
        """Packs a label map."""
        flat = labels.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        lengths = np.diff(np.append(starts, len(flat))).astype(np.int32)
        data = zlib.compress(lengths.tobytes() + flat[starts].astype(np.uint16).tobytes(), 1)
        return cls((labels.shape[0], labels.shape[1]), len(starts), data)

    def unpacked(self) -> np.ndarray:
        """The label map, uint16."""
        data = zlib.decompress(self.data)
        lengths = np.frombuffer(data, np.int32, self.count)
        numbers = np.frombuffer(data, np.uint16, self.count, 4 * self.count)
        return np.repeat(numbers, lengths).reshape(self.size)
