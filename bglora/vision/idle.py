"""Characters who stay in place and move a little: the background model takes them for background.

What gives them away is one compact area that moves in both halves of the shot and whose motion is strong up to its
outline and stops there: a body in front covers and uncovers what is behind it. Water, foliage and flicker move over
wide or ragged areas and their motion fades out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bglora.vision.arrays import (
    F32,
    U8,
    Bool,
    close_gaps,
    enclosed,
    gray,
    grow,
    largest_channel,
    shrink,
    without_holes,
    without_specks,
)
from bglora.vision.background import spread
from bglora.vision.camera import Camera

MOVES = 5.0
"""Deviation (grey levels) of unmasked samples from which a pixel moves."""
AREA = (0.005, 0.35)
"""Share of the picture that such a character covers."""
SAME = 0.6
"""Overlap of the areas found in the two halves of the shot."""
SOLID, RAGGED = 0.54, 0.45
"""Share of its convex hull that a character's area fills, and below which an area is ragged."""
EXPLAINED = (0.72, 0.82)
"""Share of the frame-to-frame difference that a smooth flow leaves: of a body at most the first, of leaves and water,
which change rather than shift, more than the second."""
ABRUPT = 2.5
"""How much stronger than `MOVES`, and than inside, the motion at the outline of a body is: the product of both ratios.
Water and leaves, whose motion fades out, stay below."""
OUTLINED = 4
"""Pixels at a picture width of 512 around the outline within which its deviation is looked for."""
CLOSING = 12
"""Pixels at a picture width of 512 over which moving parts belong together."""


@dataclass(frozen=True)
class IdleArea:
    """An area of the reference frame in which somebody moves in place; the figures that decided it.

    Attributes:
        area: bool (H, W) in the reference frame. moving: bool (H, W), what moves in it or at its outline.
        share: of the picture. same: overlap of both halves. solid: share of the hull.
        rim, inner: typical deviation at the outline and inside of it, in grey levels.
        unexplained: share of the difference that a flow leaves.
    """

    area: Bool
    moving: Bool
    share: float
    same: float
    solid: float
    rim: float
    inner: float
    unexplained: float

    @property
    def is_outlined(self) -> bool:
        """Whether the motion goes on in one place and stops at once at an outline, as that of a body in front does."""
        abrupt = self.rim / MOVES * self.rim / max(self.inner, MOVES)
        shifts = self.unexplained <= EXPLAINED[1]
        compact = self.share >= AREA[0] and self.same >= SAME and self.solid >= RAGGED
        return compact and shifts and abrupt >= ABRUPT

    @property
    def is_character(self) -> bool:
        """Whether this is somebody, not water, leaves or flicker."""
        clear = self.solid >= SOLID and self.unexplained <= EXPLAINED[0]
        return self.is_outlined and self.share <= AREA[1] and clear

    @property
    def is_doubtful(self) -> bool:
        """Whether this may be somebody, and may be something of the place that moves by itself."""
        return self.is_outlined and not self.is_character


def restless_areas(frames: Sequence[U8], masks: Sequence[Bool], camera: Camera) -> list[IdleArea]:
    """Areas that move in both halves of the shot and aren't explained by the masks, with their figures, largest first.

    Args:
        frames: at the reference's exposure. masks: removal masks of the same frames. camera: their poses.
    """
    count = len(frames)
    if count < 8:
        return []
    half = count // 2
    first = _deviation(frames[:half], masks[:half], camera, range(half))
    second = _deviation(frames[half:], masks[half:], camera, range(half, count))
    radius = max(3, round(CLOSING * frames[0].shape[1] / 512))
    one, two = _closed(first, radius), _closed(second, radius)
    most = np.maximum(first, second)
    moving = without_specks(most > MOVES, 20)
    total, labels, stats, _ = cv2.connectedComponentsWithStats((one | two).astype(np.uint8), connectivity=8)
    found = []
    for k in np.argsort(-stats[1:, cv2.CC_STAT_AREA]) + 1:
        area = np.asarray(labels == k)
        share = float(area.mean())
        if share < AREA[0]:
            break
        same = float((one & two & area).sum() / area.sum())
        area = one & two & area
        if share <= AREA[1]:
            area = enclosed(area)
        if not area.any():
            continue
        hull = cv2.convexHull(np.argwhere(area)[:, ::-1].astype(np.int32))
        solid = float(area.sum() / max(1.0, cv2.contourArea(hull)))
        rim, inner = _rim(most, area)
        near = moving & grow(area, 2 * OUTLINED)
        found.append(IdleArea(area, near, share, same, solid, rim, inner, _unexplained(frames, camera, area)))
    return found


def _deviation(frames: Sequence[U8], masks: Sequence[Bool], camera: Camera, places: range) -> F32:
    """Largest channel of the deviation over time of unmasked samples, in the reference frame; 0 where too few."""
    height, width = masks[0].shape
    total, square = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 3), np.float32)
    seen = np.zeros((height, width), np.uint8)
    for place, frame, mask in zip(places, frames, masks, strict=True):
        soft, free = cv2.blur(frame, (3, 3)), (~grow(mask, 2)).astype(np.uint8)
        if camera.kind != "still":
            pose = camera.to_reference[place]
            soft = cv2.warpPerspective(soft, pose, (width, height))
            free = cv2.warpPerspective(free, pose, (width, height), flags=cv2.INTER_NEAREST)
        cv2.accumulate(soft, total, mask=free)
        cv2.accumulateSquare(soft, square, mask=free)
        cv2.add(seen, free, dst=seen)
    count = np.maximum(seen, 1).astype(np.float32)[..., None]
    deviation = np.sqrt(largest_channel(np.maximum(square / count - (total / count) ** 2, 0)))
    deviation[seen < max(3, len(frames) // 3)] = 0
    return np.asarray(deviation, np.float32)


def _closed(deviation: F32, radius: int) -> Bool:
    moving = without_specks(deviation > MOVES, 20)
    return without_holes(close_gaps(moving, radius), moving.size // 20)


def _rim(deviation: F32, area: Bool) -> tuple[float, float]:
    """Typical deviation at the outline of an area, off the picture's border, and inside of it.

    Both are the largest around a pixel, so that the outline needn't lie exactly and even parts of a body don't count.
    """
    reach = max(2, round(OUTLINED * area.shape[1] / 512))
    around = cv2.dilate(deviation, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    line, inside = area & ~shrink(area, 1), shrink(area, 2 * reach)
    line[:2], line[-2:], line[:, :2], line[:, -2:] = False, False, False, False
    rim, inner = (float(np.median(around[part])) if part.any() else 0.0 for part in (line, inside))
    return rim, inner


def _unexplained(frames: Sequence[U8], camera: Camera, area: Bool) -> float:
    """Share of the difference between neighboring frames that dense flow leaves inside the area (DIS, Kroeger 2016)."""
    height, width = area.shape
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    before, after = 0.0, 0.0
    for k in spread(len(frames) - 1, 5):
        a, b = (gray(frames[k + step]) for step in (0, 1))
        if camera.kind != "still":
            a, b = (cv2.warpPerspective(p, camera.to_reference[k + s], (width, height)) for s, p in ((0, a), (1, b)))
        flow = flow_of.calc(a.astype(np.uint8), b.astype(np.uint8), None)
        back = cv2.remap(b, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        before += float(np.maximum(np.abs(a - b)[area] - 2, 0).sum())
        after += float(np.maximum(np.abs(a - back)[area] - 2, 0).sum())
    return after / max(before, 1.0)
