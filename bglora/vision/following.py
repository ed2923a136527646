"""Characters followed through a shot by a network that carries masks from frame to frame.

Somebody is found by a detector at intervals, or pointed out by a person; from there he is followed forward as the shot
goes by, and backward to where he came in. Frames are looked at in windows: of a shot of any length one window of
pictures and features is held, beside what the network remembers of those who are in sight. Found masks are kept packed.

Who is who: somebody whom a detector finds where somebody is followed is the same; so is he who was lost before and
looks alike now, or whom the way back leads to. Where two overlap the network's surer answer counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np

from bglora.vision.arrays import F32, U8, Bool, without_specks
from bglora.vision.boxes import Box, box_of, overlap
from bglora.vision.tracks import Thing, thing

SAME = 0.5
"""Intersection over union from which two masks, or two boxes, are one character."""
TAKEN = 0.6
"""Share of a found character's pixels that are others' already, from which nobody new was found."""
PATIENCE = 12
"""Frames for which somebody out of sight is looked for; later only a detector brings him back."""
ALIKE = 0.6
"""Share of colors in common from which somebody who was lost is back."""
GROWN = 4.0
"""How many times larger or smaller he may be then, in pixels."""


@dataclass(frozen=True)
class Prompt:
    """What says who is meant in a frame: a box, points, or a mask. Pixels of the frame.

    Attributes:
        box: left, top, right, bottom.
        points: x, y, and whether the point is on him.
        mask: bool (H, W); counts alone.
    """

    box: Box | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: Bool | None = None


@dataclass(frozen=True)
class Found:
    """Somebody whom a detector found: box (left, top, right, bottom), score (0 to 1), the mask where it gives one."""

    box: Box
    score: float
    mask: Bool | None = None


class Follower(Protocol):
    """A network that knows somebody again."""

    def look(self, frames: Sequence[U8]) -> Sequence[Any]:
        """What it sees in each frame; handed back to it in `begin` and `step`."""
        ...

    def begin(self, view: Any, place: int, count: int, prompt: Prompt) -> tuple[Any, F32]:
        """Takes note of somebody in the frame at `place` of `count`: its memory of him, and his mask's logits (h, w)
        over the whole frame, at any size; above 0 it is him.
        """
        ...

    def step(self, memory: Any, view: Any, place: int, *, back: bool) -> F32:
        """Finds him in the next frame (the one before if `back`); the memory goes along. Logits as in `begin`."""
        ...


Detector = Callable[[U8, Any], Sequence[Found]]
"""Finds characters in a frame: takes the picture and what the follower sees in it."""


@dataclass
class Followed(Sequence[np.ndarray]):
    """Who is where: per frame uint16 (H, W), the number of the character at each pixel, from 1; 0 is nobody. Packed."""

    _packed: list[bytes] = field(default_factory=list)
    _same: dict[int, int] = field(default_factory=dict)

    def append(self, labels: np.ndarray) -> None:
        """Adds the next frame."""
        self._packed.append(_pack(labels))

    def change(self, place: int, labels: np.ndarray) -> None:
        """Puts other numbers in place of a frame's."""
        self._packed[place] = _pack(labels)

    def join(self, number: int, earlier: int) -> None:
        """Two numbers turn out to be one character: the smaller counts."""
        one, other = self._number(number), self._number(earlier)
        self._same[max(one, other)] = min(one, other)

    def raw(self, place: int) -> np.ndarray:
        """A frame's numbers before characters were joined."""
        return cv2.imdecode(np.frombuffer(self._packed[place], np.uint8), cv2.IMREAD_UNCHANGED).astype(np.uint16)

    def nbytes(self) -> int:
        """Memory that the packed frames take."""
        return sum(map(len, self._packed))

    def _number(self, number: int) -> int:
        while number in self._same:
            number = self._same[number]
        return number

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        labels = self.raw(place)
        for number in self._same:
            labels[labels == number] = self._number(number)
        return labels


@dataclass
class _Track:
    """Somebody who is followed. `memory` is None once he was out of sight for too long."""

    number: int
    memory: Any
    last: Thing
    seen: int


@dataclass
class _Way:
    """A way back from where somebody was found. `until`: the frame before which it ends; `sure`: a person said so."""

    number: int
    place: int
    prompt: Prompt
    sure: bool
    until: int = 0
    memory: Any = None
    unseen: int = 0
    over: bool = False


class Following:
    """Follows the characters of one shot.

    Args:
        follower, detector: the networks. Without a detector only those whom a person pointed out are followed.
        window: frames whose pictures and features are held at once.
        redetect: frames from one look of the detector to the next.
        min_area: smallest character in pixels.
    """

    def __init__(
        self, follower: Follower, detector: Detector | None, *, window: int, redetect: int, min_area: int
    ) -> None:
        self.follower, self.detector = follower, detector
        self.window, self.redetect, self.min_area = window, redetect, min_area
        self.found = Followed()
        self.tracks: list[_Track] = []
        self.ways: list[_Way] = []
        self.said: dict[int, int] = {}  # number to the last place at which a person pointed him out
        self.count = 0

    def through(
        self, frames: Sequence[U8], prompts: Mapping[int, Sequence[Prompt]], progress: Callable[[float], None]
    ) -> Followed:
        """Follows everybody through the frames.

        Args:
            frames: uint8 RGB (H, W, 3), one size, ascending in time; asked for by slices of `window` at most.
            prompts: by place in `frames` what a person pointed out there, one prompt a character.
            progress: told the share that is done, 0 to 1.
        """
        self.count = len(frames)
        starts = range(0, self.count, self.window)
        for done, first in enumerate(starts):
            pictures = frames[first : first + self.window]
            views = self.follower.look(pictures)
            for k, picture in enumerate(pictures):
                self._forward(first + k, picture, views[k], prompts.get(first + k, ()))
            self._backward(first, pictures, views)
            progress(0.8 * (done + 1) / len(starts))
        for done, first in enumerate(reversed(starts)):
            if any(first < way.place and not way.over for way in self.ways):
                pictures = frames[first : first + self.window]
                self._backward(first, pictures, self.follower.look(pictures))
            progress(0.8 + 0.2 * (done + 1) / len(starts))
        return self.found

    # Forward

    def _forward(self, place: int, picture: U8, view: Any, prompts: Sequence[Prompt]) -> None:
        size = picture.shape[:2]
        best = np.zeros(size, np.float32)
        labels = np.zeros(size, np.uint16)
        for track in self.tracks:
            if track.memory is not None:
                logits = _grown(self.follower.step(track.memory, view, place, back=False), size)
                self._claim(labels, best, track.number, logits)
        for prompt in prompts:
            self._pointed_out(place, picture, view, prompt, labels, best)
        if self.detector is not None and (place % self.redetect == 0 or place == self.count - 1):
            for one in sorted(self.detector(picture, view), key=lambda one: -one.score):
                self._detected(place, picture, view, one, labels, best)
        for track in self.tracks:
            mask = labels == track.number
            if mask.any():
                track.last, track.seen = thing(picture, mask), place
            elif place - track.seen > PATIENCE:
                track.memory = None
        self.found.append(labels)

    def _claim(self, labels: np.ndarray, best: F32, number: int, logits: F32) -> Bool:
        """Gives somebody the pixels at which his logits are positive and the highest; returns them all."""
        mask = without_specks(np.asarray(logits > 0), max(1, self.min_area // 4))
        if mask.sum() < self.min_area:
            return np.zeros_like(mask)
        won = mask & (logits > best)
        labels[won], best[won] = number, logits[won]
        return mask

    def _pointed_out(self, place: int, picture: U8, view: Any, prompt: Prompt, labels: np.ndarray, best: F32) -> None:
        """Somebody whom a person pointed out: new, or better known from here on."""
        memory, logits = self.follower.begin(view, place, self.count, prompt)
        logits = _grown(logits, labels.shape)
        mask = np.asarray(logits > 0)
        if not mask.any():
            return
        known = self._whom(labels, mask)
        track = next((one for one in self.tracks if one.number == known), None)
        if track is None:
            track = self._somebody(place, picture, mask, memory, labels)
        else:
            track.memory = memory
            labels[labels == track.number] = 0
        labels[mask], best[mask] = track.number, np.maximum(logits[mask], best[mask])
        self._found_way(_Way(track.number, place, prompt, sure=True, until=self.said.get(track.number, -1) + 1))
        self.said[track.number] = place

    def _detected(self, place: int, picture: U8, view: Any, found: Found, labels: np.ndarray, best: F32) -> None:
        """Somebody whom the detector found, if nobody is followed there."""
        if any(overlap(found.box, box_of(labels == n)) >= SAME for n in np.unique(labels[labels > 0])):
            return
        prompt = Prompt(mask=found.mask) if found.mask is not None else Prompt(box=found.box)
        memory, logits = self.follower.begin(view, place, self.count, prompt)
        logits = _grown(logits, labels.shape)
        mask = without_specks(np.asarray(logits > 0), max(1, self.min_area // 4))
        if mask.sum() < self.min_area or (labels[mask] > 0).mean() >= TAKEN:
            return
        track = self._somebody(place, picture, mask, memory, labels)
        self._claim(labels, best, track.number, logits)
        self._found_way(_Way(track.number, place, prompt, sure=False))

    def _somebody(self, place: int, picture: U8, mask: Bool, memory: Any, labels: np.ndarray) -> _Track:
        """The track of somebody who was not in sight: one that was lost and looks like him, else a new one."""
        now = thing(picture, mask)
        visible = set(np.unique(labels).tolist())
        lost = [track for track in self.tracks if track.number not in visible and _alike(track.last, now) >= ALIKE]
        if lost:
            track = max(lost, key=lambda track: _alike(track.last, now))
            track.memory, track.last, track.seen = memory, now, place
            return track
        track = _Track(len(self.tracks) + 1, memory, now, place)
        self.tracks.append(track)
        return track

    def _whom(self, labels: np.ndarray, mask: Bool) -> int:
        """The number of the one whose mask this is; 0 if it is nobody's."""
        for number in np.unique(labels[mask]).tolist():
            other = labels == number
            if number and (mask & other).sum() >= SAME * (mask | other).sum():
                return int(number)
        return 0

    # Backward

    def _found_way(self, way: _Way) -> None:
        if way.place > way.until:
            self.ways.append(way)

    def _backward(self, first: int, pictures: Sequence[U8], views: Sequence[Any]) -> None:
        """Goes all ways back that lead through a window, whose first frame is at place `first`."""
        last = first + len(pictures)
        for way in self.ways:
            if way.memory is None and first <= way.place < last:
                way.memory, _ = self.follower.begin(views[way.place - first], way.place, self.count, way.prompt)
            while way.memory is not None and not way.over and first < way.place <= last:
                self._back(way, pictures[way.place - 1 - first], views[way.place - 1 - first])
        self.ways = [way for way in self.ways if not way.over]

    def _back(self, way: _Way, picture: U8, view: Any) -> None:
        """One frame back."""
        way.place -= 1
        labels = self.found.raw(way.place)
        logits = _grown(self.follower.step(way.memory, view, way.place, back=True), picture.shape[:2])
        mask = without_specks(np.asarray(logits > 0), max(1, self.min_area // 4))
        seen = int(mask.sum()) >= self.min_area
        way.unseen = 0 if seen else way.unseen + 1
        if seen:
            known = self._whom(labels, mask)
            if known and known != way.number and not way.sure:
                self.found.join(way.number, known)
                way.over = True
                return
            if known == way.number and not way.sure:
                way.over = True  # he was followed here already
                return
            if way.sure:
                labels[labels == way.number] = 0
            labels[mask & (labels == 0)] = way.number
            self.found.change(way.place, labels)
        way.over = way.unseen > PATIENCE or way.place <= max(way.until, 0)
        if way.over:
            way.memory = None


def _grown(logits: F32, size: tuple[int, ...]) -> F32:
    """Logits at a frame's size (height, width)."""
    if logits.shape == tuple(size[:2]):
        return logits
    return np.asarray(cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _alike(before: Thing, now: Thing) -> float:
    """Colors in common (0 to 1); 0 where the sizes forbid it."""
    if not 1 / GROWN <= now.area / max(1, before.area) <= GROWN:
        return 0.0
    return float(np.minimum(before.colors, now.colors).sum())


def _pack(labels: np.ndarray) -> bytes:
    small = labels.astype(np.uint8) if labels.max(initial=0) < 256 else labels
    return bytes(cv2.imencode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
