"""Plates of drawn shots through the real engine: what is recovered, what is guessed, what is dropped, and honesty."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from bglora.film.png import read_grey, read_picture, write_png
from bglora.vision.metrics import psnr_db
from tests.stages.drawn_project import folder_of, project_of, records
from tests.vision import drawn

STAGES = ("ingest", "segment", "inpaint")


def plates_of(root: Path, shot: str = "drawn-s000") -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Plate and provenance by frame number."""
    out = {}
    for path in sorted((root / "plates" / shot).glob("*.png")):
        out[int(path.stem)] = read_picture(path), read_grey(root / "provenance" / shot / path.name)
    return out


def test_plates_of_a_still_shot_are_the_true_background_and_say_what_is_original(tmp_path: Path) -> None:
    shot = drawn.shot(31, 14)
    project = project_of(tmp_path, shot.frames)
    project.run(*STAGES)
    plates = plates_of(project.root)
    assert len(plates) == 14
    for k, (plate, provenance) in plates.items():
        assert set(np.unique(provenance)) <= {0, 1, 2, 3}
        assert np.array_equal(plate[provenance == 0], shot.frames[k][provenance == 0])
        recovered = provenance == 1
        assert recovered[shot.objects[k]].mean() > 0.97
        assert psnr_db(plate, shot.clean[k], recovered) > 35
    lines = records(project, "plates/plates.jsonl")
    record = lines["drawn-s000/000007"]["record"]
    assert record["engine"] == "recover" and record["recovered"] > 0.05 and record["natural"] is False
    assert record["scores"]["recovered_psnr_db"] > 30


def test_exposure_of_each_frame_is_kept_in_its_plate(tmp_path: Path) -> None:
    shot = drawn.shot(32, 12, flicker=0.12)
    project = project_of(tmp_path, shot.frames)
    project.run(*STAGES)
    for k, (plate, provenance) in plates_of(project.root).items():
        assert psnr_db(plate, shot.clean[k], provenance == 1) > 33


def test_pan_is_recovered_from_other_views(tmp_path: Path) -> None:
    shot = drawn.shot(33, 12, pan=2.3)
    project = project_of(tmp_path, shot.frames)
    project.run(*STAGES)
    plates = plates_of(project.root)
    assert len(plates) >= 11
    for k, (plate, provenance) in plates.items():
        assert np.array_equal(plate[provenance == 0], shot.frames[k][provenance == 0])
        assert psnr_db(plate, shot.clean[k], provenance == 1) > 30


def test_a_film_with_nobody_gives_its_frames_as_plates(tmp_path: Path) -> None:
    shot = drawn.shot(34, 6, place=lambda k, count: None)
    project = project_of(tmp_path, shot.frames)
    project.run(*STAGES)
    plates = plates_of(project.root)
    assert len(plates) == 6
    assert all(np.array_equal(plate, shot.frames[k]) and not prov.any() for k, (plate, prov) in plates.items())
    assert all(line["record"]["natural"] for line in records(project, "plates/plates.jsonl").values())


def test_one_frame_is_dropped_with_the_reason(tmp_path: Path) -> None:
    project = project_of(tmp_path, drawn.shot(35, 6).frames[:1])
    project.run("ingest", "segment")
    (line,) = records(project, "segmented/segmented.jsonl").values()
    assert line["status"] == "dropped" and "one frame" in line["reason"]


def test_what_no_frame_shows_is_a_guess_the_same_in_all_frames(tmp_path: Path) -> None:
    """Layers with one hole that never moves: nothing can be recovered."""
    shot = drawn.shot(36, 5, place=lambda k, count: None, noise=0)
    hole = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
    hole[60:90, 100:130] = True
    holed = [np.where(hole[..., None], 0, frame).astype(np.uint8) for frame in shot.frames]
    folder_of(holed, tmp_path / "old" / "background")
    project = project_of(tmp_path, [], layers=[tmp_path / "old"], films=False)
    project.run(*STAGES)
    plates = plates_of(project.root, "old-s000")
    assert len(plates) == 5
    for plate, provenance in plates.values():
        assert (provenance[hole] == 2).all() and not provenance[~drawn.figure((115, 75), (40, 40)).astype(bool)].any()
        assert np.array_equal(plate[hole], plates[0][0][hole])
        assert plate[hole].min() > 0


def test_black_holes_of_layers_are_recovered_from_the_other_frames(tmp_path: Path) -> None:
    shot = drawn.shot(37, 10)
    masks = [
        o | s | drawn.figure(drawn.walk(k, 10), (22, 32)).astype(bool)
        for k, (o, s) in enumerate(zip(shot.objects, shot.shadows, strict=True))
    ]
    holed = [np.where(m[..., None], 0, f).astype(np.uint8) for f, m in zip(shot.frames, masks, strict=True)]
    folder_of(holed, tmp_path / "old")
    project = project_of(tmp_path, shot.frames, layers=[tmp_path / "old"])
    project.run(*STAGES)
    plates = plates_of(project.root)
    assert len(plates) == 10
    for k, (plate, provenance) in plates.items():
        assert (provenance[masks[k]] > 0).all()
        assert (provenance[masks[k]] == 1).mean() > 0.97
        assert psnr_db(plate, shot.clean[k], provenance == 1) > 33


def test_a_mask_that_a_person_painted_is_honored(tmp_path: Path) -> None:
    shot = drawn.shot(38, 8, place=lambda k, count: None)
    project = project_of(tmp_path, shot.frames)
    project.run("ingest", "segment")
    painted = np.zeros((drawn.HEIGHT, drawn.WIDTH), np.uint8)
    painted[20:50, 30:80] = 255
    write_png(project.root / "segmented/masks/drawn-s000/000003.png", painted)
    project.run("inpaint")
    plates = plates_of(project.root)
    assert np.array_equal(plates[3][1] > 0, painted > 0)
    assert not plates[2][1].any()


def test_too_much_guessed_is_dropped_and_kept_when_a_person_says_so(tmp_path: Path) -> None:
    shot = drawn.shot(39, 4, place=lambda k, count: None, noise=0)
    hole = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
    hole[20:120, 40:210] = True
    holed = [np.where(hole[..., None], 0, frame).astype(np.uint8) for frame in shot.frames]
    folder_of(holed, tmp_path / "old" / "background")
    project = project_of(tmp_path, [], "inpaint.max_guessed=0.3", layers=[tmp_path / "old"], films=False)
    project.run(*STAGES)
    lines = records(project, "plates/plates.jsonl")
    assert all(line["status"] == "dropped" and "guess" in line["reason"] for line in lines.values())
    project.keep("old-s000/000001")
    project.run("inpaint")
    assert sorted(plates_of(project.root, "old-s000")) == [1]


def test_running_again_changes_nothing(tmp_path: Path) -> None:
    project = project_of(tmp_path, drawn.shot(40, 5).frames)
    project.run(*STAGES)
    before = {
        p: p.read_bytes() for part in ("plates", "provenance", "segmented") for p in (project.root / part).rglob("*.*")
    }
    for part in ("plates", "provenance", "segmented"):
        for path in (project.root / part).rglob("*.png"):
            path.unlink()
    project.run(*STAGES)
    assert {p: p.read_bytes() for p in before} == before


def test_grain_is_put_back_where_it_is_asked_for_and_the_frame_s_own_pixels_stay(tmp_path: Path) -> None:
    shot, rng = drawn.shot(41, 12, noise=0), np.random.default_rng(1)
    wall = drawn.texture(41)
    wall[:70] = cv2.GaussianBlur(wall, (0, 0), 14)[:70]  # grain is measured where a picture is flat
    frames = [
        np.clip(np.where(body[..., None], frame, wall) + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)
        for frame, body in zip(shot.frames, shot.objects, strict=True)
    ]
    inside = []
    for grain in ("none", "match"):
        (tmp_path / grain).mkdir()
        project = project_of(tmp_path / grain, frames, f"inpaint.grain={grain}")
        project.run(*STAGES)
        plate, provenance = plates_of(project.root)[6]
        assert np.array_equal(plate[provenance == 0], frames[6][provenance == 0])
        fine = plate - cv2.GaussianBlur(plate, (0, 0), 2).astype(np.float32)
        inside.append(float(fine[:66][provenance[:66] == 1].std()))
        own = float(fine[:66][provenance[:66] == 0].std())
    assert inside[0] < 0.7 * own < 0.9 * own < inside[1] < 1.4 * own
