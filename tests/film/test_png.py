"""PNG files: exact, always the same bytes, refused when they would fill the memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bglora.errors import UserError
from bglora.film.png import encode_png, picture_size, read_grey, read_picture, read_rgba, write_png

RNG = np.random.default_rng(5)


def bomb(path: Path, side: int = 30_000) -> Path:
    """A PNG of side x side black pixels in a few hundred kilobytes."""
    packer = zlib.compressobj(9)
    line = bytes(1 + side * 3)
    data = b"".join([packer.compress(line) for _ in range(64)]) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("shape", [(7, 5), (33, 20, 3), (9, 14, 4), (1, 1, 3), (10, 10, 2)])
def test_other_readers_see_the_same_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = RNG.integers(0, 255, shape, np.uint8)
    write_png(tmp_path / "deep" / "a.png", picture)
    with Image.open(tmp_path / "deep" / "a.png") as opened:
        assert (np.asarray(opened) == picture).all()


def test_the_same_picture_gives_the_same_bytes() -> None:
    picture = RNG.integers(0, 255, (50, 40, 3), np.uint8)
    assert encode_png(picture) == encode_png(picture.copy(order="F"))


def test_palette_pictures_keep_their_indices(tmp_path: Path) -> None:
    indices = RNG.integers(0, 4, (21, 17), np.uint8)
    path = tmp_path / "provenance.png"
    write_png(path, indices, palette=[(0, 0, 0), (80, 160, 80), (220, 160, 40), (200, 40, 40)])
    assert (read_grey(path) == indices).all()
    with Image.open(path) as opened:
        assert opened.mode == "P"


def test_text_in_any_script_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.zeros((4, 4, 3), np.uint8), text={"prompt": "渓谷, no characters"})
    with Image.open(path) as opened:
        assert opened.text["prompt"] == "渓谷, no characters"  # type: ignore[attr-defined]


def test_smooth_pictures_stay_small() -> None:
    smooth = cv2.resize(RNG.integers(0, 255, (6, 8, 3), np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)
    plain = cv2.imencode(".png", smooth, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    assert len(encode_png(smooth)) < 1.2 * len(plain)


def test_other_kinds_of_pictures_are_read(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65535, (12, 10, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert np.abs(read_picture(tmp_path / "deep.png")[..., ::-1] - deep / 257).max() <= 0.51
    grey = RNG.integers(0, 255, (12, 10), np.uint8)
    write_png(tmp_path / "grey.png", grey)
    assert (read_picture(tmp_path / "grey.png") == grey[..., None]).all()
    assert (read_rgba(tmp_path / "grey.png")[..., 3] == 255).all()
    Image.fromarray(RNG.integers(0, 255, (12, 10, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").shape == (12, 10, 3)


@pytest.mark.parametrize("read", [read_picture, read_rgba, read_grey, picture_size])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, read: object) -> None:
    with pytest.raises(UserError, match="refused"):
        read(bomb(tmp_path / "bomb.png"))  # type: ignore[operator]


def test_damaged_and_missing_pictures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(encode_png(RNG.integers(0, 255, (50, 40, 3), np.uint8))[:700])
    for bad in (path, tmp_path / "missing.png"):
        with pytest.raises(UserError) as error:
            read_picture(bad)
        assert str(bad) in error.value.where
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        read_grey(tmp_path / "text.png")
