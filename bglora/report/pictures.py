"""Pictures of the project as small WebP inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

OBJECT_COLOR = (232, 72, 98)
EFFECT_COLOR = (245, 176, 65)
PROVENANCE_COLORS = ((0, 0, 0, 0), (38, 166, 154, 170), (245, 166, 35, 190), (214, 48, 96, 205))
"""RGBA by provenance: original (see-through), recovered, guessed, not trusted."""


@dataclass(frozen=True)
class Picture:
    """A picture ready for the page: `source` is a data URI; width and height are pixels as shown at most."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Unreadable:
    """A picture that is not there or can't be read, and why, in a few words."""

    why: str


def photo(path: Path, width: int, quality: int = 74) -> Picture | Unreadable:
    """A picture no wider than `width` pixels."""
    picture = _open(path, "RGB")
    return picture if isinstance(picture, Unreadable) else _embed(_shrink(picture, width), quality)


def mask_over(frame_path: Path, mask_path: Path, width: int) -> Picture | Unreadable:
    """The frame in grey with the character in red and its shadow or reflection in amber.

    The mask is 8 bit: 0 background, 128 effect, 255 object.
    """
    frame, mask = _open(frame_path, "L"), _open(mask_path, "L")
    if isinstance(frame, Unreadable):
        return frame
    if isinstance(mask, Unreadable):
        return mask
    if mask.size != frame.size:
        return Unreadable(f"the mask is {mask.width} × {mask.height}, the frame {frame.width} × {frame.height}")
    grey = np.asarray(_shrink(frame, width), np.float32)
    values = np.asarray(mask)
    size = (grey.shape[1], grey.shape[0])
    canvas = np.repeat((grey * 0.62 + 26)[..., None], 3, axis=2)
    for chosen, color in ((values == 128, EFFECT_COLOR), (values == 255, OBJECT_COLOR)):
        cover = np.asarray(
            Image.fromarray(chosen.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX), np.float32
        )
        alpha = cover[..., None] / 255 * 0.78
        canvas = canvas * (1 - alpha) + np.asarray(color, np.float32) * alpha
    return _embed(Image.fromarray(canvas.round().astype(np.uint8)), 70)


def provenance_layer(path: Path, width: int) -> Picture | Unreadable:
    """Where a plate's pixels come from, as colors to lay over it; original pixels are see-through.

    The file is an 8 bit palette or grey picture with 0 original, 1 recovered, 2 guessed, 3 not trusted.
    """
    picture = _open(path, None)
    if isinstance(picture, Unreadable):
        return picture
    if picture.mode not in {"P", "L"}:
        return Unreadable(f"provenance must be an 8 bit palette picture, this one is {picture.mode}")
    indices = np.asarray(_shrink(picture, width, Image.Resampling.NEAREST)).clip(0, 3)
    colors = np.asarray(PROVENANCE_COLORS, np.uint8)[indices]
    return _embed(Image.fromarray(colors, "RGBA"), 60, lossless=True)


def _open(path: Path, mode: str | None) -> Image.Image | Unreadable:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.convert(mode) if mode and picture.mode != mode else picture.copy()
    except FileNotFoundError:
        return Unreadable("the file is gone")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Unreadable(f"the file can't be read: {error}")


def _shrink(picture: Image.Image, width: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    if picture.width <= width:
        return picture
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), how)


def _embed(picture: Image.Image, quality: int, lossless: bool = False) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=4, lossless=lossless)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", picture.width, picture.height)
