"""ComfyUI's workflow: nodes, inputs, widgets and outputs as ComfyUI's own code declares them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bglora.backends.paint import comfy, regions
from bglora.backends.paint.recipes import Lora, Recipe, Region

SIGNATURES: dict[str, tuple[dict[str, str], list[type], list[str]]] = {
    "CheckpointLoaderSimple": ({}, [str], ["MODEL", "CLIP", "VAE"]),
    "LoraLoader": ({"model": "MODEL", "clip": "CLIP"}, [str, float, float], ["MODEL", "CLIP"]),
    "CLIPTextEncode": ({"clip": "CLIP"}, [str], ["CONDITIONING"]),
    "EmptyLatentImage": ({}, [int, int, int], ["LATENT"]),
    "KSampler": (
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        [int, str, int, float, str, str, float],
        ["LATENT"],
    ),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, [], ["IMAGE"]),
    "SaveImage": ({"images": "IMAGE"}, [str], []),
    "CreateHookLora": ({"prev_hooks": "HOOKS"}, [str, float, float], ["HOOKS"]),
    "SetClipHooks": ({"clip": "CLIP", "hooks": "HOOKS"}, [bool, bool], ["CLIP"]),
    "PairConditioningSetProperties": (
        {"positive_NEW": "CONDITIONING", "negative_NEW": "CONDITIONING", "mask": "MASK"},
        [float, str],
        ["CONDITIONING", "CONDITIONING"],
    ),
    "PairConditioningCombine": (
        dict.fromkeys(("positive_A", "negative_A", "positive_B", "negative_B"), "CONDITIONING"),
        [],
        ["CONDITIONING", "CONDITIONING"],
    ),
    "PairConditioningSetDefaultCombine": (
        dict.fromkeys(("positive", "negative", "positive_DEFAULT", "negative_DEFAULT"), "CONDITIONING"),
        [],
        ["CONDITIONING", "CONDITIONING"],
    ),
    "SolidMask": ({}, [float, int, int], ["MASK"]),
    "FeatherMask": ({"mask": "MASK"}, [int, int, int, int], ["MASK"]),
    "MaskComposite": ({"destination": "MASK", "source": "MASK"}, [int, int, str], ["MASK"]),
    "LoadImageMask": ({}, [str, str, str], ["MASK"]),
    "Note": ({}, [str], []),
}
"""Node to wired inputs, widgets in order, and outputs: nodes.py, comfy_extras/nodes_mask.py and nodes_hooks.py (of
January 2025). KSampler's second widget is what to do with the seed, LoadImageMask's third the upload button: both are
the window's own."""
OPTIONAL = {"prev_hooks", "hooks", "mask"}


def recipe(mode: Any, given: tuple[str, ...] = (), characters: int = 1) -> Recipe:
    size = (64, 96)
    boxes = [regions.as_box(text) or (0.0, 0.0, 0.5, 1.0) for text in given]
    masks = [regions.as_text(regions.feathered(regions.from_box(box, size), 0.1)) for box in boxes]
    cast = [
        Lora(f"c{i}.safetensors", 1.0, "character", "0" * 64, (i if len(given) > 1 else 0) if given else None)
        for i in range(characters)
    ]
    place = Lora("loras/scene-00.safetensors", 0.7, "background", "0" * 64)
    found = tuple(Region(text, mask) for text, mask in zip(given, masks, strict=True))
    return Recipe("a fox", "blurry", 7, 20, 5.0, size, "sdxl-base", (*cast, place), mode, "UniPCMultistepScheduler",
                  place_prompt="a town" if given else "", regions=found)  # fmt: skip


def check(workflow: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every node as ComfyUI declares it, no loose end; nodes by type."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in nodes.values():
        inputs, widgets, outputs = SIGNATURES[node["type"]]
        wired = {one["name"]: one["type"] for one in node["inputs"]}
        assert wired.items() <= inputs.items() and inputs.keys() - wired.keys() <= OPTIONAL, node
        assert [type(value) for value in node["widgets_values"]] == widgets, node
        assert [one["type"] for one in node["outputs"]] == outputs, node
        assert all(one["link"] is not None for one in node["inputs"])
        found.setdefault(node["type"], []).append(node)
    for link, source, output, target, slot, kind in workflow["links"]:
        assert nodes[source]["outputs"][output]["type"] == kind == nodes[target]["inputs"][slot]["type"]
        assert link in nodes[source]["outputs"][output]["links"] and nodes[target]["inputs"][slot]["link"] == link
        assert source < target  # nothing goes round in a circle
    return found


@pytest.mark.parametrize("mode", ["weighted", "switch"])
def test_added_loras_are_a_chain_of_loaders(mode: str) -> None:
    found = check(comfy.workflow(recipe(mode)))
    assert [node["widgets_values"] for node in found["LoraLoader"]] == [
        ["c0.safetensors", 1.0, 1.0],
        ["scene-00.safetensors", 0.7, 0.7],
    ]
    assert found["KSampler"][0]["widgets_values"] == [7, "fixed", 20, 5.0, "uni_pc", "normal", 1.0]
    assert found["EmptyLatentImage"][0]["widgets_values"] == [96, 64, 1]
    assert ("in turn" in found["Note"][0]["widgets_values"][0]) if mode == "switch" else "Note" not in found


def test_a_box_is_drawn_by_nodes_and_its_character_hangs_on_the_words_of_the_region() -> None:
    found = check(comfy.workflow(recipe("regional", ("0.25 0.5 0.75 1",)), [""]))
    assert [node["widgets_values"][0] for node in found["CreateHookLora"]] == ["c0.safetensors"]
    assert [node["widgets_values"][0] for node in found["LoraLoader"]] == ["scene-00.safetensors"]
    assert found["MaskComposite"][0]["widgets_values"] == [24, 32, "add"]
    left, top, right, bottom = found["FeatherMask"][0]["widgets_values"]
    assert left == top == right > 0 and bottom == 0  # the picture's border is no edge
    assert [node["widgets_values"] for node in found["SolidMask"]] == [[1.0, 48, 32], [0.0, 96, 64]]
    texts = [node["widgets_values"][0] for node in found["CLIPTextEncode"]]
    assert texts == ["a fox", "blurry", "a town", "blurry"]


def test_a_mask_picture_is_loaded_and_two_regions_are_joined() -> None:
    found = check(comfy.workflow(recipe("regional", ("attention", "0 0 0.4 1"), 2), ["x-region0.png", ""]))
    assert found["LoadImageMask"][0]["widgets_values"] == ["x-region0.png", "red", "image"]
    assert len(found["PairConditioningSetProperties"]) == 2 and len(found["PairConditioningCombine"]) == 1


def test_two_characters_in_one_region_are_a_chain_of_hooks() -> None:
    found = check(comfy.workflow(recipe("regional", ("0 0 0.4 1",), 2), [""]))
    first, second = found["CreateHookLora"]
    assert first["inputs"] == [] and second["inputs"][0]["name"] == "prev_hooks"


def test_a_region_without_a_lora_needs_no_hooks() -> None:
    found = check(comfy.workflow(recipe("regional", ("0 0 0.4 1",), 0), [""]))
    assert "CreateHookLora" not in found and "SetClipHooks" not in found


def test_the_checkpoint_is_the_base_where_it_is_a_file() -> None:
    named = replace(recipe("weighted"), base="juggernaut.safetensors")
    assert check(comfy.workflow(named))["CheckpointLoaderSimple"][0]["widgets_values"] == ["juggernaut.safetensors"]
    assert check(comfy.workflow(recipe("weighted")))["CheckpointLoaderSimple"][0]["widgets_values"] == [comfy.SDXL_FILE]
