"""What every masks backend must do, and what the embedded ones find on drawn shots they were not tuned on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bglora import backends
from bglora.backends.masks import ShotMasks
from bglora.film.layers import LayerEntry
from bglora.film.png import write_png
from bglora.settings.plates import SegmentSettings
from bglora.stages.layermasks import LayerHoles
from bglora.vision.fringe import remnants
from tests.vision import drawn

SETTINGS = SegmentSettings()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> SegmentSettings:
    """Settings with tiny random weights for every net: what they find is noise, what is shown is the plumbing."""
    from tests.backends import tiny_detect, tiny_sam2, tiny_sam3

    root = tmp_path_factory.mktemp("weights")
    return SegmentSettings(
        sam2=str(tiny_sam2.write_sam2(root / "sam2")),
        sam3=str(tiny_sam3.write_sam3(root / "sam3")),
        grounding=str(tiny_detect.write_grounding_dino(root / "grounding")),
        min_score=0.2,
        window=3,
        redetect=4,
    )


def find(frames: list[np.ndarray], name: str = "motion", imported: list[Any] | None = None) -> ShotMasks:
    backend = backends.load("masks", name, SETTINGS)
    return backend.masks(frames, imported or [None] * len(frames), lambda share: None)


def removed(masks: ShotMasks) -> list[np.ndarray]:
    return [mask > 0 for mask in masks.masks]


def objects(masks: ShotMasks) -> list[np.ndarray]:
    return [mask == 255 for mask in masks.masks]


@pytest.mark.parametrize(
    "name, given", [("motion", True), ("layers", True), ("sam2", True), ("sam2", False), ("sam3", False)]
)
def test_masks_have_the_promised_form_and_say_how_far_they_are(name: str, given: bool, studio: SegmentSettings) -> None:
    shot = drawn.shot(1, 6)
    imported = [np.where(o, 255, 0).astype(np.uint8) if given else None for o in shot.objects]
    told: list[float] = []
    masks = backends.load("masks", name, studio).masks(shot.frames, imported, told.append)
    assert len(masks.masks) == len(masks.alphas) == len(masks.gains) == len(masks.camera.to_reference) == 6
    assert all(m.dtype == np.uint8 and m.shape == shot.frames[0].shape[:2] for m in masks.masks)
    assert {int(v) for m in masks.masks for v in np.unique(m)} <= {0, 128, 255}
    assert told and told == sorted(told) and told[0] >= 0 and told[-1] <= 1
    assert all(a is None or (a.dtype == np.uint8 and a.shape == shot.frames[0].shape[:2]) for a in masks.alphas)


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_a_net_that_follows_gives_every_frame_the_same_numbers_again_and_takes_a_persons_word(
    name: str, studio: SegmentSettings
) -> None:
    from bglora.vision.following import Prompt

    frames = drawn.shot(17, 5).frames
    backend = backends.load("masks", name, studio)
    one, two = (backend.follow(frames, {}, lambda share: None) for _ in range(2))
    assert len(one) == 5 and any(labels.any() for labels in one)
    assert all(labels.dtype == np.uint16 and labels.shape == (drawn.HEIGHT, drawn.WIDTH) for labels in one)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    alone = backends.load("masks", name, studio.model_copy(update={"targets": []}))
    assert not any(labels.any() for labels in alone.follow(frames, {}, lambda share: None)), "nobody was named"
    told = alone.follow(frames, {3: [Prompt(box=(20, 20, 120, 120), points=((60.0, 60.0, True),))]}, lambda share: None)
    assert told[3].any()
    mask = backend.at(frames[0], [(20.0, 20.0, 120.0, 120.0)])
    assert mask.dtype == bool and mask.shape == (drawn.HEIGHT, drawn.WIDTH)


def test_given_characters_keep_their_outlines_and_lose_their_shadows_by_a_net_as_by_layers(
    studio: SegmentSettings,
) -> None:
    shot = drawn.shot(3, 10)
    imported = [np.where(o, 255, 0).astype(np.uint8) for o in shot.objects]
    masks = backends.load("masks", "sam2", studio).masks(shot.frames, imported, lambda share: None)
    assert all(np.array_equal(o, m == 255) for o, m in zip(shot.objects, masks.masks, strict=True))
    assert drawn.recall(removed(masks), shot.shadows) > 0.85
    for solid, alpha in zip(shot.objects, masks.alphas, strict=True):
        assert alpha is not None and (alpha[solid] > 38).mean() > 0.97, "alpha_threshold cuts off no limb"
        rim = (alpha > 0) & (alpha < 255)
        assert rim.any() and not alpha[~dilated(solid, 3)].any()


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    import cv2

    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8)) > 0)


def test_nobody_is_kept_in_memory_longer_than_the_net_looks_back(studio: SegmentSettings) -> None:
    from bglora.vision.following import Prompt

    follower = backends.load("masks", "sam2", studio.model_copy(update={"targets": []})).follower
    (view,) = follower.look(drawn.shot(18, 2).frames[:1])
    memory, _ = follower.begin(view, 0, 200, Prompt(box=(20.0, 20.0, 90.0, 90.0)))
    sizes = []
    for place in range(1, 80):
        follower.step(memory, view, place, back=False)
        sizes.append(held(memory))
    assert sizes[25] == sizes[-1] < 12 * sizes[0]
    assert memory.num_frames == 200 and memory.processed_frames is None


def held(memory: Any) -> int:
    """Bytes of all tensors that a memory holds."""
    outputs = [o for kept in memory.output_dict_per_obj.values() for part in kept.values() for o in part.values()]
    return sum(tensor.nbytes for output in outputs for tensor in output.values() if tensor is not None)


def test_walker_and_shadow_are_found_in_front_of_a_still_background() -> None:
    shot = drawn.shot(3)
    masks = find(shot.frames)
    assert masks.camera.kind == "still" and not masks.unknown
    assert drawn.recall(removed(masks), shot.objects) > 0.995
    assert drawn.recall(removed(masks), shot.shadows) > 0.9
    assert drawn.overlap(objects(masks), shot.objects) > 0.85
    away = [~drawn.figure(drawn.walk(k, 16), (45, 50)).astype(bool) for k in range(16)]
    assert drawn.recall(removed(masks), away) < 0.003


def test_walker_is_found_while_the_camera_pans() -> None:
    shot = drawn.shot(4, pan=2.6)
    masks = find(shot.frames)
    assert masks.camera.kind == "pan"
    assert drawn.recall(removed(masks), shot.objects) > 0.98
    assert drawn.overlap(objects(masks), shot.objects) > 0.75


def test_flicker_is_no_character() -> None:
    shot = drawn.shot(5, flicker=0.12)
    masks = find(shot.frames)
    assert drawn.recall(removed(masks), shot.objects) > 0.99
    nothing = [
        ~(o | s) & ~drawn.figure(drawn.walk(k, 16), (45, 50)).astype(bool)
        for k, (o, s) in enumerate(zip(shot.objects, shot.shadows, strict=True))
    ]
    assert drawn.recall(removed(masks), nothing) < 0.005


def test_nobody_is_found_where_nobody_is() -> None:
    masks = find(drawn.shot(6, place=lambda k, count: None, noise=2.5).frames)
    assert not masks.unknown
    assert not any(mask.any() for mask in masks.masks)


def test_shimmering_water_is_no_character() -> None:
    shot = drawn.shot(7, place=lambda k, count: None, water=True)
    masks = find(shot.frames)
    assert np.mean([mask.mean() for mask in removed(masks)]) < 0.01


def test_who_stays_in_place_and_leaves_his_ghost_in_the_background_makes_the_shot_untrusted() -> None:
    shot = drawn.shot(
        8, 20, place=lambda k, count: (120 + 3 * np.sin(k * 0.9), 80 + 2 * np.cos(k * 0.6)), radius=(20, 32)
    )
    assert "stay in one place" in find(shot.frames).unknown


def test_who_sits_in_the_background_most_of_the_time_makes_the_shot_untrusted() -> None:
    """Somebody stands for 12 of 16 frames, then walks off: the agreed background shows him."""
    shot = drawn.shot(
        9, place=lambda k, count: (110 + 6 * np.sin(k * 2.1) if k < 13 else 110 + 40 * (k - 12), 82), radius=(24, 36)
    )
    assert "stay in one place" in find(shot.frames).unknown


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_frames_can_not_tell(count: int) -> None:
    masks = find(drawn.shot(1, 16).frames[:count])
    assert "can't be told from the background in" in masks.unknown
    assert not any(mask.any() for mask in masks.masks)


def test_same_frames_same_masks() -> None:
    frames = drawn.shot(10, 8, pan=1.5).frames
    one, two = find(frames), find(frames)
    assert all(np.array_equal(a, b) for a, b in zip(one.masks, two.masks, strict=True))


def test_layers_are_taken_as_they_are_and_the_camera_is_found_outside_of_them() -> None:
    shot = drawn.shot(11, 8, pan=2.0)
    imported = [
        np.where(o, 255, np.where(s, 128, 0)).astype(np.uint8) for o, s in zip(shot.objects, shot.shadows, strict=True)
    ]
    holes = [np.where((m > 0)[..., None], 0, f).astype(np.uint8) for f, m in zip(shot.frames, imported, strict=True)]
    masks = find(holes, "layers", list(imported))
    assert all(np.array_equal(a, b) for a, b in zip(masks.masks, imported, strict=True))
    assert masks.camera.kind == "pan"
    step = masks.camera.between(2, 3)
    assert abs(step[0, 2] + 2.0) < 0.1 and abs(step[1, 2]) < 0.1


def _entry(tmp_path: Path, picture: np.ndarray, number: int = 0) -> LayerEntry:
    path = tmp_path / f"layer{number}.png"
    write_png(path, picture)
    return LayerEntry(number, path, None, ())


def test_a_black_hole_is_told_from_a_dark_corner(tmp_path: Path) -> None:
    picture = drawn.texture(12).astype(np.uint8)
    fade = np.clip(np.hypot(*np.mgrid[0 : drawn.HEIGHT, 0 : drawn.WIDTH]) / 60 - 0.5, 0, 1)
    picture = (picture * fade[..., None]).astype(np.uint8)
    hole = np.zeros(picture.shape[:2], bool)
    hole[60:110, 140:180] = True
    picture[hole] = 0
    mask = LayerHoles({0: _entry(tmp_path, picture)}, False).mask(0, picture) > 0
    assert mask[hole].all()
    assert not mask[:20, :20].any()


def test_black_in_the_film_itself_is_no_hole(tmp_path: Path) -> None:
    frame = drawn.texture(13).astype(np.uint8)
    frame[20:50, 20:60] = 0
    layer = frame.copy()
    layer[80:120, 100:150] = 0
    mask = LayerHoles({0: _entry(tmp_path, layer)}, True).mask(0, frame) > 0
    assert mask[80:120, 100:150].all() and not mask[20:50, 20:60].any()


def test_transparent_pixels_are_a_hole(tmp_path: Path) -> None:
    frame = drawn.texture(14).astype(np.uint8)
    alpha = np.full(frame.shape[:2], 255, np.uint8)
    alpha[30:60, 40:80] = 0
    mask = LayerHoles({0: _entry(tmp_path, np.dstack([frame, alpha]))}, False).mask(0, frame)
    assert np.array_equal(mask > 0, alpha == 0)


def test_a_hole_that_runs_into_the_night_is_told_by_the_other_frames_and_bars_are_none(tmp_path: Path) -> None:
    picture = drawn.texture(15).astype(np.uint8)
    fade = np.clip((np.arange(drawn.HEIGHT) - 60) / 50, 0, 1)[:, None, None]
    night = (picture * fade).astype(np.uint8)
    night[-12:] = 0  # a letterbox bar
    layers = {}
    for k in range(6):
        frame = night.copy()
        frame[40:110, 20 + 35 * k : 40 + 35 * k] = 0
        layers[k] = _entry(tmp_path, frame, k)
    mask = LayerHoles(layers, False).mask(2, night) > 0
    assert mask[75:108, 91:109].all(), "the hole below the horizon"
    assert not mask[:55].any() and not mask[-10:].any(), "neither the sky nor the bar"
    assert not mask[:, :80].any() and not mask[:, 120:].any()


@pytest.mark.parametrize("filled", [True, False])
def test_a_polygon_that_cuts_inside_the_silhouette_leaves_no_fringe(filled: bool) -> None:
    import cv2

    shot = drawn.shot(16, 2)
    cut = cv2.erode(shot.objects[0].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    frame = shot.frames[0] if filled else np.where(cut[..., None], 0, shot.frames[0]).astype(np.uint8)
    left = remnants(frame, cut, filled=filled)
    fringe = shot.objects[0] & ~cut
    assert (left & fringe).sum() > 0.93 * fringe.sum() and not (left & cut).any()
    near = cv2.dilate(shot.objects[0].astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert not (left & ~near).any()
    assert not remnants(frame, np.zeros_like(cut), filled=filled).any()


def test_unknown_backend_is_an_error_that_names_the_known_ones() -> None:
    from bglora.errors import UserError

    with pytest.raises(UserError, match="no masks backend"):
        backends.load("masks", "nobody", SimpleNamespace())
