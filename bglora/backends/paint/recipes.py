"""How a picture was painted: everything that it takes to paint it again, and A1111's line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

FORMAT = 2
LARGEST, MOST_STEPS = 4096, 200
"""What settings allow; recipes come with pictures from anywhere."""
SAMPLERS = {
    "EulerDiscreteScheduler": ("Euler", "euler"),
    "EulerAncestralDiscreteScheduler": ("Euler a", "euler_ancestral"),
    "DPMSolverMultistepScheduler": ("DPM++ 2M", "dpmpp_2m"),
    "DDIMScheduler": ("DDIM", "ddim"),
    "UniPCMultistepScheduler": ("UniPC", "uni_pc"),
}
"""diffusers' scheduler to A1111's and ComfyUI's names for it."""
Role = Literal["character", "background", "other"]
Mode = Literal["weighted", "switch", "regional"]


@dataclass(frozen=True)
class Lora:
    """A LoRA in a recipe.

    Attributes:
        file: its path relative to the project; its name alone where it lies elsewhere.
        sha256: of the file's content.
        region: number of the region that it acts in; None: it acts everywhere.
        why: whose choice file and scale are: `as test recommends`; empty where they are the usual ones.
    """

    file: str
    scale: float
    role: Role
    sha256: str
    region: int | None = None
    why: str = ""

    @property
    def name(self) -> str:
        return self.file.rpartition("/")[2]


@dataclass(frozen=True)
class Region:
    """Where a character stands.

    Attributes:
        given: as the settings say it: attention, a box, a mask picture.
        mask: 8-bit PNG in base64, of the picture's size, soft edges and all.
    """

    given: str
    mask: str


@dataclass(frozen=True)
class Recipe:
    """One composition.

    Attributes:
        loras: in the order in which they are applied.
        mode: weighted (added), switch (in turn, step by step) or regional.
        size: (height, width) in pixels.
        base: the base's name. painter: what paints, with the base's revision.
        sampler: diffusers' scheduler class.
        threads: CPU threads, part of the result's last bits.
        place_prompt, regions: of mode regional; what is outside of all regions is painted with `place_prompt`.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    size: tuple[int, int]
    base: str
    loras: tuple[Lora, ...]
    mode: Mode
    sampler: str = "EulerDiscreteScheduler"
    painter: str = ""
    threads: int = 1
    place_prompt: str = ""
    regions: tuple[Region, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "size": list(self.size), "a1111": self.a1111()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """What `to_json` gave, also through JSON.

        Raises:
            ValueError: it is no recipe, or one of another format.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"format {values.get('format')}, not {FORMAT}")
        plain = {key: value for key, value in values.items() if key not in ("format", "a1111")}
        try:
            plain["loras"] = tuple(Lora(**lora) for lora in plain["loras"])
            plain["regions"] = tuple(Region(**region) for region in plain["regions"])
            plain["size"] = (int(plain["size"][0]), int(plain["size"][1]))
            recipe = cls(**plain)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"no recipe: {error}") from error
        if not (min(recipe.size) > 0 and max(recipe.size) <= LARGEST and 0 < recipe.steps <= MOST_STEPS):
            raise ValueError(f"{recipe.size[1]} x {recipe.size[0]} pixels in {recipe.steps} steps")
        if recipe.mode not in get_args(Mode) or not 0 < recipe.threads <= 256:
            raise ValueError(f"mode {recipe.mode!r}, {recipe.threads} threads")
        return recipe

    def a1111(self) -> str:
        """The text that A1111 and Forge write into their pictures and read back from the prompt field."""
        tags = "".join(f" <lora:{lora.name.rpartition('.')[0]}:{lora.scale:g}>" for lora in self.loras)
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
        if self.mode == "regional":
            found.append(
                "Painted with the characters' LoRAs masked on every layer, and the place outside held to what it is "
                "alone. These nodes paint region and place with LoRAs of their own and mix what they predict, which is "
                "close but not the same. They need a ComfyUI with hooks (from December 2024 on)."
            )
        return found
