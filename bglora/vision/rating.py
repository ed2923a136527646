"""How good a fill is where the truth is known, in withheld holes of the same shape; how it looks where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree

from bglora.vision.arrays import F32, U8, Bool, gray, grow
from bglora.vision.metrics import psnr_db, ssim

Fill = Callable[[U8, Bool], U8]

WORKING = 128
"""Longer side of the picture in which a place for a withheld hole is looked for, pixels."""
ROOM = 0.5
"""Share of the hole that must find known pixels, else nothing is withheld."""
HIDDEN = 128
"""Grey level put over withheld pixels, so that no engine can see them."""
RIM = 4
"""Pixels around a hole whose mean color a flat fill takes."""
CELL = 8
"""Pixels of a cell whose looks are compared."""
NEIGHBORS = 3


@dataclass(frozen=True)
class FillScores:
    """How a fill did where the truth is known: in a withheld hole of the same shape, and over the whole picture.

    `flat_psnr_db` and `flat_ssim` are those of a flat fill with the mean color of the hole's rim, in the same hole:
    how hard the place is. Right texture that does not lie exactly as in the truth has twice the error of its mean, so
    an honest guess may lose 3 dB to it; one that loses more shows something that does not belong there.
    """

    hole_psnr_db: float
    hole_ssim: float
    plate_psnr_db: float
    plate_ssim: float
    flat_psnr_db: float
    flat_ssim: float

    @property
    def rank(self) -> float:
        """One figure to compare engines by: SSIM in the hole plus its PSNR over 40 dB, of about equal weight.

        PSNR alone favors a blur, SSIM alone forgives a wrong color.
        """
        return self.hole_ssim + self.hole_psnr_db / 40


def rate_fill(picture: U8, hole: Bool, fill: Fill, likely: Bool | None = None) -> FillScores | None:
    """Lets an engine fill a hole of the same shape elsewhere, with the real one hidden too; None if there is no room.

    Args:
        picture: uint8 (H, W, 3), true outside `hole`. hole: bool (H, W).
        likely: bool (H, W), where withheld pixels tell most: the recovered ones, which lay behind a character as the
            hole does.
    """
    probe = probe_for(hole, likely)
    if not probe.any():
        return None
    hidden = hole | probe
    blind = picture.copy()
    blind[hidden] = HIDDEN
    return scores_of(fill(blind, hidden), picture, probe, hidden)


def scores_of(guess: U8, truth: U8, withheld: Bool, hidden: Bool) -> FillScores:
    """Scores of a guess (H, W, 3) of the withheld pixels (bool (H, W)) of a true picture; `hidden`: all not shown."""
    whole = np.where(withheld[..., None], guess, truth).astype(np.uint8)
    flat = np.where(withheld[..., None], _rim_color(truth, withheld, hidden), truth).astype(np.uint8)
    return FillScores(
        psnr_db(whole, truth, withheld),
        ssim(whole, truth, withheld),
        psnr_db(whole, truth),
        ssim(whole, truth),
        psnr_db(flat, truth, withheld),
        ssim(flat, truth, withheld),
    )


def _rim_color(truth: U8, withheld: Bool, hidden: Bool) -> F32:
    rim = grow(withheld, RIM) & ~hidden
    return np.asarray(truth[rim].mean(0) if rim.any() else np.full(3, HIDDEN), np.float32)


def probe_for(hole: Bool, likely: Bool | None = None) -> Bool:
    """Known pixels in the shape of the hole: the hole moved to a near place that is known; all false without room.

    Every displacement is weighed at once by correlation with the known pixels: as much as possible of the moved hole
    is to lie on known picture, on `likely` pixels rather than others, and near, where the picture is most like what
    lies in the hole.
    """
    height, width = hole.shape
    nothing = np.zeros_like(hole)
    if not hole.any():
        return nothing
    scale = min(1.0, WORKING / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def small(mask: Bool) -> F32:
        return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)

    shape, near = small(hole), grow(hole, 2)

    def share_on(mask: Bool) -> F32:
        found = fftconvolve(small(mask), shape[::-1, ::-1], mode="full") / shape.sum()
        return np.asarray(np.clip(found, 0, 1), np.float32)

    known = share_on(~near)
    away_y = np.arange(known.shape[0])[:, None] - (shape.shape[0] - 1)
    away_x = np.arange(known.shape[1])[None] - (shape.shape[1] - 1)
    distance = np.hypot(away_y, away_x) / np.hypot(*shape.shape)
    weight = known - 0.3 * distance
    if likely is not None and likely.any():
        weight = weight + 0.3 * share_on(likely & ~near)
    weight[known < ROOM] = -np.inf
    best = np.unravel_index(int(np.argmax(weight)), weight.shape)
    if not np.isfinite(weight[best]):
        return nothing
    dy, dx = round(float(away_y[best[0], 0]) * height / size[1]), round(float(away_x[0, best[1]]) * width / size[0])
    moved = cv2.warpAffine(hole.astype(np.uint8), np.array([[1, 0, dx], [0, 1, dy]], np.float32), (width, height)) > 0
    return np.asarray(moved & ~near)


def removal_score(picture: U8, hole: Bool) -> float | None:
    """How much a filled hole looks like its surroundings, 0 to 1; no truth needed. None where there is too little.

    Cells of 8 x 8 pixels are described by color, contrast and directions of edges. 1: each cell of the hole is as near
    to cells of the surroundings as those are to each other; lower, the stranger what is in the hole (a character left
    or painted in). In the line of ReMOVE (Chandrasekar et al. 2024), which compares features of a network.
    """
    cells = _cells(picture)
    rows, columns = cells.shape[:2]
    box = hole[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).mean((1, 3))
    inside, touched = box > 0.5, box > 0
    reach = max(2, round(0.5 * float(np.sqrt(inside.sum()))))
    around = grow(touched, reach) & ~touched
    if inside.sum() < 2 or around.sum() < 4 * NEIGHBORS:
        return None
    own, others = cells[inside], cells[around]
    tree = cKDTree(others)
    usual = tree.query(others, NEIGHBORS + 1)[0][:, 1:].mean(1)
    strange = tree.query(own, NEIGHBORS)[0].mean(1)
    ratio = float(strange.mean()) / max(float(np.median(usual)), 1e-3)
    return 1.0 / max(1.0, ratio)


def _cells(picture: U8) -> F32:
    """Looks of each cell, float32 (H // 8, W // 8, 10): mean Lab, spread of L, energy of edges in six directions."""
    height, width = (side // CELL * CELL for side in picture.shape[:2])
    picture = picture[:height, :width]
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    level = gray(picture)
    dx, dy = cv2.Sobel(level, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(level, cv2.CV_32F, 0, 1, scale=0.25)
    size, angle = cv2.cartToPolar(dx, dy)
    direction = (angle * (6 / np.pi)).astype(np.int32) % 6
    planes = [lab, np.square(lab[..., :1]), *((size * (direction == k))[..., None] for k in range(6))]
    means = np.concatenate(planes, 2).reshape(height // CELL, CELL, width // CELL, CELL, -1).mean((1, 3))
    means[..., 3] = np.sqrt(np.maximum(means[..., 3] - np.square(means[..., 0]), 0))
    return np.asarray(means, np.float32)
