"""Characters followed by a hand-made network: it knows somebody by his color and sees one step far, as a real one does.

What is shown here is who is found, under which number, how far back, and how much is held; not how well a net sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from bglora.vision.boxes import box_of, overlap, suppressed
from bglora.vision.following import Followed, Following, Found, Prompt
from bglora.vision.numbered import Runs, Seen
from tests.vision.by_color import BLUE, GREEN, HEIGHT, RED, WIDTH, Actor, ByColor, Film, Memory, draw, finds, of_color


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
    assert sum(len(one.data) for one in found._packed) < 2000 * 600
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


@pytest.mark.parametrize("surer", [1, 2])
def test_of_two_who_overlap_the_surer_one_has_the_pixel(surer: int) -> None:
    class Boxes:
        """Sees a fixed box each, one of them more surely."""

        def look(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
            return list(frames)

        def begin(self, view: np.ndarray, place: int, count: int, prompt: Prompt) -> tuple[Any, np.ndarray]:
            assert prompt.box is not None
            logits = np.full(view.shape[:2], -8.0, np.float32)
            left, top, right, bottom = (round(v) for v in prompt.box)
            logits[top:bottom, left:right] = left / 10 if surer == 2 else (80 - left) / 10
            return logits, logits

        def step(self, memory: Any, view: np.ndarray, place: int, *, back: bool) -> np.ndarray:
            return np.asarray(memory)

    detector = lambda picture: [Found((10, 5, 40, 30), 0.9), Found((30, 5, 70, 30), 0.8)]  # noqa: E731
    following = Following(Boxes(), detector, window=4, redetect=8, min_area=20)
    found = following.through([np.full((HEIGHT, WIDTH, 3), 120, np.uint8)] * 4, {}, lambda share: None)
    for labels in found:
        assert (labels[10, 10:30] == 1).all() and (labels[10, 40:70] == 2).all()
        assert (labels[10, 30:40] == surer).all()


def test_an_answer_is_grown_to_the_frame_as_a_whole_picture_would_be() -> None:
    rng = np.random.default_rng(5)
    logits = cv2.GaussianBlur(rng.normal(0.0, 3.0, (64, 64)).astype(np.float32), (9, 9), 2) - 0.4
    logits[:10], logits[:, 50:] = -3, -3
    whole = cv2.resize(logits, (190, 101), interpolation=cv2.INTER_LINEAR)
    seen = Seen.of(logits, (101, 190))
    assert seen is not None
    mask = np.zeros((101, 190), bool)
    mask[seen.box] = seen.inside
    assert (mask != (whole > 0)).mean() < 0.002 and mask.any()
    assert np.abs(seen.logits - whole[seen.box]).max() < 0.1
    assert Seen.of(np.full((64, 64), -1.0, np.float32), (101, 190)) is None


def test_packed_labels_come_back_as_they_were() -> None:
    labels = np.random.default_rng(6).integers(0, 3, (31, 17)).astype(np.uint16) * 300
    assert np.array_equal(Runs.of(labels).unpacked(), labels)
    assert np.array_equal(Runs.of(labels[:1] * 0).unpacked(), labels[:1] * 0)


def test_two_numbers_that_are_one_already_may_be_joined_again() -> None:
    found = Followed()
    found.append(np.array([[1, 2, 3]], np.uint16))
    for _ in range(2):
        found.join(2, 1)
        found.join(3, 2)
    assert found[0].tolist() == [[1, 1, 1]]


def test_a_word_where_nobody_is_seen_is_remembered() -> None:
    found = follow([(RED, crossing(0, 9))], 9, None, {4: [Prompt(box=(2, 2, 5, 5))]})
    assert found.nobody == [4] and not found[4].any()
