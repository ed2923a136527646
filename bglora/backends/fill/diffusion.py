"""What the engines that paint with a diffusion model share: parts of frames, prompts, batches, the model's place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.backends import Needs
from bglora.backends.resident import Resident
from bglora.backends.sizes import is_sdxl

if TYPE_CHECKING:
    import numpy as np

    from bglora.vision.holecrop import Crop

SMALL_CARD_GB = 16
"""Below this, `low_memory = "auto"` saves memory."""
MEMORY_GB, MEMORY_XL_GB = 8.0, 10.0
"""What an engine on Stable Diffusion 1.5 takes of the machine's memory, and one on SDXL on its way to a card."""
CURE = "bglora set inpaint.low_memory yes; close what else uses the card; or set BGLORA_DEVICE=cpu"


@dataclass(frozen=True)
class Part:
    """A part of a frame on its way through the model.

    Attributes:
        frame: its number in the call.
        picture: uint8 (h, w, 3), what it had in the hole is gone. hole: bool (h, w), blunted.
        start: uint8 (h, w, 3), filled before, or None.
        seed, prompt: of this part.
    """

    frame: int
    crop: Crop
    picture: np.ndarray
    hole: np.ndarray
    start: np.ndarray | None
    seed: int
    prompt: str


@dataclass
class DiffusionFill(ABC):
    """Fills holes part by part, each with its surroundings at the frame's own resolution.

    Attributes:
        settings: the table [inpaint].
        pipeline: the stock pipeline that holds the base model.
        device: where it runs.
        side: pixels, of the pictures that the model was trained on.
        scheduler: the base model's own, whose noise every sampler takes.
        resident: where it gets LaMa from; that which it was gotten from, if it was.
    """

    settings: Any
    pipeline: Any
    device: Any
    side: int
    scheduler: Any = field(init=False)
    resident: Resident = field(default_factory=Resident, init=False, repr=False)

    def __post_init__(self) -> None:
        self.scheduler = self.pipeline.scheduler

    @abstractmethod
    def paint(self, parts: Sequence[Part]) -> Sequence[np.ndarray]:
        """Paints parts of one size; uint8 (h, w, 3) each."""

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """See `FillBackend.fill`. An empty prompt is that of the settings."""
        return self.fill_many([frame], [hole], [seed], [prompt])[0]

    def fill_many(
        self,
        frames: Sequence[np.ndarray],
        holes: Sequence[np.ndarray],
        seeds: Sequence[int],
        prompts: Sequence[str] = (),
    ) -> list[np.ndarray]:
        """See `BatchFillBackend.fill_many`: what `fill` would give for each, parts of one size painted together."""
        from bglora.nets.device import in_halves
        from bglora.vision.holecrop import pasted

        parts = self._parts(frames, holes, seeds, prompts or [""] * len(frames))
        filled = [frame.copy() for frame in frames]
        for size in dict.fromkeys(part.crop.size for part in parts):
            alike = [part for part in parts if part.crop.size == size]
            painted = in_halves(
                self.paint,
                alike,
                self.settings.batch,
                where=f"filling {size[1]} x {size[0]} pixels",
                cure=CURE,
            )
            for part, picture in zip(alike, painted, strict=True):
                filled[part.frame] = pasted(filled[part.frame], part.crop, picture)
        return filled

    @property
    def low_memory(self) -> bool:
        """True if memory is to be saved at the cost of time."""
        return saves_memory(self.settings, self.device)

    @abstractmethod
    def make_room(self) -> None:
        """Where memory is saved, clears the card for another engine."""

    def _parts(
        self, frames: Sequence[np.ndarray], holes: Sequence[np.ndarray], seeds: Sequence[int], prompts: Sequence[str]
    ) -> list[Part]:
        from bglora.nets.diffusion_base import cell
        from bglora.vision.holecrop import crops, hidden

        grain = cell(self.pipeline)
        starts = self._starts(frames, holes, seeds)
        found = []
        for number, (frame, hole, seed, prompt) in enumerate(zip(frames, holes, seeds, prompts, strict=True)):
            blind, words = hidden(frame, hole), prompt or self.settings.prompt
            for k, crop in enumerate(crops(hole, self.side, 8 * grain if self.side >= 512 else grain)):
                start = crop.cut(starts[number]) if starts else None
                own = (seed + 7919 * k) % 2**31
                found.append(Part(number, crop, crop.cut(blind), crop.shown(grain), start, own, words))
        return found

    def _starts(
        self, frames: Sequence[np.ndarray], holes: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """The frames filled by LaMa, to start from; nothing where the settings don't ask for it.

        The whole blunted hole is filled: what the model is shown and where it starts must not tell of the outline.
        """
        if not self.settings.lama_first:
            return []
        from bglora.vision.holecrop import LEAST, blunted

        self.make_room()
        lama = self.resident.get("fill", "lama", self.settings, beside=self)
        wide = [blunted(hole, LEAST) for hole in holes]
        return list(lama.fill_many(frames, wide, seeds))


def saves_memory(settings: Any, device: Any) -> bool:
    """Whether only what is at work lies on the device, by the settings and the card's size."""
    if settings.low_memory != "auto":
        return bool(settings.low_memory == "yes")
    from bglora.nets.device import card_gb

    return device.type == "cuda" and card_gb() < SMALL_CARD_GB


def needs_of(settings: Any, card_gb: float, base: str, small_gb: float, large_gb: float, saving_gb: float) -> Needs:
    """See `bglora.backends.needs`: a part at a time, for batches halve where memory is short; with LaMa if it is first.

    Args:
        base: the base model as the settings name it.
        small_gb, large_gb, saving_gb: on the card with Stable Diffusion 1.5, with SDXL, and with SDXL where only what
            is at work lies there.
    """
    saves = settings.low_memory == "yes" or (settings.low_memory == "auto" and card_gb < SMALL_CARD_GB)
    first = backends.needs("fill", "lama", settings, card_gb).gpu_gb if settings.lama_first else 0.0
    if not is_sdxl(base):
        return Needs(MEMORY_GB + first, small_gb + first)
    # Where memory is saved, everything else leaves the card for LaMa.
    return Needs(MEMORY_XL_GB + first, saving_gb if saves else large_gb + first)


def load_base(name: str, setting: str, device: Any, *, inpainting: bool = False) -> Any:
    """The stock pipeline of the base model that a setting names, on the CPU.

    Raises:
        UserError, MachineError: it is not there, damaged, or no model of the kind.
    """
    from bglora.backends import weights
    from bglora.nets import diffusion_base
    from bglora.nets.published import CONFIGS

    path = weights.find(name, setting=setting)
    configs = None
    if path.is_file():
        configs = weights.find(CONFIGS[diffusion_base.family_of(path, setting)], setting=setting)
    dtype = number_type(device)
    return diffusion_base.load(path, setting=setting, dtype=dtype, inpainting=inpainting, configs=configs)


def names_of_weights(settings: Any, *keys: str) -> dict[str, str]:
    """The weights that an engine reads with these settings, by key."""
    keys = (*keys, "few_steps", *(["lama"] if settings.lama_first else []))
    return {key: getattr(settings, key) for key in keys if getattr(settings, key)}


def identity(algorithm: str, settings: Any, *keys: str) -> str:
    """An algorithm with its weights, the adapter's, and LaMa where it starts from that."""
    from bglora.backends import weights

    names = [getattr(settings, key) for key in (*keys, "few_steps") if getattr(settings, key)]
    known = " ".join([algorithm, *map(weights.identity, names)])
    return f"{known} {backends.identity('fill', 'lama', settings)}" if settings.lama_first else known


def placed(net: Any, device: Any, setting: str) -> Any:
    """A network, or a pipeline of them, on the device. Raises `MachineError` where it doesn't fit."""
    from bglora.nets.device import moved

    return moved(net, device, what="The model", setting=setting, cure=CURE)


def in_fastest_layout(net: Any, device: Any) -> None:
    """Channels last on a card: what its convolutions are fastest in."""
    import torch

    if device.type == "cuda":
        net.to(memory_format=torch.channels_last)


def number_type(device: Any) -> Any:
    """float16 on a card, as these models were published and run; float32 on the CPU."""
    import torch

    return torch.float16 if device.type == "cuda" else torch.float32


def with_adapter(pipeline: Any, name: str) -> None:
    """Merges the adapter for few steps into the base model's weights.

    Raises:
        UserError: it doesn't fit the base model, or can't be read.
    """
    from bglora.backends import weights
    from bglora.errors import UserError, first_line

    where = f"inpaint.few_steps = {name}"
    path = weights.find(name, setting="inpaint.few_steps")
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        there = ", ".join(file.name for file in files) or "none"
        raise UserError(
            f"There must be one adapter in this folder; there are: {there}.",
            where=where,
            cure="Name the .safetensors file itself.",
        )
    try:
        pipeline.load_lora_weights(str(files[0].parent), weight_name=files[0].name, local_files_only=True)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    except (RuntimeError, ValueError, KeyError, IndexError, OSError) as error:
        raise UserError(
            f"The adapter for few steps does not fit this base model: {first_line(error)}",
            where=where,
            cure="Take the one for the family of your base: lcm-lora-sd15 or lcm-lora-sdxl.",
        ) from error
