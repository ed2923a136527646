"""Fills a hole with patches of the picture around it, coarse to fine.

Nearest patches by PatchMatch (Barnes 2009: propagation and random search, here for all pixels at once), the picture by
weighted voting of overlapping patches (Wexler 2007), repeated on every level of a pyramid.
"""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, grow

RADIUS = 3
MIN_SIDE = 24
ROUNDS = (6, 4, 3, 2, 2, 2, 2)
"""Rounds of search and vote by level, coarsest first."""
NEARNESS = 400.0
"""Squared grey levels per value by which a patch from the other end of the picture is worse than one from beside."""
CONTEXT = 3.0
"""Patches are looked for within this many hole diameters around the hole."""


def fill_hole(frame: U8, hole: Bool, seed: int, radius: int = RADIUS) -> U8:
    """The frame with the hole filled; pixels outside the hole are bit-identical.

    Args:
        frame: uint8 (H, W, 3). hole: bool (H, W). seed: of the random search.
        radius: half the patch side in pixels (patch 7 x 7 for 3).
    """
    if not hole.any():
        return frame.copy()
    if hole.all():
        return np.full_like(frame, 128)
    box = _context(hole)
    picture, inside = frame[box].astype(np.float32), hole[box]
    if not (~grow(inside, radius)).any():
        result = cv2.inpaint(frame[box], inside.astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32)
    else:
        result = _coarse_to_fine(picture, inside, np.random.default_rng(seed), radius)
    out = frame.copy()
    out[box][inside] = np.clip(np.rint(result[inside]), 0, 255).astype(np.uint8)
    return out


def _context(hole: Bool) -> tuple[slice, slice]:
    ys, xs = np.nonzero(hole)
    height, width = hole.shape
    reach = int(CONTEXT * max(16, min(int(np.ptp(ys)), int(np.ptp(xs))) + 1))
    y0, y1 = max(0, ys.min() - reach), min(height, ys.max() + reach + 1)
    x0, x1 = max(0, xs.min() - reach), min(width, xs.max() + reach + 1)
    return slice(y0, y1), slice(x0, x1)


def _coarse_to_fine(picture: F32, hole: Bool, rng: np.random.Generator, radius: int) -> F32:
    levels = [(picture, hole)]
    while min(levels[-1][1].shape) >= 2 * MIN_SIDE and _thickness(levels[-1][1]) > 2 * radius:
        levels.append(_half(*levels[-1]))
    while len(levels) > 1 and not (~grow(levels[-1][1], radius)).any():
        levels.pop()
    coarse, inside = levels[-1]
    byte = np.clip(coarse, 0, 255).astype(np.uint8)
    current = coarse.copy()
    start = cv2.inpaint(byte, inside.astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32)
    current[inside] = start[inside]
    field: np.ndarray | None = None
    for step, (known, inside) in enumerate(reversed(levels)):
        if step > 0:
            height, width = inside.shape
            up = cv2.resize(current, (width, height), interpolation=cv2.INTER_CUBIC)
            current = known.copy()
            current[inside] = up[inside]
            assert field is not None
            field = 2 * cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
            field = field.astype(np.int64)
        current, field = _Level(current, inside, rng, radius, field).solve(ROUNDS[min(step, len(ROUNDS) - 1)])
    return current


def _thickness(hole: Bool) -> float:
    return float(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max())


def _half(picture: F32, hole: Bool) -> tuple[F32, Bool]:
    height, width = (hole.shape[0] + 1) // 2, (hole.shape[1] + 1) // 2
    weight = cv2.resize((~hole).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    total = cv2.resize(picture * (~hole)[..., None], (width, height), interpolation=cv2.INTER_AREA)
    return (total / np.maximum(weight, 1e-3)[..., None]).astype(np.float32), np.asarray(weight < 0.6)


class _Level:
    """One level of the pyramid: offsets (dy, dx) to the best source patch for all pixels whose patch meets the hole."""

    def __init__(
        self, picture: F32, hole: Bool, rng: np.random.Generator, radius: int, field: np.ndarray | None
    ) -> None:
        self.radius, self.rng, self.hole = radius, rng, hole
        self.height, self.width = hole.shape
        self.picture = picture
        source = ~grow_square(hole, radius)
        source[:radius] = source[-radius:] = False
        source[:, :radius] = source[:, -radius:] = False
        if not source.any():
            source = ~grow_square(hole, radius)
        self.source = source
        self.sy, self.sx = np.nonzero(source)
        target = grow_square(hole, radius)
        self.ty, self.tx = np.nonzero(target)
        self.index = np.full(hole.shape, -1, np.int64)
        self.index[self.ty, self.tx] = np.arange(len(self.ty))
        k = np.arange(-radius, radius + 1)
        self.oy, self.ox = (a.ravel() for a in np.meshgrid(k, k, indexing="ij"))
        self.by, self.bx = self._nearest()
        if field is not None:
            y, x = self.ty + field[self.ty, self.tx, 0], self.tx + field[self.ty, self.tx, 1]
            y, x = np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1)
            good = source[y, x]
            self.by, self.bx = np.where(good, y, self.by), np.where(good, x, self.bx)
        self.reach = float(np.hypot(self.height, self.width))
        self.pull = NEARNESS * 3 * (2 * radius + 1) ** 2
        distance = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
        self.trust = (1.3 ** -np.minimum(distance, 30)).astype(np.float32)

    def _nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """The nearest source of each target pixel: a start that continues what is beside the hole."""
        _, labels = cv2.distanceTransformWithLabels(
            (~self.source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        where = np.zeros(int(labels.max()) + 1, np.int64)
        where[labels[self.sy, self.sx]] = np.arange(len(self.sy))
        pick = where[labels[self.ty, self.tx]]
        return self.sy[pick], self.sx[pick]

    def solve(self, rounds: int) -> tuple[F32, np.ndarray]:
        for _ in range(rounds):
            self._prepare()
            self._search()
            self._vote()
        field = np.zeros((self.height, self.width, 2), np.int64)
        field[self.ty, self.tx, 0], field[self.ty, self.tx, 1] = self.by - self.ty, self.bx - self.tx
        return self.picture, field

    def _prepare(self) -> None:
        r = self.radius
        self.padded = cv2.copyMakeBorder(self.picture, r, r, r, r, cv2.BORDER_REFLECT_101)
        self.flat = self.padded.reshape(-1, 3)
        self.stride = self.width + 2 * r
        self.shift = (self.oy + r) * self.stride + self.ox + r
        self.patches = self.flat[(self.ty * self.stride + self.tx)[:, None] + self.shift]
        self.cost = self._distance(np.arange(len(self.ty)), self.by, self.bx)

    def _distance(self, which: np.ndarray, y: np.ndarray, x: np.ndarray) -> F32:
        other = self.flat[(y * self.stride + x)[:, None] + self.shift]
        other -= self.patches[which]
        away = np.hypot(y - self.ty[which], x - self.tx[which]) / self.reach
        return np.asarray(np.einsum("pkc,pkc->p", other, other) + self.pull * away * away, np.float32)

    def _try(self, which: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
        inside = (y >= 0) & (x >= 0) & (y < self.height) & (x < self.width)
        which, y, x = which[inside], y[inside], x[inside]
        good = self.source[y, x] & ((y != self.by[which]) | (x != self.bx[which]))
        which, y, x = which[good], y[good], x[good]
        cost = self._distance(which, y, x)
        better = cost < self.cost[which]
        which = which[better]
        self.cost[which], self.by[which], self.bx[which] = cost[better], y[better], x[better]

    def _search(self) -> None:
        everyone = np.arange(len(self.ty))
        for step in (4, 2, 1, 1):
            for dy, dx in ((0, step), (step, 0), (0, -step), (-step, 0)):
                ny, nx = np.clip(self.ty + dy, 0, self.height - 1), np.clip(self.tx + dx, 0, self.width - 1)
                neighbor = self.index[ny, nx]
                has = neighbor >= 0
                which, neighbor = everyone[has], neighbor[has]
                self._try(which, self.by[neighbor] - dy, self.bx[neighbor] - dx)
        reach = max(self.height, self.width)
        while reach >= 1:
            jump = self.rng.integers(-reach, reach + 1, (2, len(everyone)))
            self._try(everyone, self.by + jump[0], self.bx + jump[1])
            reach //= 3

    def _vote(self) -> None:
        scale = max(float(np.percentile(self.cost, 75)), 1.0)
        weight = (np.exp(-self.cost / (2 * scale)) * self.trust[self.ty, self.tx] + 1e-6).astype(np.float32)
        total = np.zeros((self.height * self.width, 3))
        sums = np.zeros(self.height * self.width)
        source = self.picture
        for dy, dx in zip(self.oy, self.ox, strict=True):
            y, x = self.ty + dy, self.tx + dx
            inside = (y >= 0) & (x >= 0) & (y < self.height) & (x < self.width)
            y, x, w = y[inside], x[inside], weight[inside]
            into = self.hole[y, x]
            sy = np.clip(self.by[inside][into] + dy, 0, self.height - 1)
            sx = np.clip(self.bx[inside][into] + dx, 0, self.width - 1)
            at = y[into] * self.width + x[into]
            # One offset of the patch reaches every pixel at most once, so plain indexing adds up rightly.
            total[at] += source[sy, sx] * w[into, None]
            sums[at] += w[into]
        flat = self.picture.reshape(-1, 3).copy()
        filled = np.nonzero(self.hole.ravel())[0]
        flat[filled] = (total[filled] / np.maximum(sums[filled], 1e-9)[:, None]).astype(np.float32)
        self.picture = flat.reshape(self.picture.shape)


def grow_square(mask: Bool, radius: int) -> Bool:
    """The mask dilated by a square of side 2 radius + 1."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
