"""The camera comes back: what another shot shows of a hole is taken if it is the same view, and never otherwise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bglora.vision.metrics import psnr_db
from bglora.vision.revisit import Again, Seen, agreed, find_pose, seen_again
from bglora.vision.sketch import choose_views, likeness, sketch
from tests.vision import drawn

HEIGHT, WIDTH = 216, 384
BODY = (slice(90, 170), slice(150, 200))


def place(seed: int) -> np.ndarray:
    """A view with a margin of 24 pixels all around, float32."""
    return drawn.texture(seed, HEIGHT + 48, WIDTH + 48)


def framed(
    wide: np.ndarray, dx: float = 0, dy: float = 0, zoom: float = 1, gain: object = 1.0, seed: int = 5
) -> np.ndarray:
    """A frame of a view with grain: moved, enlarged, at another exposure."""
    pose = np.array([[zoom, 0, -24 - dx], [0, zoom, -24 - dy]], np.float32)
    picture = cv2.warpAffine(wide, pose, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC) * np.asarray(gain, np.float32)
    grain = np.random.default_rng(seed).normal(0, 1.5, picture.shape)
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def sitting(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture with somebody who never moves, and the mask."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[BODY] = True
    coat = drawn.coat(1, HEIGHT, WIDTH)
    return np.where(hole[..., None], coat, picture).astype(np.uint8), hole


def nobody(picture: np.ndarray) -> Seen:
    return Seen(picture, np.ones(picture.shape[:2], bool))


def taken(seed: int, other: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is taken for a hole in view `seed` from another frame: picture, mask, and the true background."""
    clean = framed(place(seed))
    picture, hole = sitting(clean)
    target = Seen(picture, ~hole)
    pose = find_pose(target, other)
    found = seen_again(target, hole, other, pose) if pose else Again(picture.astype(np.float32), np.zeros_like(hole))
    assert np.array_equal(target.picture, picture) and not (found.taken & ~hole).any()
    return np.clip(found.picture, 0, 255).astype(np.uint8), found.taken, clean


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"gain": (0.8, 0.75, 0.85)},
        {"dx": 5.4, "dy": -3.7},
        {"dx": -9, "zoom": 1.06, "gain": 1.15},
    ],
    ids=["the same", "darker", "moved", "nearer and brighter"],
)
def test_an_empty_shot_of_the_same_view_gives_the_true_background(change: dict[str, object]) -> None:
    for seed in (3, 4):
        picture, where, clean = taken(seed, nobody(framed(place(seed), seed=9, **change)))  # type: ignore[arg-type]
        assert where[BODY].all()
        assert psnr_db(picture, clean, where) > 33


def test_only_what_is_behind_nobody_in_the_other_shot_is_taken() -> None:
    other = framed(place(3), seed=9)
    masked = np.zeros((HEIGHT, WIDTH), bool)
    masked[60:180, 175:260] = True
    other[masked] = (30, 200, 40)
    picture, where, clean = taken(3, Seen(other, ~masked))
    assert where[BODY].mean() > 0.4 and not (where & masked).any()
    assert psnr_db(picture, clean, where) > 33


def test_another_place_gives_nothing() -> None:
    assert not any(taken(3, nobody(framed(place(seed))))[1].any() for seed in (4, 5, 6))


def test_another_viewpoint_gives_nothing() -> None:
    """The lower half is nearer than the upper one: seen from elsewhere it moves further."""
    wide, near = place(3), place(7)
    wide[150:] = near[150:]
    moved = wide.copy()
    moved[:150] = np.roll(wide, 4, 1)[:150]
    moved[150:] = np.roll(wide, 16, 1)[150:]
    clean, other = framed(wide), framed(moved, seed=9)
    picture, hole = sitting(clean)
    target = Seen(picture, ~hole)
    assert find_pose(target, nobody(other)) is None


def test_a_place_with_the_same_walls_and_other_things_gives_nothing() -> None:
    """Like two rooms of one house: the larger part of the picture is the same, things stand differently."""
    wide, strange = place(3), place(8)
    for y in range(0, HEIGHT + 48, 44):
        for x in range((y // 44 % 2) * 48, WIDTH + 48, 96):
            wide[y : y + 44, x : x + 48] = strange[y : y + 44, x : x + 48]
    assert not taken(3, nobody(framed(wide, seed=9)))[1].any()


def test_where_something_else_stands_around_the_hole_nothing_is_taken() -> None:
    wide = place(3)
    y, x = BODY[0].start + 24, BODY[1].start + 24
    wide[y - 30 : y + 110, x - 30 : x + 80] = place(9)[y - 30 : y + 110, x - 30 : x + 80]
    other = nobody(framed(wide, seed=9))
    clean = framed(place(3))
    picture, hole = sitting(clean)
    assert find_pose(Seen(picture, ~hole), other) is not None, "it is the same view"
    assert not taken(3, other)[1].any()


def test_who_sits_there_in_the_other_shot_too_unnoticed_is_not_taken_for_background() -> None:
    other, _ = sitting(framed(place(3), seed=9))
    assert not taken(3, nobody(other))[1].any()


def test_plain_pictures_that_say_nothing_of_a_place_give_nothing() -> None:
    plain = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    picture, hole = sitting(plain)
    assert find_pose(Seen(picture, ~hole), nobody(plain)) is None


def test_frames_of_a_shot_that_disagree_give_nothing_there() -> None:
    one, other = np.full((40, 60, 3), 100, np.float32), np.full((40, 60, 3), 104, np.float32)
    other[:, 30:] = 190
    both = np.ones((40, 60), bool)
    found = agreed([Again(one, both), Again(other, both)])
    assert found.taken[:, :24].all() and not found.taken[:, 34:].any()
    assert np.allclose(found.picture[:, :24], 102)


def test_sketches_tell_a_view_in_another_light_from_another_place() -> None:
    masked = np.zeros((HEIGHT, WIDTH), bool)
    views = [
        sketch(framed(place(3)), masked),
        sketch(framed(place(3), dx=5, gain=0.7), masked),
        sketch(framed(place(4)), masked),
    ]
    alike = likeness(views, views)
    assert alike[0, 1] > 0.9 and alike[0, 2] < 0.6
    assert np.allclose(alike, alike.T, atol=1e-5)


def test_sketches_leave_characters_out() -> None:
    picture, hole = sitting(framed(place(3)))
    found = sketch(picture, hole)
    assert (found == 0).any()
    assert likeness([found], [sketch(framed(place(3), seed=8), ~np.ones_like(hole))])[0, 0] > 0.98


def test_views_are_the_frames_that_together_show_most() -> None:
    shot = drawn.shot(5, 9)
    sketches = [sketch(f, o | s) for f, o, s in zip(shot.frames, shot.objects, shot.shadows, strict=True)]
    chosen = choose_views(sketches, 3)
    assert 2 <= len(chosen) <= 3
    hidden = np.logical_and.reduce([sketches[k] == 0 for k in chosen])
    assert not hidden.any()
    empty = drawn.shot(5, 9, place=lambda k, count: None)
    assert len(choose_views([sketch(f, np.zeros(f.shape[:2], bool)) for f in empty.frames], 3)) == 1


def test_a_frame_in_the_place_of_another_is_in_view_whole() -> None:
    """Grain puts the homography a hundredth of a pixel outside the picture; that is no smaller overlap."""
    clean, hole = sitting(framed(place(3), seed=1))
    poses = [find_pose(Seen(clean, ~hole), nobody(framed(place(3), seed=seed))) for seed in range(10, 16)]
    assert all(pose is not None and np.abs(pose.matrix - np.eye(3)).max() < 0.15 for pose in poses)


def test_what_ends_at_the_other_frame_s_border_ends_there_without_a_dark_line() -> None:
    clean = framed(place(3))
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[150:, 150:200] = True
    target = Seen(np.where(hole[..., None], drawn.coat(1, HEIGHT, WIDTH), clean).astype(np.uint8), ~hole)
    other = nobody(framed(place(3), dy=-12.4, seed=9))
    pose = find_pose(target, other)
    assert pose is not None
    found = seen_again(target, hole, other, pose)
    rows = np.nonzero(found.taken.any(1))[0]
    assert HEIGHT - 16 < rows.max() < HEIGHT - 8
    last = found.taken & (np.arange(HEIGHT)[:, None] > rows.max() - 3)
    assert psnr_db(np.clip(found.picture, 0, 255).astype(np.uint8), clean, last) > 28


def test_a_shade_that_somebody_who_never_moves_casts_around_is_no_other_place() -> None:
    clean = framed(place(3))
    picture, hole = sitting(clean)
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 9)[..., None]
    shaded = np.where(hole[..., None], picture, picture * (1 - 0.45 * soft)).astype(np.uint8)
    target, other = Seen(shaded, ~hole), nobody(framed(place(3), seed=9))
    pose = find_pose(target, other)
    assert pose is not None
    found = seen_again(target, hole, other, pose)
    assert found.taken[BODY].all()
    assert psnr_db(np.clip(found.picture, 0, 255).astype(np.uint8), clean, found.taken) > 24
