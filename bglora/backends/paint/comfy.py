"""A composition as a workflow of ComfyUI's own nodes (format 0.4), to be dropped into its window.

Regional compositions use ComfyUI's hooks: the characters' LoRAs hang on the conditioning of their region, the place's
conditioning is the default for everything else. Boxes are drawn by nodes; other regions are a mask picture beside the
workflow, which belongs into ComfyUI's input folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bglora.backends.paint import regions
from bglora.backends.paint.recipes import Lora, Recipe

SDXL_FILE = "sd_xl_base_1.0.safetensors"
Wire = tuple[int, int]
"""A node's number and its output's."""
COND = ("CONDITIONING", "CONDITIONING")
PAIR = [("positive", "CONDITIONING"), ("negative", "CONDITIONING")]
MASK = [("MASK", "MASK")]


def workflow(recipe: Recipe, mask_files: Sequence[str] = ()) -> dict[str, Any]:
    """The workflow as JSON values.

    Args:
        mask_files: names of the regions' mask pictures, "" for those that are boxes.
    """
    graph = _Graph()
    checkpoint = (
        SDXL_FILE if not recipe.base.endswith(".safetensors") else recipe.base.replace("\\", "/").split("/")[-1]
    )
    outputs = [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]
    loader = graph.add("CheckpointLoaderSimple", [checkpoint], outputs)
    model, clip = (loader, 0), (loader, 1)
    for lora in recipe.loras:
        if lora.region is None:
            wires = [("model", "MODEL", model), ("clip", "CLIP", clip)]
            node = graph.add("LoraLoader", [lora.name, lora.scale, lora.scale], outputs[:2], wires)
            model, clip = (node, 0), (node, 1)
    if recipe.mode == "regional":
        positive, negative = _regional(graph, recipe, clip, mask_files)
    else:
        positive, negative = _words(graph, recipe.prompt, clip), _words(graph, recipe.negative_prompt, clip)
    height, width = recipe.size
    latent = graph.add("EmptyLatentImage", [width, height, 1], [("LATENT", "LATENT")])
    sampler = graph.add(
        "KSampler",
        [recipe.seed, "fixed", recipe.steps, recipe.guidance_scale, recipe.sampler_names()[1], "normal", 1.0],
        [("LATENT", "LATENT")],
        [
            ("model", "MODEL", model),
            ("positive", "CONDITIONING", positive),
            ("negative", "CONDITIONING", negative),
            ("latent_image", "LATENT", (latent, 0)),
        ],
    )
    decode = graph.add(
        "VAEDecode", [], [("IMAGE", "IMAGE")], [("samples", "LATENT", (sampler, 0)), ("vae", "VAE", (loader, 2))]
    )
    graph.add("SaveImage", ["bglora"], [], [("images", "IMAGE", (decode, 0))])
    for note in recipe.notes():
        graph.add("Note", [note], [])
    return graph.to_json()


def _words(graph: _Graph, text: str, clip: Wire) -> Wire:
    return graph.add("CLIPTextEncode", [text], [COND], [("clip", "CLIP", clip)]), 0


def _regional(graph: _Graph, recipe: Recipe, clip: Wire, mask_files: Sequence[str]) -> tuple[Wire, Wire]:
    """Conditioning of each region with its characters' LoRAs, and the place's everywhere else."""
    joined: tuple[Wire, Wire] | None = None
    for number, region in enumerate(recipe.regions):
        hooks = _hooks(graph, [lora for lora in recipe.loras if lora.region == number])
        own = clip
        wires = [("positive_NEW", "CONDITIONING"), ("negative_NEW", "CONDITIONING")]
        if hooks:
            own = graph.add("SetClipHooks", [True, False], [("CLIP", "CLIP")], [("clip", "CLIP", clip), hooks]), 0
        pair = [_words(graph, recipe.prompt, own), _words(graph, recipe.negative_prompt, own)]
        mask = _mask(graph, recipe, region.given, mask_files[number] if mask_files else "")
        inputs = [(*wire, source) for wire, source in zip(wires, pair, strict=True)]
        # the hooks come with the words: SetClipHooks hangs them on what its CLIP encodes
        node = graph.add("PairConditioningSetProperties", [1.0, "default"], PAIR, [*inputs, ("mask", "MASK", mask)])
        made = (node, 0), (node, 1)
        joined = made if joined is None else _combined(graph, joined, made)
    place = _words(graph, recipe.place_prompt, clip), _words(graph, recipe.negative_prompt, clip)
    if joined is None:
        return place
    names = ("positive", "negative", "positive_DEFAULT", "negative_DEFAULT")
    inputs = [(name, "CONDITIONING", wire) for name, wire in zip(names, (*joined, *place), strict=True)]
    node = graph.add("PairConditioningSetDefaultCombine", [], PAIR, inputs)
    return (node, 0), (node, 1)


def _hooks(graph: _Graph, loras: Sequence[Lora]) -> tuple[str, str, Wire] | None:
    before: list[tuple[str, str, Wire]] = []
    for lora in loras:
        node = graph.add("CreateHookLora", [lora.name, lora.scale, lora.scale], [("HOOKS", "HOOKS")], before)
        before = [("prev_hooks", "HOOKS", (node, 0))]
    return ("hooks", "HOOKS", before[0][2]) if before else None


def _combined(graph: _Graph, first: tuple[Wire, Wire], second: tuple[Wire, Wire]) -> tuple[Wire, Wire]:
    names = ("positive_A", "negative_A", "positive_B", "negative_B")
    inputs = [(name, "CONDITIONING", wire) for name, wire in zip(names, (*first, *second), strict=True)]
    node = graph.add("PairConditioningCombine", [], PAIR, inputs)
    return (node, 0), (node, 1)


def _mask(graph: _Graph, recipe: Recipe, given: str, file: str) -> Wire:
    """A box as nodes, with the same soft edges; anything else as a picture."""
    if file:
        return graph.add("LoadImageMask", [file, "red", "image"], MASK), 0
    height, width = recipe.size
    box = regions.as_box(given)
    if box is None:
        raise ValueError(f"the region {given!r} is no box and has no mask picture")
    left, top, right, bottom = regions.bounds(regions.from_box(box, recipe.size))
    soft = _edge(recipe, given)
    inside = graph.add("SolidMask", [1.0, right - left, bottom - top], MASK)
    edges = [soft if side else 0 for side in (left > 0, top > 0, right < width, bottom < height)]
    feather = graph.add("FeatherMask", edges, MASK, [("mask", "MASK", (inside, 0))])
    empty = graph.add("SolidMask", [0.0, width, height], MASK)
    wires = [("destination", "MASK", (empty, 0)), ("source", "MASK", (feather, 0))]
    return graph.add("MaskComposite", [left, top, "add"], MASK, wires), 0


def _edge(recipe: Recipe, given: str) -> int:
    """Pixels of the soft edge, read off the recipe's own mask."""
    region = next(region for region in recipe.regions if region.given == given)
    mask = regions.from_text(region.mask)
    rows, columns = np.nonzero(mask)
    middle = mask[(rows.min() + rows.max()) // 2]
    inside = middle[columns.min() : columns.max() + 1]
    return int((inside[: len(inside) // 2] < 0.999).sum())


class _Graph:
    """Nodes and the links between them, numbered as ComfyUI numbers them (from 1)."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def add(
        self,
        kind: str,
        widgets: list[Any],
        outputs: Sequence[tuple[str, str]],
        wires: Sequence[tuple[str, str, Wire]] = (),
    ) -> int:
        """Adds a node whose inputs are wired (name, type, (node, output)); returns its number."""
        number = len(self.nodes) + 1
        inputs = []
        for slot, (name, type_, (source, output)) in enumerate(wires):
            link = len(self.links) + 1
            self.links.append([link, source, output, number, slot, type_])
            self.nodes[source - 1]["outputs"][output]["links"].append(link)
            inputs.append({"name": name, "type": type_, "link": link})
        self.nodes.append(
            {
                "id": number,
                "type": kind,
                "pos": [40 + (number - 1) % 4 * 360, 60 + (number - 1) // 4 * 260],
                "size": [320, 200],
                "flags": {},
                "order": number - 1,
                "mode": 0,
                "inputs": inputs,
                "outputs": [
                    {"name": name, "type": type_, "links": [], "slot_index": slot}
                    for slot, (name, type_) in enumerate(outputs)
                ],
                "properties": {"Node name for S&R": kind},
                "widgets_values": widgets,
            }
        )
        return number

    def to_json(self) -> dict[str, Any]:
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }
