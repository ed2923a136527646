"""PNG files: written fast and always with the same bytes, read with a guard against decompression bombs.

Plain PNG writers try filters line by line and search hard for matches: 43 to 61 ms of CPU for a 720p frame, against
5 ms for decoding it. Here every line has the filter *up* (one numpy subtraction for the whole picture) and igzip
(python-isal) deflates it: under 10 ms for a file about as small as zlib's level 1 gives.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before anything is unpacked: 12,000 x 10,000 is more than any film has."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_COLOR_TYPE = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGBA}


def encode_png(
    picture: np.ndarray,
    palette: Sequence[tuple[int, int, int]] | None = None,
    text: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a PNG file; the same picture gives the same bytes.

    Args:
        picture: uint8 (H, W) grey or palette indices, (H, W, 3) RGB or (H, W, 4) RGBA.
        palette: colors of the indices, for a palette picture (H, W).
        text: metadata, keyword (1 to 79 Latin letters) to text in any script.
    """
    import numpy as np
    from isal import isal_zlib

    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, C), not {picture.dtype} {picture.shape}")
    height, width = picture.shape[:2]
    channels = picture.shape[2] if picture.ndim == 3 else 1
    color = _PALETTE if palette is not None else _COLOR_TYPE[channels]
    parts = [_SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", bytes(value for rgb in palette for value in rgb)))
    for keyword, value in (text or {}).items():
        parts.append(_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode()))
    parts.append(_chunk(b"IDAT", isal_zlib.compress(_filtered(picture.reshape(height, -1)), 2)))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def write_png(
    path: Path,
    picture: np.ndarray,
    palette: Sequence[tuple[int, int, int]] | None = None,
    text: Mapping[str, str] | None = None,
) -> None:
    """Writes `encode_png` to a file and makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture, palette, text))


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of any picture file by its header alone; nothing is unpacked.

    Raises:
        UserError: not a picture, or larger than `MAX_PIXELS`.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
    except FileNotFoundError:
        raise UserError(
            "The picture is not there.", where=str(path), cure="put it back, or run the stage again"
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(path, "more than 178 million pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, str(error)) from None
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} x {height}")
    return height, width


def read_picture(path: Path) -> np.ndarray:
    """A picture file as uint8 RGB (H, W, 3); 16 bit is rounded to 8, alpha is dropped.

    Raises:
        UserError: not a picture, damaged, or larger than `MAX_PIXELS`.
    """
    import cv2

    raw = _decode(path)
    if raw.ndim == 2:
        return cv2.cvtColor(raw, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(raw, cv2.COLOR_BGRA2RGB if raw.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def read_rgba(path: Path) -> np.ndarray:
    """A picture file as uint8 RGBA (H, W, 4); opaque where the file has no alpha. Errors as `read_picture`."""
    import cv2

    raw = _decode(path)
    if raw.ndim == 2:
        return cv2.cvtColor(raw, cv2.COLOR_GRAY2RGBA)
    return cv2.cvtColor(raw, cv2.COLOR_BGRA2RGBA if raw.shape[2] == 4 else cv2.COLOR_BGR2RGBA)


def read_grey(path: Path) -> np.ndarray:
    """A picture file as uint8 (H, W): grey values, or the indices of a palette picture. Errors as `read_picture`."""
    import numpy as np
    from PIL import Image

    picture_size(path)
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L", "1"):
                return np.asarray(picture.convert("L"))
            return np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, str(error)) from None


def _decode(path: Path) -> np.ndarray:
    """uint8 (H, W), (H, W, 3) BGR or (H, W, 4) BGRA."""
    import cv2
    import numpy as np

    picture_size(path)
    raw = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype not in (np.uint8, np.uint16):
        raise _unreadable(path, "damaged data" if raw is None else f"values of type {raw.dtype}")
    if raw.dtype == np.uint16:
        raw = np.round(raw / 257.0).astype(np.uint8)
    return raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw


def _filtered(rows: np.ndarray) -> np.ndarray:
    """Bytes (H, stride) behind the filter *up*, each line led by its filter type."""
    import numpy as np

    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0] = 2
    out[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=out[1:, 1:])
    return out


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"The picture cannot be read: {why}.", where=str(path), cure="replace the file or take it away")


def _too_large(path: Path, size: str) -> UserError:
    return UserError(
        f"The picture is refused: {size}, at most {MAX_PIXELS // 1_000_000} million pixels are unpacked.",
        where=str(path),
        cure="replace it by a smaller one or take it away",
    )
