"""Characters followed through a shot by a network that carries masks from frame to frame.

Somebody is found by a detector at intervals, or pointed out by a person; from there he is followed forward as the shot
goes by, and backward to where he came in. Frames are looked at in windows: of a shot of any length one window of
pictures and features is held, beside what the network remembers of those who are in sight. Found masks are kept packed.

Who is who: somebody whom a detector finds where somebody is followed is the same; so is he who was lost before and
looks alike now, or whom the way back leads to. Where two overlap the network's surer answer counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from bglora.vision.arrays import F32, U8, Bool, without_specks
from bglora.vision.boxes import Box, overlap
from bglora.vision.numbered import SAME, NumberedFrame, Runs, Seen
from bglora.vision.tracks import Thing, thing

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


Detector = Callable[[U8], Sequence[Found]]
"""Finds characters in a frame."""


@dataclass
class Followed(Sequence[np.ndarray]):
    """Who is where: per frame uint16 (H, W), the number of the character at each pixel, from 1; 0 is nobody.

    Frames are kept as runs of equal numbers.

    Attributes:
        nobody: places at which a person pointed at something in which the network sees nobody.
    """

    nobody: list[int] = field(default_factory=list)
    _packed: list[Runs] = field(default_factory=list)
    _same: dict[int, int] = field(default_factory=dict)

    def append(self, labels: np.ndarray) -> None:
        """Adds the next frame."""
        self._packed.append(Runs.of(labels))

    def change(self, place: int, labels: np.ndarray) -> None:
        """Puts other numbers in place of a frame's."""
        self._packed[place] = Runs.of(labels)

    def join(self, number: int, earlier: int) -> None:
        """Two numbers turn out to be one character: the smaller counts."""
        one, other = self._number(number), self._number(earlier)
        if one != other:
            self._same[max(one, other)] = min(one, other)

    def raw(self, place: int) -> np.ndarray:
        """A frame's numbers before characters were joined."""
        return self._packed[place].unpacked()

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
        frame = NumberedFrame(np.zeros(size, np.uint16), np.zeros(size, np.float32))
        for track in self.tracks:
            if track.memory is not None:
                seen = self._seen(self.follower.step(track.memory, view, place, back=False), size)
                if seen is not None:
                    frame.claim(track.number, seen)
        for prompt in prompts:
            self._pointed_out(place, picture, view, prompt, frame)
        if self.detector is not None and (place % self.redetect == 0 or place == self.count - 1):
            for one in sorted(self.detector(picture), key=lambda one: -one.score):
                self._detected(place, picture, view, one, frame)
        for track in self.tracks:
            mask = frame.mask(track.number)
            if mask is not None:
                track.last, track.seen = thing(picture[mask.box], mask.inside), place
            elif place - track.seen > PATIENCE:
                track.memory = None
        self.found.append(frame.labels)

    def _seen(self, logits: F32, size: tuple[int, int]) -> Seen | None:
        """What a net answers, in the frame; None where it sees nobody of some size."""
        seen = Seen.of(logits, size)
        if seen is None:
            return None
        inside = without_specks(seen.inside, max(1, self.min_area // 4))
        return replace(seen, inside=inside) if inside.sum() >= self.min_area else None

    def _pointed_out(self, place: int, picture: U8, view: Any, prompt: Prompt, frame: NumberedFrame) -> None:
        """Somebody whom a person pointed out: new, or better known from here on."""
        memory, logits = self.follower.begin(view, place, self.count, prompt)
        seen = Seen.of(logits, frame.labels.shape)
        if seen is None:
            self.found.nobody.append(place)
            return
        known = frame.whom(seen)
        track = next((one for one in self.tracks if one.number == known), None)
        if track is None:
            track = self._somebody(place, picture, seen, memory, frame)
        else:
            track.memory = memory
            frame.clear(track.number)
        frame.claim(track.number, seen, sure=True)
        self._found_way(_Way(track.number, place, prompt, sure=True, until=self.said.get(track.number, -1) + 1))
        self.said[track.number] = place

    def _detected(self, place: int, picture: U8, view: Any, found: Found, frame: NumberedFrame) -> None:
        """Somebody whom the detector found, if nobody is followed there."""
        followed = (frame.mask(track.number) for track in self.tracks)
        if any(mask is not None and overlap(found.box, mask.bounds()) >= SAME for mask in followed):
            return
        prompt = Prompt(mask=found.mask) if found.mask is not None else Prompt(box=found.box)
        memory, logits = self.follower.begin(view, place, self.count, prompt)
        seen = self._seen(logits, frame.labels.shape)
        if seen is None or (frame.labels[seen.box][seen.inside] > 0).mean() >= TAKEN:
            return
        track = self._somebody(place, picture, seen, memory, frame)
        frame.claim(track.number, seen)
        self._found_way(_Way(track.number, place, prompt, sure=False))

    def _somebody(self, place: int, picture: U8, seen: Seen, memory: Any, frame: NumberedFrame) -> _Track:
        """The track of somebody who was not in sight: one that was lost and looks like him, else a new one."""
        now = thing(picture[seen.box], seen.inside)
        unseen = [track for track in self.tracks if frame.mask(track.number) is None]
        lost = [track for track in unseen if _alike(track.last, now) >= ALIKE]
        if lost:
            track = max(lost, key=lambda track: _alike(track.last, now))
            track.memory, track.last, track.seen = memory, now, place
            return track
        track = _Track(len(self.tracks) + 1, memory, now, place)
        self.tracks.append(track)
        return track

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
        size = picture.shape[:2]
        seen = self._seen(self.follower.step(way.memory, view, way.place, back=True), size)
        way.unseen = 0 if seen is not None else way.unseen + 1
        if seen is not None:
            frame = NumberedFrame(self.found.raw(way.place), np.zeros(size, np.float32))
            known = frame.whom(seen)
            if known and not way.sure:
                if known != way.number:
                    self.found.join(way.number, known)
                way.over = True  # he was followed here already
                return
            if way.sure:
                frame.clear(way.number)
            frame.fill(way.number, seen)
            self.found.change(way.place, frame.labels)
        way.over = way.unseen > PATIENCE or way.place <= max(way.until, 0)
        if way.over:
            way.memory = None


def _alike(before: Thing, now: Thing) -> float:
    """Colors in common (0 to 1); 0 where the sizes forbid it."""
    if not 1 / GROWN <= now.area / max(1, before.area) <= GROWN:
        return 0.0
    return float(np.minimum(before.colors, now.colors).sum())
