"""The sheet of `inpaint --compare`: a row a picture, a column an engine, scores under each."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from bglora.stages.comparing import Compared

INK, SOFT, PAPER, BEST = (28, 30, 34), (110, 112, 116), (250, 250, 248), (20, 120, 80)
WIDTH, GAP, HEAD, FOOT = 360, 10, 62, 44
EXPLAINED = "dB and SSIM inside a hole where the truth is known; flat: one color instead. Green: the best."
OUTLINE = (255, 70, 160)


def write_comparison(path: Path, found: Sequence[Compared], names: Sequence[str]) -> None:
    """Writes the sheet as PNG: the frame with the hole outlined, what is true there, and what each engine made."""
    height = max(one.frame.shape[0] for one in found)
    columns = ["frame, hole outlined", "true background", *names]
    size = (GAP + len(columns) * (WIDTH + GAP), HEAD + len(found) * (height + FOOT + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, label in enumerate(columns):
        pen.text((_left(number), GAP), label, INK, ImageFont.load_default(17))
    pen.text((GAP, GAP + 24), EXPLAINED, SOFT, ImageFont.load_default(13))
    for row, one in enumerate(found):
        _row(sheet, pen, one, names, HEAD + row * (height + FOOT + GAP), height)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(buffer.getvalue())
    os.replace(aside, path)


def _row(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, one: Compared, names: Sequence[str], top: int, height: int
) -> None:
    sheet.paste(Image.fromarray(one.frame), (_left(0), top))
    line = f"{one.picture}: {one.share:.1%} missing"
    pen.text((_left(0), top + height + 4), line, INK, ImageFont.load_default(14))
    if one.truth is not None:
        sheet.paste(Image.fromarray(one.truth), (_left(1), top))
        pen.text((_left(1), top + height + 4), "withheld: other frames show it", SOFT, ImageFont.load_default(14))
    else:
        pen.text((_left(1), top + 8), "never revealed,", SOFT, ImageFont.load_default(14))
        pen.text((_left(1), top + 28), "scored on withheld pixels beside it", SOFT, ImageFont.load_default(14))
    ranks = {name: scores.rank for name, scores in one.scores.items() if scores is not None}
    best = max(ranks, key=ranks.__getitem__) if len(ranks) > 1 else ""
    for number, name in enumerate(names):
        left, scores = _left(number + 2), one.scores[name]
        sheet.paste(Image.fromarray(one.filled[name]), (left, top))
        words = "no room to withhold anything"
        if scores is not None:
            words = f"{scores.hole_psnr_db:.1f} dB  {scores.hole_ssim:.2f}"
            flat = f"flat {scores.flat_psnr_db:.1f} dB  {scores.flat_ssim:.2f}"
            pen.text((left, top + height + 23), flat, SOFT, ImageFont.load_default(13))
        pen.text((left, top + height + 4), words, BEST if name == best else INK, ImageFont.load_default(14))


def _left(column: int) -> int:
    return GAP + column * (WIDTH + GAP)


def small(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) at the width of the sheet's columns."""
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    return np.asarray(Image.fromarray(picture).resize((WIDTH, height), Image.Resampling.LANCZOS))


def outlined(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The picture with the outline of a hole (bool, of any size) drawn in."""
    out = picture.copy()
    mask = cv2.resize(hole.astype(np.uint8), out.shape[1::-1], interpolation=cv2.INTER_AREA)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, OUTLINE, 1)
    return out
