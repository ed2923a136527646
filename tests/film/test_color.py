"""Colors are those of the stream's own matrix and range, within 2 grey levels of the definition in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bglora.film.video import VideoFile
from tests.film.films import write_planes

UNTAGGED, BT709, BT601, BT2020 = 2, 1, 6, 9
NO_RANGE, LIMITED, FULL = 0, 1, 2
WEIGHTS = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114), BT2020: (0.2627, 0.0593)}


def planes(height: int, width: int, bits: int, halved: tuple[int, int], full: bool) -> list[np.ndarray]:
    """Y, U, V that reach far into their range; chroma sampled on the left luma column, between two luma rows."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    luma = 0.5 + 0.45 * np.sin(9 * columns + 4 * rows)
    blue = 0.35 * np.sin(5 * columns - 3 * rows + 1)
    red = 0.35 * np.cos(4 * columns + 5 * rows)
    scale = 2 ** (bits - 8)
    if full:
        values = [luma * (2**bits - 1), *(c * (2**bits - 1) + 2 ** (bits - 1) for c in (blue, red))]
    else:
        values = [(16 + 219 * luma) * scale, *((128 + 224 * c) * scale for c in (blue, red))]
    down, across = halved
    values[1:] = [_sited(c, down, across) for c in values[1:]]
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.clip(np.round(v), 0, 2**bits - 1).astype(kind) for v in values]


def _sited(chroma: np.ndarray, down: int, across: int) -> np.ndarray:
    rows = chroma if down == 1 else (chroma[0::2] + chroma[1::2]) / 2
    return rows[:, ::across]


def expected(values: list[np.ndarray], bits: int, halved: tuple[int, int], matrix: int, full: bool) -> np.ndarray:
    """The definition (ITU-R BT.601, BT.709, BT.2020) in float64, chroma interpolated linearly between the sites that
    H.264 gives it where nothing else is said."""
    luma, blue, red = (v.astype(np.float64) for v in values)
    blue, red = (_at_luma(c, luma.shape, *halved) for c in (blue, red))
    scale, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    if full:
        y, b, r = luma / (2**bits - 1), (blue - middle) / (2**bits - 1), (red - middle) / (2**bits - 1)
    else:
        y, b, r = (luma / scale - 16) / 219, (blue / scale - 128) / 224, (red / scale - 128) / 224
    of_red, of_blue = WEIGHTS[matrix]
    red_out, blue_out = y + 2 * (1 - of_red) * r, y + 2 * (1 - of_blue) * b
    green_out = (y - of_red * red_out - of_blue * blue_out) / (1 - of_red - of_blue)
    return np.clip(255 * np.stack([red_out, green_out, blue_out], axis=-1), 0, 255)


def _at_luma(chroma: np.ndarray, shape: tuple[int, ...], down: int, across: int) -> np.ndarray:
    rows, columns = np.arange(shape[0], dtype=float), np.arange(shape[1], dtype=float)
    row_sites = (rows - 0.5) / 2 if down == 2 else rows
    column_sites = columns / 2 if across == 2 else columns
    along = np.stack([np.interp(column_sites, np.arange(chroma.shape[1]), line) for line in chroma])
    return np.stack([np.interp(row_sites, np.arange(chroma.shape[0]), line) for line in along.T], axis=1)


FORMATS = [("yuv420p", 8, (2, 2)), ("yuv422p", 8, (1, 2)), ("yuv444p", 8, (1, 1))]
FORMATS += [("yuv420p10le", 10, (2, 2)), ("yuv422p10le", 10, (1, 2)), ("yuv444p10le", 10, (1, 1))]


@pytest.mark.parametrize(("pix_fmt", "bits", "halved"), FORMATS)
@pytest.mark.parametrize("matrix", [BT601, BT709, BT2020])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_tagged_colors_are_within_two_grey_levels(
    tmp_path: Path, pix_fmt: str, bits: int, halved: tuple[int, int], matrix: int, color_range: int
) -> None:
    full = color_range == FULL
    values = planes(120, 208, bits, halved, full)
    path = write_planes(tmp_path / "film.mkv", values, pix_fmt, matrix, color_range)
    with VideoFile(path) as video:
        _, frame = next(video.decode())
        picture = video.picture(frame)
        assert video.colors.tagged == "both"
    error = np.abs(picture - expected(values, bits, halved, matrix, full))
    assert error.max() <= 2.0


@pytest.mark.parametrize(("height", "matrix", "name"), [(718, BT601, "bt601"), (720, BT709, "bt709")])
def test_untagged_film_is_bt709_limited_from_720_rows_on(tmp_path: Path, height: int, matrix: int, name: str) -> None:
    values = planes(height, 64, 8, (2, 2), full=False)
    path = write_planes(tmp_path / "film.mkv", values, "yuv420p", UNTAGGED, NO_RANGE)
    with VideoFile(path) as video:
        _, frame = next(video.decode())
        picture = video.picture(frame)
        assert (video.colors.matrix, video.colors.range, video.colors.tagged) == (name, "limited", "none")
    assert np.abs(picture - expected(values, 8, (2, 2), matrix, False)).max() <= 2.0


def test_flat_colors_are_exact_in_another_codec(tmp_path: Path) -> None:
    values = [np.full((64, 96), 90, np.uint8), np.full((32, 48), 200, np.uint8), np.full((32, 48), 60, np.uint8)]
    path = write_planes(tmp_path / "film.mkv", values, "yuv420p", BT709, LIMITED, codec="ffv1")
    with VideoFile(path) as video:
        _, frame = next(video.decode())
        picture = video.picture(frame)
    assert np.abs(picture - expected(values, 8, (2, 2), BT709, False)).max() <= 1.0


def test_the_small_grey_picture_has_full_range(tmp_path: Path) -> None:
    values = [np.full((64, 96), 235, np.uint8), *[np.full((32, 48), 128, np.uint8)] * 2]
    path = write_planes(tmp_path / "film.mkv", values, "yuv420p", BT601, LIMITED)
    with VideoFile(path) as video:
        _, frame = next(video.decode())
        assert np.abs(video.grey(frame, (32, 48)).astype(int) - 255).max() <= 1
