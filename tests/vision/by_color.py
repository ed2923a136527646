"""A hand-made network that follows colors, a detector that finds them, and films of discs to follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from bglora.vision.boxes import box_of
from bglora.vision.following import Found, Prompt

HEIGHT, WIDTH = 48, 96
RED, BLUE, GREEN = (230, 20, 20), (20, 20, 230), (20, 200, 20)
REACH = 14
"""Pixels that somebody may move from frame to frame to be known again."""

Actor = tuple[tuple[int, int, int], Callable[[int], tuple[float, float] | None]]
"""Color, and the place of the center in frame k; None: out of sight."""


def draw(actors: Sequence[Actor], k: int) -> np.ndarray:
    """Frame `k`: discs on grey, later actors in front."""
    frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for color, where in actors:
        at = where(k)
        if at is not None:
            cv2.circle(frame, (round(at[0]), round(at[1])), 7, color, -1)
    return frame


def of_color(frame: np.ndarray, color: Sequence[int]) -> np.ndarray:
    return np.asarray((np.abs(frame.astype(int) - np.asarray(color)) < 60).all(2))


@dataclass
class Film(Sequence[np.ndarray]):
    """Frames drawn when they are asked for; remembers the largest slice and in which order slices were asked for."""

    actors: Sequence[Actor]
    count: int
    slices: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Any) -> Any:
        assert isinstance(place, slice), "a film is looked at in windows"
        start, stop, _ = place.indices(self.count)
        self.slices.append((start, stop))
        return [draw(self.actors, k) for k in range(start, stop)]


@dataclass
class Memory:
    color: tuple[int, int, int]
    at: tuple[float, float] | None
    steps: int = 0


class ByColor:
    """Follows a color from where it was; loses it when it jumps or is hidden. `most`: frames it looked at at once."""

    def __init__(self) -> None:
        self.most = 0

    def look(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.most = max(self.most, len(frames))
        return list(frames)

    def begin(self, view: np.ndarray, place: int, count: int, prompt: Prompt) -> tuple[Memory, np.ndarray]:
        mask = np.zeros(view.shape[:2], bool)
        if prompt.mask is not None:
            mask = prompt.mask
        elif prompt.box is not None:
            x0, y0, x1, y1 = (round(v) for v in prompt.box)
            mask[y0:y1, x0:x1] = True
        else:
            for x, y, on in prompt.points:
                mask[round(y), round(x)] = on
        inside = view[mask & (np.ptp(view, axis=2) > 60)]  # the background is grey
        color = tuple(int(v) for v in np.median(inside, 0)) if len(inside) else (0, 0, 0)
        memory = Memory((color[0], color[1], color[2]), None)
        return memory, self._seen(memory, view, first=True)

    def step(self, memory: Memory, view: np.ndarray, place: int, *, back: bool) -> np.ndarray:
        memory.steps += 1
        return self._seen(memory, view)

    def _seen(self, memory: Memory, view: np.ndarray, first: bool = False) -> np.ndarray:
        mask = of_color(view, memory.color)
        if mask.any():
            ys, xs = np.nonzero(mask)
            at = float(xs.mean()), float(ys.mean())
            if first or (memory.at is not None and np.hypot(at[0] - memory.at[0], at[1] - memory.at[1]) <= REACH):
                memory.at = at
            else:
                mask[:] = False
        # half the size, as nets answer
        logits = np.where(mask, 8.0, -8.0).astype(np.float32)
        return cv2.resize(logits, (mask.shape[1] // 2, mask.shape[0] // 2), interpolation=cv2.INTER_AREA)


def finds(*colors: tuple[int, int, int], blind: Callable[[int], bool] = lambda call: False) -> Any:
    """A detector of these colors; `blind` says at which of its calls it sees nothing."""
    calls = [0]

    def find(picture: np.ndarray) -> list[Found]:
        calls[0] += 1
        if blind(calls[0] - 1):
            return []
        masks = [of_color(picture, color) for color in colors]
        return [Found(box_of(mask), 0.9 - 0.1 * k) for k, mask in enumerate(masks) if mask.sum() > 20]

    return find


class Named:
    """A `DetectBackend` of the colors that words name."""

    COLORS = {"red": RED, "blue": BLUE, "green": GREEN}

    def find(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[Found]]:
        return [list(finds(*(self.COLORS[word] for word in words))(frame)) for frame in frames]
