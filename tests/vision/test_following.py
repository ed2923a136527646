"""Characters followed by a hand-made network: it knows somebody by his color and sees one step far, as a real one does.

What is shown here is who is found, under which number, how far back, and how much is held; not how well a net sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest

from bglora.vision.boxes import box_of, overlap, suppressed
from bglora.vision.following import Followed, Following, Found, Prompt

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
    return np.asarray((np.abs(frame.astype(int) - np.asarray(color)) < 40).all(2))


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
    """Follows a color from where it was; loses it when it jumps or is hidden. `looked`: frames whose view is alive."""

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
        inside = view[mask & (view != 120).any(2)]
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
        return cv2.resize(logits, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)


def finds(*colors: tuple[int, int, int], blind: Callable[[int], bool] = lambda call: False) -> Any:
    """A detector of these colors; `blind` says at which of its calls it sees nothing."""
    calls = [0]

    def find(picture: np.ndarray, view: Any) -> list[Found]:
        calls[0] += 1
        if blind(calls[0] - 1):
            return []
        masks = [of_color(picture, color) for color in colors]
        return [Found(box_of(mask), 0.9 - 0.1 * k) for k, mask in enumerate(masks) if mask.sum() > 20]

    return find


def follow(
    actors: Sequence[Actor],
    count: int,
    detector: Any,
    prompts: dict[int, list[Prompt]] | None = None,
    window: int = 8,
    redetect: int = 8,
) -> Followed:
    following = Following(ByColor(), detector, window=window, redetect=redetect, min_area=20)
    return following.through(Film(actors, count), prompts or {}, lambda share: None)


def hit(labels: np.ndarray, actors: Sequence[Actor], k: int, color: Sequence[int]) -> tuple[set[int], float]:
    """Numbers on somebody's pixels, and the share of them that has one."""
    mask = of_color(draw(actors, k), color)
    inside = labels[mask]
    return set(inside[inside > 0].tolist()), float((inside > 0).mean())


def crossing(start: int, stop: int, y: float = 24.0, pause: range = range(0)) -> Callable[[int], Any]:
    """Walks from left to right from frame `start` to `stop`, hidden in `pause`."""

    def where(k: int) -> tuple[float, float] | None:
        if not start <= k < stop or k in pause:
            return None
        return 6 + (WIDTH - 12) * (k - start) / max(1, stop - start - 1), y

    return where


def test_somebody_is_followed_under_one_number_across_windows() -> None:
    actors = [(RED, crossing(0, 40))]
    found = follow(actors, 40, finds(RED))
    for k in range(40):
        numbers, share = hit(found[k], actors, k, RED)
        assert numbers == {1} and share > 0.9, k


def test_who_comes_in_between_two_looks_is_followed_back_to_where_he_came_in_also_through_earlier_windows() -> None:
    # the detector first sees him in frame 24; he came in in frame 3
    actors = [(RED, crossing(3, 30))]
    found = follow(actors, 30, finds(RED, blind=lambda call: call < 3), window=6)
    assert not any(found[k].any() for k in range(3))
    for k in range(3, 30):
        numbers, share = hit(found[k], actors, k, RED)
        assert numbers == {1} and share > 0.9, k


def test_who_comes_back_has_the_number_that_he_had() -> None:
    actors: list[Actor] = [(RED, crossing(0, 60, pause=range(16, 40))), (BLUE, lambda k: (80.0, 40.0))]
    found = follow(actors, 60, finds(RED, BLUE))
    before, after = hit(found[10], actors, 10, RED)[0], hit(found[50], actors, 50, RED)[0]
    assert before == after and len(before) == 1
    assert hit(found[50], actors, 50, BLUE)[0] == hit(found[10], actors, 10, BLUE)[0] != before
    assert not found[30][of_color(draw(actors, 15), RED)].any()


def test_who_meets_somebody_else_keeps_his_number_and_every_pixel_has_one() -> None:
    actors: list[Actor] = [(RED, crossing(0, 24, 22)), (BLUE, lambda k: (WIDTH - 6 - (WIDTH - 12) * k / 23, 26.0))]
    found = follow(actors, 24, finds(RED, BLUE))
    names = [hit(found[k], actors, k, color)[0] for color in (RED, BLUE) for k in (0, 23)]
    assert names[0] == names[1] and names[2] == names[3] and names[0] != names[2]


def test_a_new_person_of_other_colors_is_nobody_who_was_there_before() -> None:
    actors: list[Actor] = [(RED, crossing(0, 12)), (GREEN, crossing(20, 40))]
    found = follow(actors, 40, finds(RED, GREEN))
    assert hit(found[30], actors, 30, GREEN)[0] == {2}


def test_a_person_points_somebody_out_whom_no_detector_finds() -> None:
    actors = [(GREEN, crossing(0, 30))]
    at = actors[0][1](20)
    assert at is not None
    found = follow(actors, 30, None, {20: [Prompt(points=((at[0], at[1], True),))]})
    for k in range(30):
        assert hit(found[k], actors, k, GREEN) == ({1}, pytest.approx(1.0, abs=0.1)), k


def test_a_persons_word_corrects_whom_the_detector_found() -> None:
    # the detector takes half of him; a box says who he is, forward and back
    actors = [(RED, crossing(0, 24))]
    half = {k: of_color(draw(actors, k), RED) for k in range(24)}

    class Halved(ByColor):
        def _seen(self, memory: Memory, view: np.ndarray, first: bool = False) -> np.ndarray:
            logits = super()._seen(memory, view, first)
            if memory.color != RED and (logits > 0).any():
                logits[: logits.shape[0] // 2] = -8.0
            return logits

        def begin(self, view: np.ndarray, place: int, count: int, prompt: Prompt) -> tuple[Memory, np.ndarray]:
            memory, logits = super().begin(view, place, count, prompt)
            if prompt.box is not None and prompt.points == ():
                memory.color = (memory.color[0] - 1, memory.color[1], memory.color[2])
                logits[: logits.shape[0] // 2] = -8.0
            return memory, logits

    x, y = actors[0][1](12) or (0, 0)
    prompts = {12: [Prompt(box=box_of(half[12]), points=((x, y, True),))]}
    following = Following(Halved(), finds(RED), window=8, redetect=8, min_area=20)
    found = following.through(Film(actors, 24), prompts, lambda share: None)
    for k in range(24):
        numbers, share = hit(found[k], actors, k, RED)
        assert numbers == {1} and share > 0.9, k


def test_a_shot_of_any_length_is_looked_at_in_windows_and_little_is_kept() -> None:
    actors: list[Actor] = [(RED, lambda k: (48 + 30 * np.sin(k / 40), 24.0))]
    film, net = Film(actors, 2000), ByColor()
    following = Following(net, finds(RED), window=16, redetect=40, min_area=20)
    told: list[float] = []
    found = following.through(film, {}, told.append)
    assert len(found) == 2000 and net.most == 16
    assert max(stop - start for start, stop in film.slices) == 16
    assert len(film.slices) <= 125, "nobody came in late: no window is looked at twice"
    assert found.nbytes() < 2000 * 600
    assert {1} == set().union(*(set(np.unique(found[k]).tolist()) - {0} for k in range(0, 2000, 97)))
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("window", [3, 7, 40])
def test_the_window_changes_nothing(window: int) -> None:
    actors: list[Actor] = [(RED, crossing(2, 40, pause=range(14, 30))), (BLUE, crossing(10, 40, 10))]
    detector = lambda: finds(RED, BLUE, blind=lambda call: call == 2)  # noqa: E731
    one, other = (follow(actors, 40, detector(), window=size) for size in (16, window))
    assert all(np.array_equal(one[k], other[k]) for k in range(40))


def test_boxes_of_one_thing_are_thinned_out() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (20.0, 0.0, 30.0, 10.0)]
    assert suppressed(boxes, [0.5, 0.9, 0.4], 0.6) == [1, 2]
    assert suppressed(boxes, [0.5, 0.9, 0.4], 0.9) == [1, 0, 2]
    assert overlap(boxes[0], boxes[1]) == pytest.approx(90 / 110)
    assert overlap(boxes[0], boxes[2]) == 0
