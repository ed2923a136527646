"""Where lines and edges go behind a hole: a smooth guess of a hole's content from all that surrounds it.

Two answers that err in different ways. Frequencies of the surroundings continued into the hole (Seiler and Kaup 2010,
2015: frequency selective reconstruction) are best near the rim. Straight lines through the hole whose two ends look
alike are best deep inside, where they tie together what lies on both sides.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, around

Indices = NDArray[np.int64]
AFFORDABLE = 12000
"""Pixels of a hole that is guessed in full size; the structure of a larger one is guessed in a smaller picture."""
EXTRAPOLATED = 16000
"""Pixels of a hole whose frequencies are extrapolated in full size."""
MARGIN = 32
"""Pixels around the hole that are looked at, on each level."""
DIRECTIONS = 72
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
DOUBTFUL, CONFIRMED = 2.5, 6.0
"""Variance across a line's ends over the error along it: up to where chance may have made the ends alike, and from
where on it has not."""
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


def lines(picture: F32, hole: Bool) -> tuple[F32, F32]:
    """The hole filled along straight lines, each direction counting as much as the two ends of its lines look alike.

    A line's value goes linearly from one end to the other; long lines count less. Where the hole meets the picture's
    border lines have one end only and count little. Where structure confirms a line its direction alone counts.

    Args:
        picture: float32 (H, W, 3), 0 to 255; the hole's content is not read. hole: bool (H, W), not everything.

    Returns:
        The picture, float32 (H, W, 3), and how far a line is confirmed at each pixel, float32 (H, W), 0 to 1.
    """
    small, inside = half(picture, hole)
    if not inside.any() or inside.all():
        small, inside = picture, hole
    if int(inside.sum()) > AFFORDABLE:
        filled, confirmed = lines(small, inside)
    else:
        box = around(inside, 10)
        filled, confirmed = small.copy(), np.zeros(inside.shape, np.float32)
        traced, confirmed[box] = _traced(small[box], inside[box])
        filled[box][inside[box]] = traced[inside[box]]
    out = picture.copy()
    out[hole] = enlarged(filled, hole.shape)[hole]
    size = (hole.shape[1], hole.shape[0])
    return out, np.asarray(cv2.resize(confirmed, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _traced(picture: F32, hole: Bool) -> tuple[F32, F32]:
    height, width = hole.shape
    likely, single = np.zeros((height, width, 4), np.float32), np.zeros((height, width, 4), np.float32)
    clarity = np.zeros((height, width), np.float32)
    outline = cv2.convexHull(cv2.findNonZero(hole.astype(np.uint8)))
    for k in range(DIRECTIONS):
        turn = cv2.getRotationMatrix2D((0, 0), 180.0 * k / DIRECTIONS, 1.0)
        left, top, *size = cv2.boundingRect(np.asarray(cv2.transform(outline.astype(np.float32), turn), np.float32))
        turn[:, 2] = RUN + 2 - left, RUN + 2 - top
        window = (size[0] + 2 * RUN + 4, size[1] + 2 * RUN + 4)
        turned = cv2.warpAffine(picture, turn, window, flags=cv2.INTER_LINEAR)
        # What the turned picture does not cover is as unknown as the hole; mixed pixels at the rim are left out.
        known = cv2.warpAffine((~hole).astype(np.float32), turn, window, flags=cv2.INTER_LINEAR) > 0.98
        back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        value, weight, clear = (
            cv2.warpAffine(v, turn, (width, height), flags=back)
            for v in _along_rows(np.asarray(turned, np.float32), np.asarray(known))
        )
        for total, counted in ((likely, weight), (single, clear * clear * clear)):
            total[..., :3] += value * counted[..., None]
            total[..., 3] += counted
        clarity = np.maximum(clarity, clear)
    mean, one = (total[..., :3] / np.maximum(total[..., 3:], 1e-12) for total in (likely, single))
    confirmed = np.clip((clarity - DOUBTFUL) / (CONFIRMED - DOUBTFUL), 0, 1)
    return np.asarray(mean + (one - mean) * confirmed[..., None], np.float32), np.asarray(confirmed, np.float32)


def _along_rows(picture: F32, known: Bool) -> tuple[F32, F32, F32]:
    """Per unknown pixel the value that its row gives, how much it counts, and by how much structure exceeds error."""
    edges = np.diff(np.pad(~known, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (row, first), beyond = np.nonzero(edges > 0), np.nonzero(edges < 0)[1]
    left, left_spread, right, right_spread = _ends(picture, known, row, first, beyond)
    has_left, has_right = first > 0, beyond < known.shape[1]
    apart = _power(left - right) + 0.5 * (left_spread + right_spread)
    error = np.where(has_left & has_right, apart, ONE_END + np.where(has_left, left_spread, right_spread))
    error[~(has_left | has_right)] = 1e6
    # From here on per pixel.
    at, run = np.flatnonzero(~known), np.repeat(np.arange(len(row)), beyond - first)
    to_left, to_right = (at % known.shape[1] - first[run] + 1), beyond[run] - at % known.shape[1]
    has_left, has_right, left, right = has_left[run], has_right[run], left[run], right[run]
    both = has_left & has_right
    share = np.where(both, to_left / (to_left + to_right), ~has_left).astype(np.float32)[:, None]
    length = np.where(both, to_left + to_right, 3 * np.where(has_left, to_left, to_right))
    error = _across(error[run][:, None], np.ones(len(at), bool), at, known.shape)[:, 0]
    # Through a beam on a wall many lines tie wall to wall; the one along the beam, with edges beside it, must win.
    shape = both * np.minimum(*(_variance(ends, both, at, known.shape) for ends in (left, right)))
    weight = 1e6 * ((shape + PLAIN) / PLAIN) ** SALIENCE / ((error + UNLIKE) * (length + 2)) * (has_left | has_right)
    out = [picture.copy(), np.zeros(known.shape, np.float32), np.zeros(known.shape, np.float32)]
    for grid, found in zip(out, (left + (right - left) * share, weight, shape / (error + UNLIKE)), strict=True):
        grid.reshape(known.size, -1)[at] = found.reshape(len(at), -1)
    return out[0], out[1], out[2]


def _ends(picture: F32, known: Bool, row: Indices, first: Indices, beyond: Indices) -> tuple[F32, F32, F32, F32]:
    """Colors of the known pixels at and beyond both ends of some runs of rows, and how much each differ."""
    padded = cv2.copyMakeBorder(picture * known[..., None], 0, 0, RUN + 1, RUN + 1, cv2.BORDER_CONSTANT)
    values = np.dstack([padded, _power(padded)])
    have = cv2.copyMakeBorder(known.astype(np.float32), 0, 0, RUN + 1, RUN + 1, cv2.BORDER_CONSTANT)
    total, count = (
        cv2.boxFilter(v, -1, (RUN + 1, 1), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for v in (values, have)
    )
    out = []
    for start, end in ((first, first + RUN), (beyond + RUN + 1, beyond + RUN + 1)):
        mean = total[row, start] / np.maximum(count[row, start], 1)[:, None]
        spread = np.maximum(mean[:, 3] - _power(mean[:, :3]), 0)
        out += [np.asarray(0.5 * (mean[:, :3] + padded[row, end]), np.float32), np.asarray(spread, np.float32)]
    return out[0], out[1], out[2], out[3]


def _across(values: F32, counted: Bool, at: Indices, shape: tuple[int, ...]) -> F32:
    """Means over the neighboring rows of the values (N, channels) of the pixels `at`, of those that are counted."""
    grid, count = np.zeros((shape[0] * shape[1], values.shape[1]), np.float32), np.zeros(shape, np.float32)
    grid[at], count.reshape(-1)[at] = values * counted[:, None], counted
    total = cv2.GaussianBlur(grid.reshape(*shape, -1), (1, 9), PROFILE).reshape(grid.shape)
    share = cv2.GaussianBlur(count, (1, 9), PROFILE).reshape(-1)
    return np.asarray(total[at] / np.maximum(share[at], 1e-6)[:, None], np.float32)


def _variance(ends: F32, counted: Bool, at: Indices, shape: tuple[int, ...]) -> F32:
    """Variance (all channels) of the ends of neighboring lines: how much structure runs along them."""
    mean = _across(np.column_stack([ends, _power(ends)]), counted, at, shape)
    return np.maximum(mean[:, 3] - _power(mean[:, :3]), 0)


def _power(picture: F32) -> F32:
    """Sum of the squared channels (numpy's own sum over so short an axis is slow)."""
    return np.asarray(np.einsum("...c,...c->...", picture, picture), np.float32)


def as_bytes(picture: F32) -> U8:
    """Rounded and clipped to 0 to 255."""
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
