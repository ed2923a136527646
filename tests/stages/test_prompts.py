"""Which words go with which shot."""

from __future__ import annotations

import json
from pathlib import Path

from bglora.stages.prompts import Prompts, _scene_of_shots


def prompts(prompt: str = "an empty place", **more: object) -> Prompts:
    rest = {"by_pattern": {}, "scenes": {}, "titles": {}, **more}
    return Prompts(prompt, **rest)  # type: ignore[arg-type]


def test_a_shot_takes_the_first_pattern_that_fits_it_else_the_prompt_of_all() -> None:
    found = prompts(by_pattern={"harbor-s00*": "a pier", "harbor-*": "a town"})
    assert [found.of(shot) for shot in ("harbor-s003", "harbor-s012", "other-s000")] == [
        "a pier",
        "a town",
        "an empty place",
    ]


def test_a_scene_id_speaks_of_the_shots_that_are_in_the_scene() -> None:
    found = prompts(by_pattern={"scene-01": "a cave"}, scenes={"harbor-s003": "scene-01", "harbor-s004": "scene-00"})
    assert found.of("harbor-s003") == "a cave" and found.of("harbor-s004") == "an empty place"


def test_the_title_is_the_one_that_a_person_gave_the_scene_and_is_left_out_without_one() -> None:
    found = prompts("empty {title}, {title}, no people", scenes={"a": "scene-00", "b": "scene-01"})
    found.titles = {"scene-00": "Old pier"}
    assert found.of("a") == "empty Old pier, Old pier, no people"
    assert found.of("b") == "empty, no people"


def test_a_shot_is_in_the_scene_of_most_of_its_plates(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    scenes = [{"id": "scene-00", "plates": ["a/1", "a/2", "b/1"]}, {"id": "scene-01", "plates": ["a/3", "b/2", "b/3"]}]
    path.write_text(json.dumps({"scenes": scenes}))
    assert _scene_of_shots(path) == {"a": "scene-00", "b": "scene-01"}
    assert _scene_of_shots(tmp_path / "nothing.json") == {}
