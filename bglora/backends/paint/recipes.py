"""How a picture was painted, in the forms that other programs read: A1111's line and ComfyUI's workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SDXL_FILE = "sd_xl_base_1.0.safetensors"
SAMPLERS = {
    "EulerDiscreteScheduler": ("Euler", "euler"),
    "EulerAncestralDiscreteScheduler": ("Euler a", "euler_ancestral"),
    "DPMSolverMultistepScheduler": ("DPM++ 2M", "dpmpp_2m"),
    "DDIMScheduler": ("DDIM", "ddim"),
    "UniPCMultistepScheduler": ("UniPC", "uni_pc"),
}
"""diffusers' scheduler to A1111's and ComfyUI's names for it."""


@dataclass(frozen=True)
class Recipe:
    """One composition.

    Attributes:
        loras: (file name, scale) in the order in which they are applied.
        mode: weighted (added) or switch (in turn, step by step).
        size: (height, width) in pixels.
        base: the base's name.
        sampler: diffusers' scheduler class.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    size: tuple[int, int]
    base: str
    loras: tuple[tuple[str, float], ...]
    mode: str
    sampler: str = "EulerDiscreteScheduler"

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "size": list(self.size),
            "base": self.base,
            "loras": [{"file": name, "scale": scale} for name, scale in self.loras],
            "mode": self.mode,
            "sampler": self.sampler,
            "a1111": self.a1111(),
        }

    def a1111(self) -> str:
        """The text that A1111 and Forge write into their pictures and read back from the prompt field."""
        tags = "".join(f" <lora:{name.rpartition('.')[0]}:{scale:g}>" for name, scale in self.loras)
        height, width = self.size
        lines = [self.prompt + tags]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        sampler = self.sampler_names()[0]
        how = f"Steps: {self.steps}, Sampler: {sampler}, CFG scale: {self.guidance_scale:g}, Seed: {self.seed}"
        lines.append(f"{how}, Size: {width}x{height}")
        return "\n".join(lines)

    def sampler_names(self) -> tuple[str, str]:
        """A1111's and ComfyUI's name of the sampler; Euler for one that neither has."""
        return SAMPLERS.get(self.sampler, SAMPLERS["EulerDiscreteScheduler"])

    def notes(self) -> list[str]:
        """What the other programs cannot take over."""
        found = []
        if self.base == "mini":
            found.append(
                "Painted with mini, the small model that comes with bglora. Its LoRAs do not work with SDXL: "
                "train the scene on SDXL (train.base) before you use this workflow."
            )
        if self.sampler not in SAMPLERS:
            found.append(f"Painted with {self.sampler}, for which these nodes have no sampler; Euler stands in.")
        if self.mode == "switch":
            found.append("Painted with the LoRAs in turn, step by step; these nodes add them up instead.")
        return found


def comfy_workflow(recipe: Recipe) -> dict[str, Any]:
    """A workflow in ComfyUI's own format (version 0.4) of its standard nodes, to be dropped into its window."""
    graph = _Graph()
    checkpoint = (
        SDXL_FILE if not recipe.base.endswith(".safetensors") else recipe.base.replace("\\", "/").split("/")[-1]
    )
    outputs = [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]
    loader = graph.add("CheckpointLoaderSimple", [checkpoint], outputs)
    model, clip = (loader, 0), (loader, 1)
    for name, scale in recipe.loras:
        wires = [("model", "MODEL", model), ("clip", "CLIP", clip)]
        node = graph.add("LoraLoader", [name, scale, scale], outputs[:2], wires)
        model, clip = (node, 0), (node, 1)
    conditioning = [("CONDITIONING", "CONDITIONING")]
    positive = graph.add("CLIPTextEncode", [recipe.prompt], conditioning, [("clip", "CLIP", clip)])
    negative = graph.add("CLIPTextEncode", [recipe.negative_prompt], conditioning, [("clip", "CLIP", clip)])
    height, width = recipe.size
    latent = graph.add("EmptyLatentImage", [width, height, 1], [("LATENT", "LATENT")])
    sampler = graph.add(
        "KSampler",
        [recipe.seed, "fixed", recipe.steps, recipe.guidance_scale, recipe.sampler_names()[1], "normal", 1.0],
        [("LATENT", "LATENT")],
        [
            ("model", "MODEL", model),
            ("positive", "CONDITIONING", (positive, 0)),
            ("negative", "CONDITIONING", (negative, 0)),
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
        wires: Sequence[tuple[str, str, tuple[int, int]]] = (),
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
