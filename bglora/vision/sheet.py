"""Contact sheets: many pictures small on one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bglora.film.png import read_picture

MOST, COLUMNS, WIDTH, GAP = 24, 6, 160, 4
BACKGROUND = 24


def write_sheet(path: Path, files: Sequence[Path]) -> None:
    """Writes a WebP with at most MOST of the pictures, evenly chosen, COLUMNS a row, each WIDTH pixels wide."""
    chosen = [files[round(i)] for i in np.linspace(0, len(files) - 1, min(MOST, len(files)))]
    thumbs = [_thumb(read_picture(file)) for file in chosen]
    height = max(thumb.shape[0] for thumb in thumbs)
    columns = min(COLUMNS, len(thumbs))
    rows = -(-len(thumbs) // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (WIDTH + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for number, thumb in enumerate(thumbs):
        top = GAP + (number // columns) * (height + GAP) + (height - thumb.shape[0]) // 2
        left = GAP + (number % columns) * (WIDTH + GAP)
        sheet[top : top + thumb.shape[0], left : left + WIDTH] = thumb
    done, data = cv2.imencode(".webp", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 80])
    if not done:
        raise ValueError(f"OpenCV cannot write {path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def _thumb(picture: np.ndarray) -> np.ndarray:
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    return cv2.resize(picture, (WIDTH, min(height, 3 * WIDTH)), interpolation=cv2.INTER_AREA)
