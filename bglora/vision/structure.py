"""Where lines and edges go behind a hole: a smooth guess of a hole's content from all that surrounds it.

Two answers that err in different ways. Frequencies of the surroundings continued into the hole (Seiler and Kaup 2010,
2015: frequency selective reconstruction) are best near the rim. Straight lines through the hole whose two ends look
alike are best deep inside, where they tie together what lies on both sides.
"""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around

AFFORDABLE = 12000
"""Pixels of a hole that is guessed in full size; the structure of a larger one is guessed in a smaller picture."""
EXTRAPOLATED = 16000
"""Pixels of a hole whose frequencies are extrapolated in full size."""
MARGIN = 32
"""Pixels around the hole that are looked at, on each level."""
DIRECTIONS = 36
RUN = 6
"""Pixels beyond the end of a line over which its color is averaged."""
PROFILE = 2.0
"""Standard deviation (pixels) across a line of the strip in which its ends are compared."""
UNLIKE = 120.0
"""Squared difference of a line's ends (all channels) that is noise."""
PLAIN = 100.0
"""Variance across a line's ends (all channels) that is no structure."""
SALIENCE = 1.0
"""How much structure along a line counts: its power."""
ONE_END = 10000.0
"""Squared difference taken for a line that leaves the picture before it leaves the hole: nothing confirms it."""
SMALLEST_SIDE = 32
BLOCK = 16


def half(picture: F32, hole: Bool) -> tuple[F32, Bool]:
    """The picture at half the size, from pixels outside the hole only, and its hole (mostly unknown pixels)."""
    height, width = (hole.shape[0] + 1) // 2, (hole.shape[1] + 1) // 2
    weight = cv2.resize((~hole).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    known, share = (~hole, weight) if picture.ndim == 2 else ((~hole)[..., None], weight[..., None])
    total = cv2.resize(picture * known, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(total / np.maximum(share, 1e-3), np.float32), np.asarray(weight < 0.5)


def enlarged(picture: F32, shape: tuple[int, ...]) -> F32:
    """The picture resized to (height, width) by cubic interpolation."""
    return np.asarray(cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def depth(hole: Bool) -> F32:
    """Distance (pixels) of each hole pixel to known picture; the border of the picture is no rim."""
    padded = cv2.copyMakeBorder(hole.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def frequencies(picture: F32, hole: Bool) -> F32:
    """The hole filled by extrapolating the frequencies around it, on the finest level that can be afforded.

    Args:
        picture: float32 (H, W) or (H, W, 3), 0 to 255; the hole's content is not read. hole: bool (H, W), not
            everything.
    """
    out = picture.copy()
    small, inside = half(picture, hole)
    if int(hole.sum()) > EXTRAPOLATED and inside.any() and not inside.all():
        out[hole] = enlarged(frequencies(small, inside), hole.shape)[hole]
    elif hole.any():
        box = around(hole, MARGIN)
        out[box][hole[box]] = _extrapolated(picture[box], hole[box])[hole[box]]
    return out


def _extrapolated(picture: F32, hole: Bool) -> F32:
    byte, unknown = as_bytes(picture), hole.astype(np.uint8)
    if min(hole.shape) < SMALLEST_SIDE:
        return np.asarray(cv2.inpaint(byte, unknown, 5, cv2.INPAINT_NS), np.float32)
    # OpenCV leaves the last rows and columns as they are where they don't fill a block.
    height, width = hole.shape
    rest = (0, -height % BLOCK, 0, -width % BLOCK)
    byte = cv2.copyMakeBorder(byte, *rest, cv2.BORDER_REFLECT_101)
    unknown = cv2.copyMakeBorder(unknown, *rest, cv2.BORDER_REFLECT_101)
    out = byte.copy()
    cv2.xphoto.inpaint(byte, np.asarray(255 * (1 - unknown), np.uint8), out, cv2.xphoto.INPAINT_FSR_FAST)
    return np.asarray(out[:height, :width], np.float32)


def lines(picture: F32, hole: Bool) -> F32:
    """The hole filled along straight lines, each direction counting as much as the two ends of its lines look alike.

    A line's value goes linearly from one end to the other; long lines count less. Where the hole meets the picture's
    border lines have one end only and count little.

    Args:
        picture: float32 (H, W, 3), 0 to 255; the hole's content is not read. hole: bool (H, W), not everything.
    """
    small, inside = half(picture, hole)
    if not inside.any() or inside.all():
        small, inside = picture, hole
    elif int(inside.sum()) > AFFORDABLE:
        out = picture.copy()
        out[hole] = enlarged(lines(small, inside), hole.shape)[hole]
        return out
    box = around(inside, 10)
    filled = small.copy()
    filled[box][inside[box]] = _traced(small[box], inside[box])[inside[box]]
    out = picture.copy()
    out[hole] = enlarged(filled, hole.shape)[hole]
    return out


def _traced(picture: F32, hole: Bool) -> F32:
    height, width = hole.shape
    total = np.zeros((height, width, 4), np.float32)
    side = int(np.ceil(np.hypot(height, width))) + 2
    for k in range(DIRECTIONS):
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 180.0 * k / DIRECTIONS, 1.0)
        turn[:, 2] += (side - width) / 2, (side - height) / 2
        turned = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_LINEAR)
        # What the turned picture does not cover is as unknown as the hole; mixed pixels at the rim are left out.
        known = cv2.warpAffine((~hole).astype(np.float32), turn, (side, side), flags=cv2.INTER_LINEAR) > 0.98
        value, weight = _along_rows(np.asarray(turned, np.float32), np.asarray(known))
        weighted = np.dstack([value * weight[..., None], weight])
        total += cv2.warpAffine(weighted, turn, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(total[..., :3] / np.maximum(total[..., 3:], 1e-12), np.float32)


def _along_rows(picture: F32, known: Bool) -> tuple[F32, F32]:
    """Per pixel the value that its row gives, and how much that counts."""
    column = np.arange(known.shape[1])[None]
    before = np.maximum.accumulate(np.where(known, column, -1), 1)
    after = np.minimum.accumulate(np.where(known, column, known.shape[1])[:, ::-1], 1)[:, ::-1]
    has_left, has_right = before >= 0, after < known.shape[1]
    left, left_spread = _ends(picture, known, before, ahead=False)
    right, right_spread = _ends(picture, known, after, ahead=True)
    to_left, to_right = (column - before).astype(np.float32), (after - column).astype(np.float32)
    both, none = has_left & has_right, ~(has_left | has_right)
    share = np.where(both, to_left / np.maximum(to_left + to_right, 1), np.where(has_left, 0, 1))[..., None]
    value = left * (1 - share) + right * share
    apart = ((left - right) ** 2).sum(2) + 0.5 * (left_spread + right_spread)
    error = np.where(both, apart, ONE_END + np.where(has_left, left_spread, right_spread))
    length = np.where(both, to_left + to_right, 3 * np.where(has_left, to_left, to_right))
    error = cv2.GaussianBlur(np.where(none, 1e6, error).astype(np.float32), (1, 9), PROFILE)
    # Through a beam on a wall many lines tie wall to wall; the one along the beam, with edges beside it, must win.
    shape = np.where(both, np.minimum(_across(left), _across(right)), 0)
    weight = np.where(none, 0, 1e6 * ((shape + PLAIN) / PLAIN) ** SALIENCE / ((error + UNLIKE) * (length + 2)))
    return np.asarray(value, np.float32), np.asarray(weight, np.float32)


def _across(ends: F32) -> F32:
    """Variance (all channels) of the ends of neighboring lines: how much structure runs along them."""
    mean = cv2.GaussianBlur(ends, (1, 9), PROFILE)
    return np.asarray(np.maximum(cv2.GaussianBlur(ends * ends, (1, 9), PROFILE) - mean * mean, 0).sum(2), np.float32)


def _ends(picture: F32, known: Bool, at: np.ndarray, ahead: bool) -> tuple[F32, F32]:
    """Color of the row's known pixels at and beyond an end, and how much they differ among themselves."""
    kernel = np.zeros((1, 2 * RUN + 1), np.float32)
    kernel[0, RUN:] = 1
    kernel = kernel if ahead else kernel[:, ::-1]

    def run(values: np.ndarray) -> F32:
        return np.asarray(cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_CONSTANT), np.float32)

    have = known.astype(np.float32)
    count = np.maximum(run(have), 1)
    mean = run(picture * have[..., None]) / count[..., None]
    spread = np.maximum(run((picture * picture).sum(2) * have) / count - (mean * mean).sum(2), 0)
    row, at = np.arange(known.shape[0])[:, None], np.clip(at, 0, known.shape[1] - 1)
    return np.asarray(0.5 * (mean[row, at] + picture[row, at]), np.float32), np.asarray(spread[row, at], np.float32)


def as_bytes(picture: F32) -> U8:
    """Rounded and clipped to 0 to 255."""
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
