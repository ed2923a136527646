"""`compose` as a stage: pictures with everything that it takes to paint them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bglora.errors import UserError
from bglora.stages.compose import Compose, default_prompt, in_turn
from tests.stages.trained_project import CAPTION, ProjectView, make, trained


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ProjectView:
    return trained(tmp_path_factory.mktemp("film"), tmp_path_factory.mktemp("scratch"))


def changed(view: ProjectView, **compose: Any) -> ProjectView:
    table = view.settings.compose.model_copy(update=compose)
    return ProjectView(view.root, view.settings.model_copy(update={"compose": table}), view.stages, view.remarks)


def paint(view: ProjectView, scratch: Path) -> tuple[list[Any], list[np.ndarray]]:
    (item,) = Compose().items(view)
    outcomes = make(Compose(), item, view, scratch)
    return outcomes, [np.asarray(Image.open(scratch / outcome.outputs[0])) for outcome in outcomes]


def test_a_picture_carries_its_recipe_for_three_programs(view: ProjectView, tmp_path: Path) -> None:
    outcomes, pictures = paint(view, tmp_path)
    assert [outcome.picture for outcome in outcomes] == ["scene-00-0", "scene-00-1"]
    assert (pictures[0] != pictures[1]).any()
    with Image.open(tmp_path / "compositions/scene-00-0.png") as picture:
        recipe = json.loads(picture.text["bglora"])
        line = picture.text["parameters"]
        workflow = json.loads(picture.text["workflow"])
    assert recipe["loras"] == [{"file": "scene-00.safetensors", "scale": 0.7}]
    assert line.startswith("filmtown, a character, background, a town")
    assert "<lora:scene-00:0.7>" in line and f"Seed: {recipe['seed']}" in line and "Size: 64x64" in line
    assert workflow == json.loads((tmp_path / "compositions/scene-00-0.json").read_text("utf-8"))
    assert outcomes[0].record["prompt"] == recipe["prompt"]
    assert str(view.root) not in json.dumps(recipe) and "/tiny" not in json.dumps(recipe)


def test_the_workflow_wires_standard_nodes_without_loose_ends(view: ProjectView, tmp_path: Path) -> None:
    paint(view, tmp_path)
    workflow = json.loads((tmp_path / "compositions/scene-00-0.json").read_text("utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    kinds = [node["type"] for node in nodes.values()]
    assert sorted(kinds) == sorted(
        ["CheckpointLoaderSimple", "LoraLoader", "CLIPTextEncode", "CLIPTextEncode", "EmptyLatentImage", "KSampler"]
        + ["VAEDecode", "SaveImage"]
    )
    for link, source, output, target, slot, kind in workflow["links"]:
        assert nodes[source]["outputs"][output]["type"] == kind == nodes[target]["inputs"][slot]["type"]
        assert link in nodes[source]["outputs"][output]["links"] and nodes[target]["inputs"][slot]["link"] == link
    assert all(one["link"] is not None for node in nodes.values() for one in node["inputs"])


def test_the_same_recipe_paints_the_same_bytes(view: ProjectView, tmp_path: Path) -> None:
    for name in "ab":
        paint(view, tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_character_lora_changes_the_picture_and_stands_in_the_recipe(view: ProjectView, tmp_path: Path) -> None:
    _, plain = paint(view, tmp_path / "plain")
    shutil.copyfile(view.root / "loras/scene-00.safetensors", view.root / "hero.safetensors")
    asked = changed(view, characters=("hero.safetensors",), character_scale=2.0)
    outcomes, with_hero = paint(asked, tmp_path / "hero")
    assert (plain[0] != with_hero[0]).any()
    assert [lora["file"] for lora in outcomes[0].record["loras"]] == ["hero.safetensors", "scene-00.safetensors"]
    (item,) = Compose().items(asked)
    assert "hero.safetensors" in item.files
    _, switched = paint(changed(asked, mode="switch"), tmp_path / "switch")
    assert (switched[0] != with_hero[0]).any()


def test_switching_lets_one_adapter_act_at_a_time() -> None:
    at = in_turn([1.0, 0.7])
    assert [at(step) for step in range(3)] == [[1.0, 0.0], [0.0, 0.7], [1.0, 0.0]]


def test_an_absent_character_and_an_empty_file_are_told_in_three_lines(view: ProjectView, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no character LoRA"):
        list(Compose().items(changed(view, characters=("absent.safetensors",))))
    (view.root / "empty.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        paint(changed(view, characters=("empty.safetensors",)), tmp_path)


def test_the_prompt_puts_the_character_after_the_trigger() -> None:
    prompt = default_prompt(CAPTION, "a fox", "no characters, empty scene")
    assert prompt == "filmtown, a fox, background, a town, wooden houses, warm light, calm"
