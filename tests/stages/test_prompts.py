"""Which words a shot's plates are painted with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import bglora
from bglora.settings.plates import InpaintSettings
from bglora.stages.engines import rule_of
from bglora.stages.prompts import negative_of, prompt_of, scenes_file, scenes_of_shots
from tests.backends import tiny_diffusion
from tests.stages.drawn_project import EVERYTHING, records
from tests.stages.test_engines import never_seen
from tests.vision import drawn

SCENE = {"id": "scene-01", "title": "Lighthouse (night)"}


def test_the_first_pattern_that_fits_shot_scene_or_title_counts() -> None:
    settings = InpaintSettings(
        prompt="anywhere", prompts={"harbor-s00*": "a quay", "scene-01": "by the sea", "Light*": "a tower"}
    )
    assert prompt_of(settings, "harbor-s003") == "a quay"
    assert prompt_of(settings, "harbor-s013", SCENE) == "by the sea"
    assert prompt_of(settings, "harbor-s013", {"id": "scene-02", "title": "Lighthouse"}) == "a tower"
    assert prompt_of(settings, "harbor-s013") == "anywhere"


def test_a_title_stands_in_the_prompt_once_it_is_known() -> None:
    settings = InpaintSettings(prompt="empty {title}, film background")
    assert prompt_of(settings, "harbor-s001", {"id": "scene-00", "title": "quay"}) == "empty quay, film background"
    assert prompt_of(settings, "harbor-s001") == "film background"


def test_the_names_of_the_films_characters_are_not_to_be_painted() -> None:
    settings = InpaintSettings(negative_prompt="people, Mia")
    assert negative_of(settings, ["Mia", "Otto", "Otto", ""]) == "people, Mia, Otto"


def test_scenes_are_read_only_where_a_prompt_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    plates = [f"harbor-s001/{k:06d}" for k in range(3)]
    told = {
        "scenes": [
            {"id": "scene-00", "title": "quay", "plates": plates[:1]},
            {"id": "scene-01", "title": "Lighthouse (night)", "plates": plates[1:]},
        ]
    }
    (tmp_path / "scenes/scenes.json").write_text(json.dumps(told), encoding="utf-8")
    assert scenes_of_shots(tmp_path, InpaintSettings()) == {}
    found = scenes_of_shots(tmp_path, InpaintSettings(prompt="{title}"))
    assert found == {"harbor-s001": {"id": "scene-01", "title": "Lighthouse  night"}}


def test_plates_depend_on_the_words_only_where_an_engine_reads_them() -> None:
    words = InpaintSettings(prompt="a quay", prompts={"harbor-s002": "a lighthouse"})
    plain = rule_of(InpaintSettings(), "harbor-s001", None, [])
    assert rule_of(words, "harbor-s001", None, ["Mia"]) == plain and "steps" not in plain
    painting = words.model_copy(update={"engine": "patch", "fallback": ["brushnet"]})
    rule = rule_of(painting, "harbor-s001", None, ["Mia"])
    assert rule["prompt"] == "a quay" and rule["negative_prompt"].endswith(", Mia") and "sdxl" not in rule
    assert rule_of(painting, "harbor-s002", None, [])["prompt"] == "a lighthouse"
    assert not {"prompts", "batch", "low_memory"} & set(rule)


def test_a_shot_is_painted_with_its_own_words_and_made_anew_only_when_these_change(tmp_path: Path) -> None:
    weights = [f"inpaint.{key}={value}" for key, value in tiny_diffusion.brushnet_settings("sd15").items()]
    lenient = ("inpaint.psnr_db=0", "inpaint.ssim=0", "inpaint.hole_gain_db=-99", "inpaint.hole_gain_ssim=-2")
    given = ("inpaint.engine=brushnet", "inpaint.steps=2", "inpaint.audit=false", "inpaint.tries=1", *lenient, *weights)
    words = "inpaint.prompts={'old-s*' = 'a quay at dusk'}"
    project = never_seen(tmp_path, drawn.texture(71).astype(np.uint8), *given, words)
    told = records(project, "plates/plates.jsonl")["old-s000/000000"]["record"]
    assert (told["engine"], told["prompt"]) == ("brushnet", "a quay at dusk")

    def stale(*more: str) -> bool:
        again = bglora.open(project.root, given=(*EVERYTHING, *given, words, *more), jobs=1)
        return not again.plan("inpaint").fresh

    assert not stale("inpaint.batch=1", "inpaint.low_memory=yes", "inpaint.prompt=elsewhere")
    assert stale("inpaint.negative_prompt=zebra")


def test_what_the_last_clustering_left_is_looked_at_where_a_prompt_speaks_of_scenes(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    asking, plain = InpaintSettings(prompt="empty {title}"), InpaintSettings()
    assert scenes_file(tmp_path, asking) == ""
    (tmp_path / "scenes/scenes.json").write_text('{"scenes": []}', encoding="utf-8")
    assert scenes_file(tmp_path, asking) and not scenes_file(tmp_path, plain)
