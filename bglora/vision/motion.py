"""Motion masks of a shot: who moves in front of a background that the other frames show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bglora.vision.appearance import Colors, learn_colors
from bglora.vision.arrays import F32, U8, Bool, grow
from bglora.vision.background import Background, first_background, masked_background, spread
from bglora.vision.camera import Camera
from bglora.vision.difference import MOMENTS, SHIMMER, STRONG, difference, moving_distance, noise
from bglora.vision.exposure import leveled
from bglora.vision.foreground import Foreground, foreground

STILL_TOLERANCE, MOVING_TOLERANCE = 0.05, 0.3
"""Error of the alignment in pixels."""
SOURCES = 20
"""Frames that a moving camera's background is made of, per frame."""
PASSES = 3

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Stack:
    """Other frames in one frame's coordinates and the reference's exposure: pictures, validity, frame indices."""

    pictures: list[U8]
    valid: list[Bool | None]
    indices: list[int]


def overlapping(camera: Camera, target: int, shape: tuple[int, int], limit: int = SOURCES) -> list[int]:
    """Frames that show at least 30 % of frame `target`'s view, evenly spread, the frame itself included."""
    height, width = shape
    xs, ys = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 7))
    points = np.stack([xs.ravel(), ys.ravel()], 1)[None]
    good = []
    for k in range(len(camera.to_reference)):
        moved = cv2.perspectiveTransform(points, camera.between(target, k))[0]
        inside = (moved[:, 0] > 0) & (moved[:, 0] < width) & (moved[:, 1] > 0) & (moved[:, 1] < height)
        if inside.mean() >= 0.3:
            good.append(k)
    chosen = [good[k] for k in spread(len(good), limit)]
    return sorted({*chosen, target})


def warp(picture: U8, pose: NDArray[np.float64]) -> tuple[U8, Bool]:
    """The picture seen through a homography (its pixels to the target's), and where it is valid (off its border)."""
    height, width = picture.shape[:2]
    moved = cv2.warpPerspective(picture, pose, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inner = np.zeros((height, width), np.uint8)
    inner[2:-2, 2:-2] = 1
    valid = cv2.warpPerspective(inner, pose, (width, height), flags=cv2.INTER_NEAREST) > 0
    return np.asarray(moved, np.uint8), np.asarray(valid)


def warp_mask(mask: Bool, pose: NDArray[np.float64]) -> Bool:
    """A mask seen through a homography; any part of a masked pixel masks."""
    height, width = mask.shape
    soft = cv2.warpPerspective(mask.astype(np.uint8) * 255, pose, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(soft > 8)


class MotionModel:
    """The frames of a shot with camera and exposure, and the passes that turn them into masks."""

    def __init__(self, frames: Sequence[U8], camera: Camera, gains: NDArray[np.float64], min_area: int) -> None:
        self.camera = camera
        self.level = [leveled(frame, gain) for frame, gain in zip(frames, gains, strict=True)]
        self.min_area = min_area
        self.still = camera.kind == "still"
        self.tolerance = STILL_TOLERANCE if self.still else MOVING_TOLERANCE
        self.shape = frames[0].shape[:2]

    def stack(self, target: int) -> Stack:
        """The frames that `target` is compared with, in its coordinates."""
        if self.still:
            return Stack(self.level, [None] * len(self.level), list(range(len(self.level))))
        indices = overlapping(self.camera, target, self.shape)
        warped = [
            (self.level[k], None) if k == target else warp(self.level[k], self.camera.between(k, target))
            for k in indices
        ]
        return Stack([w[0] for w in warped], [w[1] for w in warped], indices)

    def free(self, stack: Stack, target: int, masks: Sequence[Bool]) -> list[Bool]:
        """Per picture of the stack where it is valid and outside the masks grown by 2 px."""
        out = []
        for valid, k in zip(stack.valid, stack.indices, strict=True):
            mask = grow(masks[k], 2)
            if not self.still and k != target:
                mask = warp_mask(mask, self.camera.between(k, target))
            out.append(~mask if valid is None else valid & ~mask)
        return out

    def masks(self, progress: Progress) -> list[Foreground]:
        """Runs the passes; one `Foreground` per frame."""
        count = len(self.level)
        found: list[Foreground] = []
        colors: Colors | None = None
        shared: Background | None = None
        for turn in range(PASSES):
            before, found = found, []
            removed = [f.objects | f.effects for f in before]
            for k in range(count):
                stack = self.stack(k)
                if not self.still or k == 0:
                    first = first_background(stack.pictures, stack.valid) if turn == 0 or not self.still else shared
                    assert first is not None
                    shared = first
                    if turn > 0:
                        shared = masked_background(stack.pictures, self.free(stack, k, removed), first)
                assert shared is not None
                shimmer = self._shimmer(k, stack, shared, removed) if turn > 0 else None
                found.append(
                    foreground(
                        self.level[k],
                        shared,
                        tolerance_px=self.tolerance,
                        min_area=self.min_area,
                        colors=colors,
                        shimmer=shimmer,
                    )
                )
                progress((turn * count + k + 1) / (PASSES * count))
            colors = learn_colors(self.level, [f.objects for f in found], [f.effects for f in found])
        self.background = shared
        return found

    def _shimmer(self, target: int, stack: Stack, background: Background, masks: Sequence[Bool]) -> F32 | None:
        """Distance to other moments where the background moves by itself and a plain difference fired; -1 elsewhere."""
        restless = background.deviation > SHIMMER
        if restless.mean() < 0.002:
            return None
        plain = difference(self.level[target], background) > STRONG * 0.4 * noise(background, self.tolerance)
        where = restless & plain
        chosen = [k for k in spread(len(stack.indices), MOMENTS) if stack.indices[k] != target]
        free = self.free(stack, target, masks)
        away = moving_distance(
            self.level[target], [stack.pictures[k] for k in chosen], [free[k] for k in chosen], where
        )
        return np.asarray(np.where(where, away, -1.0), np.float32)
