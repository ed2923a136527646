"""`compose` as a stage: pictures with everything that it takes to paint them again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from bglora.backends.paint.recipes import Lora, Recipe
from bglora.decisions import Decisions
from bglora.engine.stage import Row
from bglora.errors import UserError
from bglora.project.decided import decided
from bglora.settings.lora import ComposeSettings
from bglora.stages.again import _places, paint_again
from bglora.stages.chosen import Chosen, lora_for
from bglora.stages.compose import Compose
from bglora.stages.composition import default_prompt, in_turn
from bglora.stages.test import trained_as
from bglora.training import tensor_file
from tests.backends.random_lora import write_lora
from tests.stages.trained_project import CAPTION, ProjectView, make, with_lora


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ProjectView:
    return with_lora(tmp_path_factory.mktemp("film"), compose={"pictures": 1, "steps": 2})


@pytest.fixture(scope="module")
def hero(view: ProjectView) -> str:
    return write_lora(view.root / "hero.safetensors", 11, trigger="hero").name


def changed(view: ProjectView, **compose: Any) -> ProjectView:
    table = view.settings.compose.model_copy(update=compose)
    return ProjectView(view.root, view.settings.model_copy(update={"compose": table}), view.stages, view.remarks)


def paint(view: ProjectView, scratch: Path) -> tuple[list[Any], list[np.ndarray]]:
    (item,) = Compose().items(view)
    outcomes = make(Compose(), item, view, scratch)
    return outcomes, [np.asarray(Image.open(scratch / outcome.outputs[0])) for outcome in outcomes]


def test_a_picture_carries_its_recipe_for_three_programs(view: ProjectView, tmp_path: Path) -> None:
    outcomes, pictures = paint(changed(view, pictures=2), tmp_path)
    assert [outcome.picture for outcome in outcomes] == ["scene-00-0", "scene-00-1"]
    assert (pictures[0] != pictures[1]).any()
    with Image.open(tmp_path / "compositions/scene-00-0.png") as picture:
        recipe = json.loads(picture.text["bglora"])
        line = picture.text["parameters"]
        workflow = json.loads(picture.text["workflow"])
    (lora,) = recipe["loras"]
    assert (lora["file"], lora["scale"], lora["role"]) == ("loras/scene-00.safetensors", 0.7, "background")
    assert lora["sha256"] == hashlib.sha256((view.root / lora["file"]).read_bytes()).hexdigest()
    told = {"negative_prompt", "steps", "guidance_scale", "size", "base", "mode", "sampler", "painter", "threads"}
    assert told <= recipe.keys()
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


def test_a_character_lora_changes_the_picture_and_stands_in_the_recipe(
    view: ProjectView, hero: str, tmp_path: Path
) -> None:
    _, plain = paint(view, tmp_path / "plain")
    asked = changed(view, characters=(hero,), character_scale=2.0)
    outcomes, with_hero = paint(asked, tmp_path / "hero")
    assert (plain[0] != with_hero[0]).any()
    assert [lora["file"] for lora in outcomes[0].record["loras"]] == [hero, "loras/scene-00.safetensors"]
    assert outcomes[0].record["prompt"].startswith("filmtown, hero, a character, background")
    (item,) = Compose().items(asked)
    assert hero in item.files
    _, switched = paint(changed(asked, mode="switch"), tmp_path / "switch")
    assert (switched[0] != with_hero[0]).any()


def test_further_loras_act_with_scales_of_their_own(view: ProjectView, hero: str, tmp_path: Path) -> None:
    _, plain = paint(view, tmp_path / "plain")
    asked = changed(view, others={hero: 0.6})
    outcomes, posed = paint(asked, tmp_path / "posed")
    assert (plain[0] != posed[0]).any()
    assert [(one["role"], one["scale"]) for one in outcomes[0].record["loras"]] == [("background", 0.7), ("other", 0.6)]
    (item,) = Compose().items(asked)
    assert hero in item.files


def test_a_region_holds_the_character_and_the_rest_is_the_place_alone(
    view: ProjectView, hero: str, tmp_path: Path
) -> None:
    one = changed(view, place_prompt="a town", prompt="a town, hero, a character")
    boxed = changed(one, mode="regional", characters=(hero,), character_scale=2.0, region=("0.5 0 1 1",), feather=0.1)
    outcomes, (picture,) = paint(boxed, tmp_path / "boxed")
    _, (place,) = paint(changed(one, prompt="a town"), tmp_path / "place")
    np.testing.assert_array_equal(picture[:, :32], place[:, :32])
    assert np.abs(picture[:, 40:].astype(int) - place[:, 40:]).mean() > 1
    assert outcomes[0].record["regions"] == ["0.5 0 1 1"]
    mask = np.zeros((32, 32), np.uint8)
    mask[16:] = 255
    Image.fromarray(mask).save(view.root / "below.png")
    masked = changed(boxed, region=("below.png",))
    outcomes, (picture,) = paint(masked, tmp_path / "masked")
    np.testing.assert_array_equal(picture[:30], place[:30])
    assert outcomes[0].outputs[2:] == ("compositions/scene-00-0-region0.png",)
    (item,) = Compose().items(masked)
    assert "below.png" in item.files


def test_attention_finds_the_region_of_the_characters_words(view: ProjectView, hero: str, tmp_path: Path) -> None:
    asked = changed(view, mode="regional", characters=(hero,))
    paint(asked, tmp_path)
    mask = np.asarray(Image.open(tmp_path / "compositions/scene-00-0-region0.png"))
    assert 0 < (mask > 0).mean() < 1
    with pytest.raises(UserError, match="attention can't find"):
        paint(changed(asked, prompt="a town"), tmp_path / "none")


def test_a_sweep_paints_every_scale_beside_each_other(view: ProjectView, tmp_path: Path) -> None:
    outcomes, pictures = paint(changed(view, sweep=(0.5, 0.9)), tmp_path)
    assert [one.picture for one in outcomes] == ["scene-00-0-at050", "scene-00-0-at090"]
    assert (pictures[0] != pictures[1]).any()
    assert {one.record["seed"] for one in outcomes[:2]} == {outcomes[0].record["seed"]}
    assert [one.record["loras"][0]["scale"] for one in outcomes[:2]] == [0.5, 0.9]
    with Image.open(tmp_path / outcomes[0].outputs[-1]) as sheet:
        assert sheet.format == "WEBP" and sheet.width > 2 * 64


def test_own_characters_take_turns_and_are_known_by_name(view: ProjectView, tmp_path: Path) -> None:
    known = {"bear": write_lora(view.root / "loras/character-bear.safetensors", 5, trigger="bear").name}
    known["fox"] = write_lora(view.root / "loras/character-fox.safetensors", 6, trigger="fox").name
    rows = [
        Row(f"character-{who}", f"character-{who}", "made", "", (f"loras/{file}",), {}) for who, file in known.items()
    ]
    more = ProjectView(view.root, view.settings, {**view.stages, "train": [*view.stages["train"], *rows]}, view.remarks)
    outcomes, _ = paint(changed(more, pictures=2), tmp_path / "turns")
    assert [one.record["loras"][0]["file"] for one in outcomes] == [f"loras/{file}" for file in known.values()]
    outcomes, _ = paint(changed(more, characters=("fox", "bear")), tmp_path / "both")
    assert [one["file"] for one in outcomes[0].record["loras"][:2]] == [
        f"loras/{known[who]}" for who in ("fox", "bear")
    ]
    with pytest.raises(UserError, match="no character LoRA of the name 'wolf'") as caught:
        list(Compose().items(changed(more, characters=("wolf",))))
    assert "bear, fox" in caught.value.where and "bglora train --character wolf" in caught.value.cure


@pytest.mark.parametrize("mode", ["weighted", "switch", "regional"])
def test_a_picture_is_painted_again_bit_for_bit(view: ProjectView, hero: str, tmp_path: Path, mode: str) -> None:
    asked = changed(view, mode=mode, characters=(hero,))
    (outcome,), (picture,) = paint(asked, tmp_path)
    here = tmp_path / outcome.outputs[0]
    other = changed(view, steps=7, prompt="something else").settings
    made = paint_again(view.root, other, here, tmp_path / "again.png")
    assert made.changed == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "again.png")), picture)
    assert Image.open(tmp_path / "again.png").text["bglora"] == Image.open(here).text["bglora"]


def test_what_cannot_be_painted_again_is_told(view: ProjectView, tmp_path: Path) -> None:
    write_lora(view.root / "passing.safetensors", 12)
    (outcome,), _ = paint(changed(view, characters=("passing.safetensors",)), tmp_path)
    here = tmp_path / outcome.outputs[0]
    write_lora(view.root / "passing.safetensors", 13)
    with pytest.raises(UserError, match="another content") as caught:
        paint_again(view.root, view.settings, here)
    assert "sha256" in caught.value.where
    (view.root / "passing.safetensors").unlink()
    with pytest.raises(UserError, match="is not here"):
        paint_again(view.root, view.settings, here)
    with pytest.raises(UserError, match="another base model"):
        mini = view.settings.train.model_copy(update={"base": "mini"})
        paint_again(view.root, view.settings.model_copy(update={"train": mini}), here)
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, told in (("plain.png", "no recipe"), ("text.png", "can't be read"), ("absent.png", "no picture")):
        with pytest.raises(UserError, match=told):
            paint_again(view.root, view.settings, tmp_path / name)


def test_a_recipe_from_elsewhere_can_neither_leave_the_project_nor_ask_for_the_impossible(view: ProjectView) -> None:
    lora = Lora("../../secret.safetensors", 1.0, "other", "0" * 64)
    places = [path.resolve() for path in _places(view.root, view.settings, lora)]
    assert places and all(path.is_relative_to(view.root.resolve()) for path in places)
    recipe = Recipe("a", "", 1, 3, 2.0, (64, 64), "mini", (), "weighted").to_json()
    for change in ({"size": [10**6, 64]}, {"steps": 10**6}, {"format": 1}, {"mode": "magic"}, {"size": None}):
        with pytest.raises(ValueError):
            Recipe.from_json(recipe | change)


def test_switching_lets_one_adapter_act_at_a_time() -> None:
    at = in_turn([1.0, 0.7])
    assert [at(step) for step in range(3)] == [[1.0, 0.0], [0.0, 0.7], [1.0, 0.0]]


def test_an_absent_character_and_an_empty_file_are_told_in_three_lines(view: ProjectView, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no character LoRA"):
        list(Compose().items(changed(view, characters=("absent.safetensors",))))
    (view.root / "empty.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        paint(changed(view, characters=("empty.safetensors",)), tmp_path)


def test_bad_requests_are_told_before_anything_is_painted(view: ProjectView, hero: str, tmp_path: Path) -> None:
    def told(**compose: Any) -> str:
        with pytest.raises(UserError) as caught:
            list(Compose().items(changed(view, **compose)))
        assert caught.value.where and caught.value.cure
        return str(caught.value.what)

    assert "no background LoRA of 'scene-09'" in told(backgrounds=("scene-09",))
    assert "no LoRA at this path" in told(others={"absent.safetensors": 1.0})
    assert "beyond the picture" in told(mode="regional", region=("0.5 0.5 1.5 0.9",))
    assert "no such region" in told(mode="regional", region=("absent.png",))
    assert "2 regions for 1 characters" in told(mode="regional", region=("attention", "0 0 1 1"))
    with pytest.raises(ValidationError, match="from 0 to 2, or .auto."):
        ComposeSettings(background_scale=5)
    untrained = ProjectView(view.root, view.settings, {**view.stages, "train": []}, view.remarks)
    with pytest.raises(UserError, match="no LoRAs yet"):
        list(Compose().items(untrained))


def test_a_lora_of_another_base_is_told_by_name(view: ProjectView, tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_4_1_proj_in"
    wrong = {f"{name}.lora_down.weight": torch.zeros(4, 640), f"{name}.lora_up.weight": torch.ones(640, 4)}
    tensor_file.write(view.root / "foreign.safetensors", wrong, {})
    with pytest.raises(UserError, match="another one") as caught:
        paint(changed(view, characters=("foreign.safetensors",)), tmp_path)
    assert "foreign.safetensors" in caught.value.where


def after_test(view: ProjectView, **record: Any) -> ProjectView:
    """The view after `test`: a checkpoint is there, and the record says what it recommends."""
    train = view.rows("train")[0]
    checkpoint = "loras/scene-00/checkpoints/step-000010.safetensors"
    (view.root / checkpoint).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(view.root / "loras/scene-00.safetensors", view.root / checkpoint)
    stages = {**view.stages, "train": [replace(train, outputs=(*train.outputs, checkpoint))]}
    view = ProjectView(view.root, view.settings, stages, view.remarks)
    told = {
        "verdict": [{"word": "good", "cure": ""}],
        "recommended_lora": checkpoint,
        "recommended_scale": 0.5,
        "trained": trained_as(view, "scene-00"),
        **record,
    }
    view.stages["test"] = [Row("scene-00", "scene-00", "made", "", (), told)]
    return view


def test_a_background_is_used_as_test_recommends_and_its_recipe_says_so(view: ProjectView, tmp_path: Path) -> None:
    (outcome,), _ = paint(after_test(view), tmp_path)
    (used,) = outcome.record["loras"]
    assert used["file"].endswith("checkpoints/step-000010.safetensors") and used["scale"] == 0.5
    assert used["why"] == "as test recommends"
    with Image.open(tmp_path / outcome.outputs[0]) as picture:
        assert Recipe.from_json(json.loads(picture.text["bglora"])).loras[0].why == "as test recommends"
    (told,) = decided(replace_rows(after_test(view), "compose", [outcome]), ["compose"])
    assert "Backgrounds as test recommends: scene-00 (loras/scene-00/checkpoints/step-000010" in told.text


def replace_rows(view: ProjectView, stage: str, outcomes: list[Any]) -> ProjectView:
    rows = [Row("scene-00", one.picture, one.status, one.reason, one.outputs, one.record) for one in outcomes]
    return ProjectView(view.root, view.settings, {**view.stages, stage: rows}, view.remarks)


@pytest.mark.parametrize(("word", "warned"), [("hallucinates characters", True), ("too weak", False)])
def test_a_verdict_about_characters_says_how_far_the_small_judge_is_to_be_trusted(
    view: ProjectView, word: str, warned: bool
) -> None:
    on_mini = view.settings.model_copy(update={"train": view.settings.train.model_copy(update={"base": "mini"})})
    tested = after_test(view, verdict=[{"word": word}])
    (told,) = decided(ProjectView(view.root, on_mini, tested.stages, view.remarks), ["test"])
    assert ("small judge" in told.text) is warned


def test_a_persons_scale_counts_more_than_the_recommended_one(view: ProjectView) -> None:
    chosen = lora_for(changed(after_test(view), background_scale=1.2), "scene-00", "loras/scene-00.safetensors")
    assert chosen.file.endswith("step-000010.safetensors") and chosen.scale == 1.2
    assert chosen.why == "checkpoint as test recommends, scale by compose.background_scale"


@pytest.mark.parametrize(
    "record",
    [
        {"verdict": [{"word": "not enough data", "cure": ""}]},
        {"trained": "before it was trained anew"},
        {"recommended_lora": "loras/scene-00/checkpoints/step-000099.safetensors"},
    ],
)
def test_a_recommendation_that_is_none_any_more_is_not_followed(view: ProjectView, record: Any) -> None:
    lora = "loras/scene-00.safetensors"
    assert lora_for(after_test(view, **record), "scene-00", lora) == Chosen(lora, 0.7, "")
    assert lora_for(view, "scene-00", lora) == Chosen(lora, 0.7, "")


def test_what_a_person_chose_for_a_scene_counts_before_everything_else(view: ProjectView, tmp_path: Path) -> None:
    lora, tested = "loras/scene-00.safetensors", after_test(view)
    louder = changed(tested, background_scale=1.2)
    louder.decisions = tested.decisions = Decisions(tmp_path).add(
        "choose", choose="scene-00", checkpoint=lora, scale=0.9
    )
    assert lora_for(tested, "scene-00", lora) == Chosen(lora, 0.9, "as you chose", settled=True)
    assert lora_for(louder, "scene-00", lora).scale == 0.9
    tested.decisions = Decisions(tmp_path).add("choose", choose="scene-00", checkpoint=lora, scale=0)
    assert lora_for(tested, "scene-00", lora) == Chosen(lora, 0.5, "as you chose"), "the scale as test recommends"
    tested.decisions = Decisions(tmp_path).add("choose", choose="scene-00", checkpoint="loras/old.safetensors", scale=1)
    with pytest.raises(UserError, match="is no more: loras/old.safetensors") as told:
        lora_for(tested, "scene-00", lora)
    assert "bglora review" in told.value.cure


def test_another_recommendation_makes_a_composition_stale_and_the_same_one_does_not(view: ProjectView) -> None:
    first, again, other = (next(iter(Compose().items(after_test(view, **more)))) for more in ({}, {}, SCALED))
    assert first == again and first != other


SCALED = {"recommended_scale": 1.0}


def test_the_prompt_puts_the_character_after_the_trigger() -> None:
    prompt = default_prompt(CAPTION, ["a fox"], "no characters, empty scene")
    assert prompt == "filmtown, a fox, background, a town, wooden houses, warm light, calm"
