"""A contact sheet: pictures in rows and columns with labels, as a person compares them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, RULE = (28, 30, 34), (250, 250, 248), (214, 214, 210)
GAP, HEAD, SIDE = 6, 30, 190


def contact_sheet(
    cells: Sequence[Sequence[Sequence[np.ndarray]]],
    rows: Sequence[str],
    columns: Sequence[str],
    thumb: int,
    across: int = 0,
) -> Image.Image:
    """Lays out `cells[row][column]`, each a few uint8 (H, W, 3) pictures, which stand together in a block.

    Args:
        thumb: the longer side of a picture on the sheet in pixels.
        across: pictures of a block side by side; 0: so that it is nearly a square.
    """
    most = max(len(cell) for row in cells for cell in row)
    across = across or int(np.ceil(np.sqrt(most)))
    down = int(np.ceil(most / across))
    height, width = _fitted(cells[0][0][0].shape[:2], thumb)
    cell_w, cell_h = across * (width + 2), down * (height + 2)
    size = (SIDE + len(columns) * (cell_w + GAP) + GAP, HEAD + len(rows) * (cell_h + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, label in enumerate(columns):
        x = SIDE + number * (cell_w + GAP) + cell_w / 2
        pen.text((x, HEAD / 2), label, INK, ImageFont.load_default(15), anchor="mm")
    for row, (label, line) in enumerate(zip(rows, cells, strict=True)):
        top = HEAD + row * (cell_h + GAP)
        pen.line([(GAP, top - GAP / 2), (size[0] - GAP, top - GAP / 2)], RULE)
        _label(pen, label, top, cell_h)
        for column, cell in enumerate(line):
            left = SIDE + column * (cell_w + GAP)
            for number, picture in enumerate(cell):
                place = (left + number % across * (width + 2), top + number // across * (height + 2))
                sheet.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), place)
    return sheet


def _fitted(size: tuple[int, ...], thumb: int) -> tuple[int, int]:
    height, width = size
    scale = thumb / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _label(pen: ImageDraw.ImageDraw, text: str, top: int, height: int) -> None:
    """The row's text, wrapped; cut with an ellipsis where the row is too low for all of it."""
    lines = textwrap.wrap(text, 27) or [""]
    room = max(1, height // 17)
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1][:26] + "…"]
    pen.multiline_text((GAP, top + 2), "\n".join(lines), INK, ImageFont.load_default(13), spacing=3)
