"""Characters that a detector finds on plates: taken out and looked for again, or the plate is dropped.

Detector and masks are hand-made ones that see colors; what is shown is what `inpaint` makes of their finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import pytest

import bglora
from bglora.engine.tools import ItemTools
from bglora.film.png import read_grey, read_picture
from bglora.settings import Settings
from bglora.stages import engines
from bglora.stages.engines import rule_of
from bglora.stages.leaks import Watch
from tests.foreign import installed
from tests.stages.drawn_project import project_of, records
from tests.vision import drawn
from tests.vision.by_color import RED, of_color

MASKS = """
from bglora.backends.masks.following import FollowedMasks
from tests.vision.by_color import ByColor

IDENTITY = "blind/1"


def create(settings):
    return FollowedMasks(ByColor(), None, settings)
"""
DETECTORS = """
from bglora.vision.following import Found
from tests.vision.by_color import Named

IDENTITY = "colors/1"


class Stubborn:
    def find(self, frames, words):
        return [[Found((30.0, 40.0, 60.0, 80.0), 0.7)] for _ in frames]


def create(settings):
    return Stubborn() if settings.targets == ["ghost"] else Named()
"""

COLORS = {"backend": "blind", "detector": "colors", "targets": ["red"]}
GIVEN = ("segment.backend=blind", "segment.detector=colors", "inpaint.detector=true")
STAGES = ("ingest", "segment", "inpaint")


@pytest.fixture(autouse=True)
def colors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def package(role: str, name: str, code: str) -> AbstractContextManager[None]:
        toml = f'[project.entry-points."bglora.{role}"]\n{name} = "{name}_{role}"\n'
        return installed(tmp_path_factory.mktemp(role), monkeypatch, f"{name}_{role}", code, toml)

    with package("masks", "blind", MASKS), package("detect", "colors", DETECTORS):
        yield


def overlooked() -> list[np.ndarray]:
    """A place in which somebody stands who is in no mask."""
    grey = np.repeat(drawn.texture(63).mean(2, keepdims=True), 3, 2).astype(np.uint8)
    frame = cv2.circle(grey, (120, 80), 14, RED, -1)
    noise = np.random.default_rng(0)
    return [np.clip(frame + noise.normal(0, 1.5, frame.shape), 0, 255).astype(np.uint8) for _ in range(4)]


def test_who_was_overlooked_is_found_on_the_plate_and_taken_out(tmp_path: Path) -> None:
    frames = overlooked()
    project = project_of(tmp_path, frames, *GIVEN, 'segment.targets=["red"]')
    project.run(*STAGES)
    lines = records(project, "plates/plates.jsonl")
    assert len(lines) == 4 and {line["status"] for line in lines.values()} == {"made"}
    for k in range(4):
        plate = read_picture(project.root / f"plates/drawn-s000/{k:06d}.png")
        origin = read_grey(project.root / f"provenance/drawn-s000/{k:06d}.png")
        solid = of_color(frames[k], RED)
        assert not of_color(plate, RED).any()
        assert (origin[solid] > 0).all() and (origin > 0).sum() < 1.6 * solid.sum()
        assert np.array_equal(plate[origin == 0], frames[k][origin == 0])
    record = lines["drawn-s000/000002"]["record"]
    assert [find["turn"] for find in record["detected"]] == [0]
    assert np.abs(np.array(record["detected"][0]["box"]) - (106, 66, 135, 95)).max() <= 2


def test_a_plate_on_which_somebody_is_seen_again_and_again_is_dropped_and_a_persons_word_counts_more(
    tmp_path: Path,
) -> None:
    project = project_of(tmp_path, overlooked(), *GIVEN, 'segment.targets=["ghost"]')
    project.run("ingest")
    project.keep("drawn-s000/000001")
    project.run(*STAGES)
    lines = records(project, "plates/plates.jsonl")
    kept = lines.pop("drawn-s000/000001")
    assert kept["status"] == "made" and "detected" not in kept["record"]
    for line in lines.values():
        assert line["status"] == "dropped"
        assert line["reason"].startswith("the detector still sees a character after 2 more tries (inpaint.detector")
        assert [find["turn"] for find in line["record"]["detected"]] == [0, 1, 2]


def test_without_the_setting_nobody_looks_and_the_detector_is_no_part_of_the_plates(tmp_path: Path) -> None:
    project = project_of(tmp_path, overlooked(), "segment.backend=blind", "segment.detector=colors")
    project.run(*STAGES)
    assert of_color(read_picture(project.root / "plates/drawn-s000/000000.png"), RED).any()
    again = bglora.open(project.root, given=(*GIVEN, 'segment.targets=["red"]'), jobs=1)
    result = again.run("inpaint")
    assert result.items == 1
    assert not of_color(read_picture(project.root / "plates/drawn-s000/000000.png"), RED).any()


def test_who_looks_and_who_fills_are_kept_in_one_place_that_manages_memory(tmp_path: Path) -> None:
    settings = Settings(segment=COLORS)
    tools = ItemTools(tmp_path, tmp_path, settings, 1, "a", lambda *_: None, lambda: False, {})
    picture = overlooked()[0]
    gone = Watch(settings.segment.model_dump(), tools).look(0, picture, 0)
    assert gone is not None and gone[80, 120]
    engines.load("patch", rule_of(settings.inpaint, "a", None, []), tools)
    (resident,) = tools.cache.values()
    assert set(resident.loaded) == {("detect", "colors"), ("masks", "blind"), ("fill", "patch")}


def test_masks_that_can_not_be_told_are_an_error_that_names_the_cure(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from bglora.backends.masks.layers import LayerMasks\nIDENTITY = 'deaf/1'\n\n\ndef create(settings):\n"
    code += "    return LayerMasks(settings.min_area)\n"
    toml = '[project.entry-points."bglora.masks"]\ndeaf = "deaf_masks"\n'
    with installed(tmp_path_factory.mktemp("deaf"), monkeypatch, "deaf_masks", code, toml):
        given = ("segment.backend=deaf", "segment.detector=colors", "inpaint.detector=true", 'segment.targets=["red"]')
        failures = project_of(tmp_path, overlooked(), *given).run(*STAGES).failures
    assert failures and "can't be told" in failures[0].reason
