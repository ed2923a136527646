"""Characters followed by a hand-made network: it knows somebody by his color and sees one step far, as a real one does.

What is shown here is who is found, under which number, how far back, and how much is held; not how well a net sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bglora.vision.boxes import box_of, overlap, suppressed
from bglora.vision.following import Followed, Following, Prompt
from tests.vision.by_color import BLUE, GREEN, RED, WIDTH, Actor, ByColor, Film, Memory, draw, finds, of_color


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
