"""Small pictures for the page: made when first asked for, kept in .bglora/thumbnails until their picture changes."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bglora.engine.files import digest_bytes, stamp, told, unlink_quietly, write_atomically
from bglora.errors import UserError
from bglora.report.pictures import PROVENANCE_COLORS

WIDTHS = (160, 240, 320, 480, 640, 960, 1280, 1920)
"""Widths that are made; a wish in between gets the next one."""
QUALITY = 80
TYPES = {".webp": "image/webp", ".png": "image/png"}
_MAKING = tuple(threading.Lock() for _ in range(16))
"""One is held while a picture of its share is made: two tabs that ask for the same one get one."""


@dataclass(frozen=True)
class Shown:
    """A picture as it is sent.

    Attributes:
        path: of the file, when it need not be made; else `content` has it.
        tag: changes when the picture does.
    """

    media_type: str
    tag: str
    content: bytes = b""
    path: Path | None = None


def shown(root: Path, path: str, kind: str, width: int) -> Shown:
    """A picture of the project no wider than about `width` pixels; 0 for as it is.

    Masks are 8-bit PNG with their values as they are, provenance see-through colors, anything else WebP.

    Args:
        root: the project folder. path: in it, as the ledger has it.

    Raises:
        UserError: the file is gone, leads out of the project, or can't be read.
    """
    file = inside(root, path)
    now = stamp(file)
    width = next((one for one in WIDTHS if one >= width), WIDTHS[-1]) if width > 0 else 0
    tag = digest_bytes(f"{path}\n{kind}\n{now}\n{width}".encode())
    if width == 0 and kind != "provenance":
        return Shown(TYPES.get(file.suffix, "application/octet-stream"), tag, path=file)
    place = digest_bytes(f"{path}\n{kind}\n{width}".encode())
    folder = root / ".bglora" / "thumbnails" / place[:2]
    ending = ".png" if kind == "mask" else ".webp"
    kept = folder / f"{place}-{tag[:12]}{ending}"
    with _MAKING[int(place[0], 16)]:
        if not kept.is_file():
            content = _made(file, kind, width)
            for old in folder.glob(f"{place}-*"):
                unlink_quietly(old)
            with told(kept):
                write_atomically(kept, content, scratch=root / ".bglora" / "edits", durable=False)
            return Shown(TYPES[ending], tag, content=content)
    return Shown(TYPES[ending], tag, path=kept)


def inside(root: Path, path: str) -> Path:
    """A file of the project, links followed. Raises `UserError` where it is none."""
    try:
        file = (root / path).resolve(strict=True)
        there = file.is_file() and file.is_relative_to(root.resolve())
    except (OSError, ValueError):
        there = False
    if not there:
        raise UserError(
            "This picture is not there.", where=path[:200], cure="Load the page anew; a run may have moved it."
        )
    return file


def _made(file: Path, kind: str, width: int) -> bytes:
    try:
        with Image.open(file) as picture:
            picture.load()
            small = _drawn(picture, kind, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"This picture can't be read: {error}.", where=file.name, cure="Delete it and run again."
        ) from None
    buffer = io.BytesIO()
    if kind == "mask":
        small.save(buffer, "PNG")
    elif kind == "provenance":
        small.save(buffer, "WEBP", lossless=True, quality=40, method=2)
    else:
        small.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def _drawn(picture: Image.Image, kind: str, width: int) -> Image.Image:
    if kind == "mask":
        return _shrunk(picture.convert("L"), width, Image.Resampling.NEAREST)
    if kind == "provenance":
        if picture.mode not in ("P", "L"):
            raise ValueError(f"provenance is an 8 bit palette picture, this one is {picture.mode}")
        indices = np.asarray(_shrunk(picture, width, Image.Resampling.NEAREST)).clip(0, 3)
        return Image.fromarray(np.asarray(PROVENANCE_COLORS, np.uint8)[indices])
    return _shrunk(picture.convert("RGB"), width, Image.Resampling.LANCZOS)


def _shrunk(picture: Image.Image, width: int, how: Image.Resampling) -> Image.Image:
    if width == 0 or picture.width <= width:
        return picture
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), how)
