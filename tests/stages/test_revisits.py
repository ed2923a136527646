"""The camera returns to a viewpoint later in a film: plates through the real engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bglora.engine.stage import Row
from bglora.film.png import read_grey, read_picture, write_png
from bglora.project import Project
from bglora.stages.revisits import SHOTS_AT_ONCE, Revisits, candidates
from bglora.vision.metrics import psnr_db
from tests.stages.drawn_project import project_of, records
from tests.vision import drawn

SITS = np.zeros((drawn.HEIGHT, drawn.WIDTH), bool)
SITS[55:110, 100:140] = True


def film(*shots: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Shots one after the other."""
    return [frame for shot in shots for frame in shot]


def empty(seed: int, gain: float = 1.0, count: int = 6) -> list[np.ndarray]:
    """A shot of a place with nobody there, at some exposure."""
    frames = drawn.shot(seed, count, place=lambda k, n: None).frames
    return [np.clip(np.rint(frame * gain), 0, 255).astype(np.uint8) for frame in frames]


def somebody_sits(project: Project, shot: str) -> None:
    """Paints the mask of somebody who never moves into all frames of a shot, as a person would."""
    for path in sorted((project.root / "segmented" / "masks" / shot).glob("*.png")):
        write_png(path, np.where(SITS, 255, 0).astype(np.uint8))


def sitting(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    coat = drawn.coat(2)
    return [np.where(SITS[..., None], coat, frame).astype(np.uint8) for frame in frames]


def made(project: Project, shot: str) -> list[tuple[dict[str, object], np.ndarray, np.ndarray]]:
    """Record, plate and provenance of a shot's plates."""
    lines = records(project, "plates/plates.jsonl")
    return [
        (
            line["record"],
            read_picture(project.root / "plates" / f"{name}.png"),
            read_grey(project.root / "provenance" / f"{name}.png"),
        )
        for name, line in sorted(lines.items())
        if name.startswith(shot) and line["status"] == "made"
    ]


class Recorded:
    """A view of a project that has nothing but the remarks of `segment`."""

    def __init__(self, remarks: Mapping[str, Mapping[str, Any]]) -> None:
        self.remarks = remarks

    def item_record(self, stage: str, item: str) -> Mapping[str, Any]:
        return self.remarks[item]


def test_in_a_long_film_each_shot_finds_the_one_with_its_view() -> None:
    rng, shots = np.random.default_rng(0), 2 * SHOTS_AT_ONCE + 10
    views = rng.integers(1, 256, (shots // 2, 9, 16))
    remarks: dict[str, dict[str, Any]] = {}
    rows = []
    for k in range(shots):
        numbers = [10 * k + frame for frame in range(1 + k % 3)]
        sketches = [np.clip(views[k % len(views)] + rng.integers(-9, 10, (9, 16)), 1, 255) for _ in numbers]
        told = [
            {"frame": n, "sketch": s.astype(np.uint8).tobytes().hex()} for n, s in zip(numbers, sketches, strict=True)
        ]
        remarks[f"film-s{k:03d}"] = {"views": told}
        rows += [Row(f"film-s{k:03d}", f"film-s{k:03d}/{number:06d}", "made", "", (), {}) for number in numbers]
    found = candidates(Recorded(remarks), rows)  # type: ignore[arg-type]
    for k in range(shots):
        other = (k + len(views)) % shots
        assert found[f"film-s{k:03d}"] == {f"film-s{other:03d}": [10 * other + frame for frame in range(1 + other % 3)]}


def run(tmp_path: Path, frames: Sequence[np.ndarray], *given: str) -> Project:
    project = project_of(tmp_path, frames, *given)
    project.run("ingest", "segment")
    somebody_sits(project, "drawn-s000")
    project.run("inpaint")
    return project


def test_what_a_shot_never_shows_comes_from_the_shot_that_returns_to_the_view(tmp_path: Path) -> None:
    project = run(tmp_path, film(sitting(empty(51)), empty(52), empty(51, 0.85)))
    clean = drawn.shot(51, 6, place=lambda k, n: None).clean[0]
    plates = made(project, "drawn-s000")
    assert len(plates) == 6
    for record, plate, provenance in plates:
        assert list(record["revisited"]) == ["drawn-s002"]  # type: ignore[call-overload]
        assert (provenance[SITS] == 1).mean() > 0.97 and not provenance[~SITS].any()
        assert psnr_db(plate, clean, SITS) > 33
    others = made(project, "drawn-s001") + made(project, "drawn-s002")
    assert others and all("revisited" not in record for record, _, _ in others)


def test_somebody_who_walks_there_in_the_other_shot_is_not_taken_along(tmp_path: Path) -> None:
    walks = drawn.shot(51, 12)
    project = run(tmp_path, film(sitting(empty(51)), empty(52), walks.frames))
    for record, plate, provenance in made(project, "drawn-s000"):
        assert "drawn-s002" in record["revisited"]  # type: ignore[operator]
        assert psnr_db(plate, walks.clean[0], provenance == 1) > 33


def test_another_place_gives_nothing_and_nor_does_one_that_was_not_asked(tmp_path: Path) -> None:
    for name, frames, given in (
        ("strange", film(sitting(empty(51)), empty(52), empty(53)), ""),
        ("off", film(sitting(empty(51)), empty(52), empty(51)), "inpaint.revisit=false"),
    ):
        (tmp_path / name).mkdir()
        project = run(tmp_path / name, frames, *([given] if given else []))
        plates = made(project, "drawn-s000")
        assert plates and all("revisited" not in record for record, _, _ in plates)
        assert all((provenance[SITS] == 2).all() for _, _, provenance in plates)


def test_a_mask_painted_in_the_other_shot_makes_these_plates_anew(tmp_path: Path) -> None:
    project = run(tmp_path, film(sitting(empty(51)), empty(52), empty(51)))
    assert (made(project, "drawn-s000")[0][2][SITS] == 1).all()
    somebody_sits(project, "drawn-s002")
    project.run("inpaint")
    assert (made(project, "drawn-s000")[0][2][SITS] == 2).all()


def test_a_camera_that_moves_is_matched_frame_by_frame(tmp_path: Path) -> None:
    pan = drawn.shot(51, 4, pan=6, place=lambda k, n: None)
    write_png(tmp_path / "frames" / "film-s003" / "000040.png", pan.frames[1])
    write_png(tmp_path / "segmented" / "masks" / "film-s003" / "000040.png", (pan.objects[1] * 255).astype(np.uint8))
    elsewhere = Revisits(tmp_path, {"film-s003": [40]}, still=False)
    for frame, clean in zip(sitting(pan.frames), pan.clean, strict=True):
        plate, provenance, hole = frame.copy(), np.where(SITS, 2, 0).astype(np.uint8), SITS.copy()
        assert elsewhere.may_show(provenance)
        given = elsewhere.mend(plate, provenance, hole)
        assert given == {"film-s003": round(float(SITS.mean()), 5)}
        assert (provenance[SITS] == 1).all() and not hole.any()
        assert np.array_equal(plate[~SITS], frame[~SITS]) and psnr_db(plate, clean, SITS) > 33
