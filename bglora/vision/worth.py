"""Is a picture worth learning from? Sharpness, exposure, content."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bglora.film.survey import sharpness, working_size

DARK, BRIGHT, FLAT = 12, 248, 4.0
MOST = 0.9
"""Share of the picture that may be nearly black or nearly white."""


@dataclass(frozen=True)
class Judgement:
    """Attributes:
    sharpness: variance of the Laplacian at the working size.
    fault: why nothing can be learned from it, or empty.
    """

    sharpness: float
    fault: str


def judge(picture: np.ndarray) -> Judgement:
    """Judges a uint8 RGB picture (H, W, 3)."""
    height, width = working_size(*picture.shape[:2])
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    return Judgement(sharpness(small), _fault(small))


def _fault(gray: np.ndarray) -> str:
    if (gray < DARK).mean() > MOST:
        return "nearly all of it is black"
    if (gray > BRIGHT).mean() > MOST:
        return "nearly all of it is white"
    return "nothing to see but one even tone" if gray.std() < FLAT else ""
