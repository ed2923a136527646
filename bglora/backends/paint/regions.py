"""Where characters stand in a picture: from a box, from a mask picture, or as attention shows it; with soft edges."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from bglora.errors import UserError

ATTENTION = "attention"
CURE = (
    'Give "attention", a box as shares of the picture ("0.3 0.2 0.7 0.95": left, top, right, bottom), or a mask '
    "picture that is white where the character stands."
)
LEAST, MOST = 0.04, 0.35
"""Shares of the picture that a region found from attention has at least and at most."""


def as_box(text: str) -> tuple[float, float, float, float] | None:
    """`0.3 0.2 0.7 0.95` as left, top, right, bottom in shares of the picture's sides; None if it is no four numbers.

    Raises:
        UserError: the box reaches beyond the picture, or has no inside.
    """
    parts = text.replace(",", " ").split()
    try:
        left, top, right, bottom = (float(part) for part in parts)
    except ValueError:
        return None
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(
            "The region's box reaches beyond the picture."
            if left < right and top < bottom
            else "The region's box has no inside: left must be less than right, top less than bottom.",
            where=f"compose.region: {text}",
            cure=CURE,
        )
    return left, top, right, bottom


def check(text: str, root: Path) -> Path | None:
    """The mask picture that a region names, or None for a box and for attention.

    Raises:
        UserError: it is none of these.
    """
    if text == ATTENTION or as_box(text) is not None:
        return None
    path = root / text
    if not path.is_file():
        raise UserError("There is no such region: no mask picture is here.", where=f"compose.region: {text}", cure=CURE)
    return path


def from_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """float32 (H, W), 1 inside. A box thinner than a pixel has one.

    Args:
        box: left, top, right, bottom in shares of the sides. size: (height, width) in pixels.
    """
    height, width = size
    mask = np.zeros(size, np.float32)
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    mask[top : max(top + 1, round(box[3] * height)), left : max(left + 1, round(box[2] * width))] = 1.0
    return mask


def from_picture(path: Path, size: tuple[int, int], name: str) -> np.ndarray:
    """float32 (H, W), 0 to 1, of a mask picture of any size: its transparency if it has one, else its brightness.

    Raises:
        UserError: it can't be read, or is black all over.
    """
    try:
        with Image.open(path) as picture:
            clear = "A" in picture.getbands()
            gray = picture.getchannel("A") if clear else picture.convert("L")
            shrunk = gray.resize(
                size[::-1], Image.Resampling.BOX if gray.width > size[1] else Image.Resampling.BILINEAR
            )
            mask = np.asarray(shrunk, np.float32) / 255.0
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(
            "The mask picture of the region can't be read.", where=f"compose.region: {name}", cure=CURE
        ) from error
    if mask.max() < 0.5:
        raise UserError(
            "The mask picture of the region is black all over: no place is left for the character.",
            where=f"compose.region: {name}",
            cure=CURE,
        )
    return mask


def from_attention(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The region that words look at: float32 (H, W), 1 inside.

    Cells above Otsu's threshold that hang together with the strongest one. Where that is next to nothing or nearly
    everything, attention has no clear opinion: then as many of the strongest cells as the bound allows.

    Args:
        attention: float32 (h, w), how much each latent cell looks at the words. size: (height, width) in pixels.
    """
    smooth = cv2.GaussianBlur(attention.astype(np.float32), (0, 0), max(0.7, min(attention.shape) / 24))
    span = max(float(np.ptp(smooth)), 1e-12)
    levels = ((smooth - smooth.min()) / span * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    threshold = float(np.clip(threshold, np.quantile(levels, 1 - MOST), np.quantile(levels, 1 - LEAST)))
    _, parts = cv2.connectedComponents((levels >= threshold).astype(np.uint8), connectivity=8)
    inside = (parts == parts[np.unravel_index(levels.argmax(), levels.shape)]).astype(np.uint8)
    grown = cv2.morphologyEx(np.pad(inside, 2), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))[2:-2, 2:-2]
    grown = cv2.dilate(grown, np.ones((3, 3), np.uint8))
    return cv2.resize(grown, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.float32)


def feathered(mask: np.ndarray, share: float) -> np.ndarray:
    """Soft edges that lie inside of the region, so that nothing reaches out of it: float32 (H, W), 0 to 1.

    Args:
        mask: (H, W), 0 to 1. share: the edge's width as a share of the shorter side. The picture's own border is no
            edge.
    """
    width = share * min(mask.shape)
    if width < 1:
        return mask.astype(np.float32)
    wide = int(np.ceil(width))
    inside = cv2.copyMakeBorder((mask > 0).astype(np.uint8), wide, wide, wide, wide, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[wide:-wide, wide:-wide]
    return (mask * np.clip(distance / width, 0.0, 1.0)).astype(np.float32)


def as_text(mask: np.ndarray) -> str:
    """A mask as base64 of an 8-bit PNG, for recipes."""
    stream = io.BytesIO()
    Image.fromarray(np.round(mask * 255).astype(np.uint8)).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def from_text(text: str) -> np.ndarray:
    """The mask that `as_text` wrote: float32 (H, W), 0 to 1."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
        return np.asarray(picture.convert("L"), np.float32) / 255.0


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom in pixels of what is inside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
