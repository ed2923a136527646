"""Near things in front of a traveling camera: they leave the plane of the background, but they stand still.

The paths of background points give the camera's travel, frame by frame (see `paths`). What stands still is seen by all
frames at one depth: a plane sweep (Collins 1996) over the few pixels of an object that have structure looks for it.
Who walks is found at none, unless he keeps pace with the camera to the pixel. Depths are bounded by what the background
shows: on the far side nothing stands behind infinity, where somebody who goes with the camera seems to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.arrays import F32, U8, Bool, grow, largest_channel, shrink
from bglora.vision.camera import Camera
from bglora.vision.paths import Paths, centered, follow_paths, moved

ASIDE = 6
"""Frames on either side of a frame that are asked at most."""
NEAREST_ASIDE = 2
"""Frames at least this far: somebody's smooth inside covers itself in the next frame."""
NEARER, FARTHER = 8.0, 1.5
"""How many times as far off the plane as the background an object may be, on its longer and its shorter side."""
ONE_SIDED = 0.5
"""Shorter over longer side from which both count as the longer one: the plane lies between near and far."""
FEWEST_POINTS, MOST_POINTS = 12, 500
SURE_POINTS = 40
"""Points from which an object is judged by itself; a smaller one with those it overlaps in the frames around."""
STRUCTURE = 24.0
"""Grey levels over 2 pixels from which a pixel has structure."""
ALONG = 16.0
"""Grey levels over 2 pixels along the way of depth from which a pixel tells depths apart."""
DIFFERENT, ON_EDGES = 10.0, 0.12
"""Grey levels by which the same thing differs between frames, and the share of structure that resampling adds."""
SEEN = 0.4
"""Share of the frames that must show a pixel at its depth: something may hide it in others."""
STANDING = 0.25
"""Share of an object's pixels with structure that are found at its depth, from which it stands still. Half of them are
edges through which something else shows; of somebody who walks a few in a hundred are found by chance."""
TRAVEL_PX = 1.0
"""Pixels by which the background's depths must move beside the plane for travel to be measured."""


class StandingParts:
    """Tells objects that stand still in the world; what was found of the camera's travel is kept for the next time.

    Args:
        frames: RGB uint8. camera: poses to start tracking at.
    """

    def __init__(self, frames: Sequence[U8], camera: Camera) -> None:
        self._camera = camera
        self._gray = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
        self._soft = [np.asarray(cv2.GaussianBlur(frame, (3, 3), 0.8), np.uint8) for frame in frames]
        self._travels: dict[int, _Travel | None] = {}

    def find(self, objects: Sequence[Bool], masks: Sequence[Bool]) -> list[Bool]:
        """Per frame the objects that stand still, bool (H, W).

        Args:
            objects: objects of each frame. masks: removal masks, outside of which the travel is found.
        """
        parts = [cv2.connectedComponents(grow(inside, 1).astype(np.uint8), connectivity=8) for inside in objects]
        votes: dict[tuple[int, int], _Found] = {}
        for k, (count, labels) in enumerate(parts):
            travel = self._travel(k, masks[k]) if count > 1 else None
            if travel is None:
                continue
            along, ranges = _structure(self._soft[k], travel)
            pixels = shrink(objects[k], 1) & (ranges > STRUCTURE)
            for part in range(1, count):
                found = _found(self._soft, k, pixels & (labels == part), ranges, along > ALONG, travel)
                if found is not None:
                    votes[(k, part)] = found
        chains = _chains([labels for _, labels in parts], self._camera)
        out = []
        for k, (count, labels) in enumerate(parts):
            still = [part for part in range(1, count) if _stands(k, part, chains[(k, part)], votes, len(objects))]
            out.append(np.isin(labels, still) & (labels > 0))
        return out

    def _travel(self, k: int, mask: Bool) -> _Travel | None:
        if k not in self._travels:
            self._travels[k] = _travel(self._gray, k, mask, self._camera)
        return self._travels[k]


def _stands(
    k: int, part: int, chain: Sequence[tuple[int, int]], votes: dict[tuple[int, int], _Found], count: int
) -> bool:
    """Whether an object stands still, by what was found of it, or of its chain if it is small."""
    own = votes.get((k, part))
    near = [votes[m] for m in chain if abs(m[0] - k) <= count // 3 and m in votes]
    if own is not None and own.points >= SURE_POINTS:
        near = [own]  # objects that touch now and then are one chain
    return bool(near) and sum(v.share * v.points for v in near) >= STANDING * sum(v.points for v in near)


@dataclass(frozen=True)
class _Found:
    """Share of an object's points that other frames show at one depth, the best, and their number.

    Points on structure along the way of depth and those across it must both be found: the first tell of pace, the
    others of steps.
    """

    share: float
    points: int


@dataclass(frozen=True)
class _Travel:
    """How things beside the plane move from one frame to the others of a span.

    Attributes:
        frames: the other frames. planes: (frames, 3, 3) homographies to them. motion: (frames, 3), see `Parallax`.
        depths: (D,) at which an object may be, a pixel of the farthest frame apart.
    """

    frames: list[int]
    planes: NDArray[np.float64]
    motion: NDArray[np.float64]
    depths: NDArray[np.float64]


def _travel(gray: Sequence[U8], k: int, mask: Bool, camera: Camera) -> _Travel | None:
    """The travel around frame `k` by the background's paths; None where they don't show it."""
    aside = min(ASIDE, max(NEAREST_ASIDE, len(gray) // 4))
    first = max(0, min(k - aside, len(gray) - 1 - 2 * aside))
    span = range(first, min(len(gray), first + 2 * aside + 1))
    paths = follow_paths(gray, span, list(camera.to_reference), (~grow(mask, 3)).astype(np.uint8), k)
    if paths.parallax is None:
        return None
    others = [j for j in span if abs(j - k) >= NEAREST_ASIDE]
    if len(others) < 2:
        return None
    places = [j - first for j in others]
    depths = _possible_depths(paths, places)
    return None if depths is None else _Travel(others, paths.planes[places], paths.parallax.motion[places], depths)


def _possible_depths(paths: Paths, places: Sequence[int]) -> NDArray[np.float64] | None:
    """Depths at which things may stand, judged by those of the background; None where its depths hardly show."""
    assert paths.parallax is not None
    step = float(np.linalg.norm(paths.parallax.motion[places, :2], axis=1).max())
    low, high = np.percentile(paths.parallax.depth, [2, 98])
    low, high = min(0.0, float(low)), max(0.0, float(high))
    longer = max(-low, high)
    if step * longer < TRAVEL_PX:
        return None
    reach = [NEARER if side > ONE_SIDED * longer else FARTHER for side in (-low, high)]
    return np.arange(np.floor(low * reach[0] * step), np.ceil(high * reach[1] * step) + 1) / step


def _structure(picture: U8, travel: _Travel) -> tuple[F32, F32]:
    """How much a picture changes along the way that depth moves its pixels, and in any direction: grey levels over 2
    pixels, largest channel, both (H, W). Stripes along that way fit at every depth.
    """
    height, width = picture.shape[:2]
    xs, ys = (np.arange(size, dtype=np.float32) for size in (width, height))
    far = travel.motion[np.linalg.norm(travel.motion[:, :2], axis=1).argmax()]
    place_x, place_y = (xs - width / 2) / width, (ys - height / 2) / width
    way_x, way_y = np.meshgrid(far[0] + far[2] * place_x, far[1] + far[2] * place_y)
    length = np.maximum(np.hypot(way_x, way_y), 1e-9)
    slopes = [cv2.Sobel(picture, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.25) for dx in (1, 0)]
    along = slopes[0] * (way_x / length)[..., None] + slopes[1] * (way_y / length)[..., None]
    ranges = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.abs(along).max(2).astype(np.float32), np.asarray(largest_channel(ranges), np.float32)


def _found(soft: Sequence[U8], k: int, pixels: Bool, structure: F32, along: Bool, travel: _Travel) -> _Found | None:
    """What other frames show of the pixels; None where there are too few."""
    ys, xs = np.nonzero(pixels)
    if len(ys) < FEWEST_POINTS:
        return None
    some = np.linspace(0, len(ys) - 1, min(MOST_POINTS, len(ys))).round().astype(int)
    ys, xs = ys[some], xs[some]
    points = np.stack([xs, ys], 1).astype(np.float32)
    height, width = pixels.shape
    place = centered(points, (height, width))
    own = soft[k][ys, xs].astype(np.float32)[:, None]
    allowed = DIFFERENT + ON_EDGES * structure[ys, xs][:, None]
    fits, seen = (np.zeros((len(points), len(travel.depths)), np.float32) for _ in range(2))
    for j, plane, motion in zip(travel.frames, travel.planes, travel.motion, strict=True):
        beside = motion[:2] + motion[2] * place
        at = (moved(points, plane)[:, None] + travel.depths[None, :, None] * beside[:, None]).astype(np.float32)
        inside = ((at >= 0) & (at <= np.array([width - 1, height - 1]))).all(2)
        shown = cv2.remap(soft[j], at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fits += inside & (np.abs(shown - own).max(2) <= allowed)
        seen += inside
    found = (seen >= 2) & (fits >= SEEN * seen)
    asked = seen >= 2
    telling = along[ys, xs]
    if telling.sum() < FEWEST_POINTS:
        return None
    shares = []
    for group in (telling, ~telling):
        if group.sum() >= FEWEST_POINTS:
            number = asked[group].sum(0)
            share = found[group].sum(0) / np.maximum(number, 1)
            # Where a depth takes most of the object out of all pictures, nothing is known of it.
            shares.append(np.where(number >= max(FEWEST_POINTS, 0.5 * group.sum()), share, -1.0))
    best = float(np.min(shares, axis=0).max())
    return None if best < 0 else _Found(best, len(points))


def _chains(labels: Sequence[NDArray[np.int32]], camera: Camera) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Objects linked from frame to frame by overlap: (frame, part) to all members of its chain."""
    chain: dict[tuple[int, int], list[tuple[int, int]]] = {}
    height, width = labels[0].shape
    for k, now in enumerate(labels):
        for part in range(1, int(now.max()) + 1):
            chain[(k, part)] = [(k, part)]
        if k == 0:
            continue
        pose = camera.between(k - 1, k)
        before = cv2.warpPerspective(labels[k - 1].astype(np.float32), pose, (width, height), flags=cv2.INTER_NEAREST)
        both = (before > 0) & (now > 0)
        pairs, sizes = np.unique(np.stack([before[both].astype(int), now[both]], 1), axis=0, return_counts=True)
        for (a, b), size in zip(pairs, sizes, strict=True):
            if size >= 0.3 * min((before == a).sum(), (now == b).sum()):
                _join(chain, (k - 1, int(a)), (k, int(b)))
    return chain


def _join(chain: dict[tuple[int, int], list[tuple[int, int]]], a: tuple[int, int], b: tuple[int, int]) -> None:
    if chain[a] is chain[b]:
        return
    chain[a].extend(chain[b])
    for member in chain[b]:
        chain[member] = chain[a]
