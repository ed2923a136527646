"""Fills a hole so that it looks like the picture around it: structure first, then patches that carry its texture.

Structure (lines, edges, repeated forms) is guessed in four ways from all that surrounds the hole: frequencies and lines
(`structure`), and lines simplified by short and by long blocks (`sparse`). Patches of the known picture that look like
their mean carry the texture: nearest patches by PatchMatch (Barnes 2009: propagation and random search, here for all
pixels at once), the picture by weighted voting of overlapping patches (Wexler 2007), coarse to fine. All five guesses
are averaged, lines counting most where one is confirmed. Where guesses differ nobody knows better, and what detail is
left there is partly an accident of the mean and is toned down; where they agree the mean has lost some of the contrast
they share and gets it back (`agreed`).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, around, gray
from bglora.vision.sparse import sparse
from bglora.vision.structure import AFFORDABLE, as_bytes, depth, enlarged, frequencies, half, lines

RADIUS = 3
ROUNDS = (3, 2)
"""Rounds of search and vote on the coarsest level and on every other."""
STRIDE = 2
"""Pixels between the patches that are looked for."""
GUIDANCE = 0.5
"""How much the structure counts against the last vote when patches are looked for."""
NEARNESS = 400.0
"""Squared grey levels per value by which a patch from the other end of the picture is worse than one from beside."""
CONTEXT = 3.0
"""Patches are looked for within this many hole diameters around the hole."""
AT_THE_RIM = (0.3, 0.3, 0.2, 0.0, 0.2)
DEEP_INSIDE = (0.15, 0.15, 0.2, 0.1, 0.4)
ON_A_LINE = (0.2, 0.1, 0.1, 0.4, 0.2)
"""Shares of frequencies, sparse short and long blocks, lines, and patches; the last where a line is confirmed."""
SHORT, LONG = 16, 32
"""Sides of the blocks that are to be sparse, pixels."""
DEEP = 12.0
"""Pixels from the rim from which on a pixel lies deep inside."""
DETAIL = 3.0
"""Standard deviation (pixels) of the blur that parts detail from the base, and of the window it is compared in."""
LEAST, CONTRAST = 0.7, 1.5
"""What detail is multiplied by where the guesses have nothing in common, and where all agree. Less than LEAST would
come nearer the truth by a hair, and look like mush."""


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
    picture[inside] = 0
    along, confirmed = lines(picture, inside)
    shares = _shares(inside, confirmed)
    short, long = (sparse(picture, inside, side, along) for side in (SHORT, LONG))
    # Color changes slowly, so the costly guess is made for brightness alone.
    brighter = (frequencies(gray(picture), inside) - gray(short))[..., None]
    guesses = [short + brighter, short, long, along]
    guide = _mean(guesses, shares)
    guesses.append(_by_patches(picture, inside, guide, np.random.default_rng(seed), radius))
    out = frame.copy()
    out[box][inside] = as_bytes(agreed(_mean(guesses, shares), guesses))[inside]
    return out


def _shares(hole: Bool, confirmed: F32) -> F32:
    """How much each guess counts, float32 (H, W, guesses)."""
    inner = np.clip((depth(hole) - 1) / (DEEP - 1), 0, 1)[..., None]
    rim, deep, line = (np.array(shares, np.float32) for shares in (AT_THE_RIM, DEEP_INSIDE, ON_A_LINE))
    usual = rim + (deep - rim) * inner
    return np.asarray(usual + (line - usual) * confirmed[..., None], np.float32)


def _mean(guesses: list[F32], shares: F32) -> F32:
    shares = shares[..., : len(guesses)]
    total = sum(guess * shares[..., k, None] for k, guess in enumerate(guesses))
    return np.asarray(total / shares.sum(2, keepdims=True), np.float32)


def agreed(mean: F32, guesses: Sequence[F32]) -> F32:
    """The mean of some guesses with the contrast of its detail as far as they agree on it.

    The variance of the guesses' detail around its mean tells how much of the mean is an accident; what is left over is
    common. Shrinking by that share is Wiener's estimate.

    Args:
        mean: float32 (H, W, 3). guesses: at least two, of the same shape.
    """
    base = cv2.GaussianBlur(mean, (0, 0), DETAIL)
    details = [detail - cv2.GaussianBlur(detail, (0, 0), DETAIL) for detail in (guess.mean(2) for guess in guesses)]
    center = np.mean(details, 0)
    differing = _local(np.var(details, 0, ddof=1))
    common = np.maximum(_local(center * center) - differing / len(details), 0)
    share = common / (common + differing + 1)
    return np.asarray(base + (LEAST + (CONTRAST - LEAST) * share[..., None]) * (mean - base), np.float32)


def _local(values: np.ndarray) -> F32:
    return np.asarray(cv2.GaussianBlur(values.astype(np.float32), (0, 0), DETAIL), np.float32)


def _context(hole: Bool) -> tuple[slice, slice]:
    ys, xs = np.nonzero(hole)
    return around(hole, int(CONTEXT * max(16, min(int(np.ptp(ys)), int(np.ptp(xs))) + 1)))


def _by_patches(picture: F32, hole: Bool, guide: F32, rng: np.random.Generator, radius: int) -> F32:
    """The guide made of patches of the picture; the guide itself where there is no room for a whole patch."""
    levels = [(picture, hole, guide)]
    while (len(levels) == 1 or levels[-1][1].sum() > AFFORDABLE) and float(depth(levels[-1][1]).max()) > 2 * radius:
        small, inside = half(*levels[-1][:2])
        if not _has_room(inside, radius):
            break
        height, width = inside.shape
        levels.append((small, inside, cv2.resize(levels[-1][2], (width, height), interpolation=cv2.INTER_AREA)))
    if not _has_room(hole, radius):
        return guide
    current: F32 | None = None
    field: np.ndarray | None = None
    for known, inside, wanted in reversed(levels):
        start = known.copy()
        start[inside] = wanted[inside]
        if current is not None and field is not None:
            start[inside] = _toward(wanted, enlarged(current, inside.shape))[inside]
            height, width = inside.shape
            field = 2 * cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
            field = field.astype(np.int64)
        level = _Level(start, inside, rng, radius, field)
        current, field = level.solve(ROUNDS[0] if current is None else ROUNDS[1], wanted)
    assert current is not None
    return current


def _has_room(hole: Bool, radius: int) -> bool:
    return bool(hole.any()) and bool((~grow_square(hole, radius)).any()) and min(hole.shape) > 2 * radius


def _toward(guide: F32, picture: F32) -> F32:
    return np.asarray(GUIDANCE * guide + (1 - GUIDANCE) * picture, np.float32)


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
        # Every second patch in both directions: each pixel still lies in a dozen of them, in a quarter of the time.
        target = np.zeros_like(hole)
        target[::STRIDE, ::STRIDE] = grow_square(hole, radius)[::STRIDE, ::STRIDE]
        self.ty, self.tx = np.nonzero(target)
        self.index = np.full(hole.shape, -1, np.int64)
        self.index[self.ty, self.tx] = np.arange(len(self.ty))
        k = np.arange(-radius, radius + 1)
        self.oy, self.ox = (a.ravel() for a in np.meshgrid(k, k, indexing="ij"))
        self.by, self.bx = self._nearest()
        self.started = field is not None
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

    def solve(self, rounds: int, guide: F32) -> tuple[F32, np.ndarray]:
        for step in range(rounds):
            if step > 0:
                self.picture[self.hole] = _toward(guide, self.picture)[self.hole]
            self._prepare()
            self._search()
            self._vote()
        field = np.zeros((self.height, self.width, 2), np.int64)
        field[self.ty, self.tx, 0], field[self.ty, self.tx, 1] = self.by - self.ty, self.bx - self.tx
        ys, xs = (np.arange(side) // STRIDE * STRIDE for side in self.hole.shape)
        return self.picture, field[np.ix_(ys, xs)]

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
        for step in (2 * STRIDE, STRIDE) if self.started else (4 * STRIDE, 2 * STRIDE, STRIDE, STRIDE):
            for dy, dx in ((0, step), (step, 0), (0, -step), (-step, 0)):
                ny, nx = np.clip(self.ty + dy, 0, self.height - 1), np.clip(self.tx + dx, 0, self.width - 1)
                neighbor = self.index[ny, nx]
                has = neighbor >= 0
                which, neighbor = everyone[has], neighbor[has]
                self._try(which, self.by[neighbor] - dy, self.bx[neighbor] - dx)
        reach = 9 if self.started else max(self.height, self.width)
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
