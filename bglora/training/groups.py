"""Which learning rate each of a LoRA's matrices gets: sd-scripts' parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bglora.errors import UserError

DOWN_BLOCKS, MIDDLE_BLOCKS, UP_BLOCKS = 9, 3, 9
"""Blocks of SDXL's original code; layers in input_blocks.4 are of block 4 of the first nine."""


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of a LoRA's parts.

    Attributes:
        unet, text_encoder: of the U-Net's and of both text encoders' matrices; 0: they aren't trained.
        plus_unet, plus_text_encoder: up matrices learn so many times faster (LoRA+, Hayou et al. 2024); 1: not.
        blocks: factor of each of the U-Net's 21 blocks (9 down, 3 middle, 9 up); empty: all 1.
    """

    unet: float
    text_encoder: float = 0.0
    plus_unet: float = 1.0
    plus_text_encoder: float = 1.0
    blocks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = DOWN_BLOCKS + MIDDLE_BLOCKS + UP_BLOCKS
        if self.blocks and len(self.blocks) != count:
            raise UserError(
                f"The U-Net has {count} blocks, and there are factors of {len(self.blocks)}.",
                where="train.block_lr_weights",
                cure=f"Write {count} numbers: {DOWN_BLOCKS} down, {MIDDLE_BLOCKS} middle, {UP_BLOCKS} up; or none.",
            )


@dataclass(frozen=True)
class Group:
    """Matrices that share a learning rate."""

    label: str
    rate: float
    names: tuple[str, ...]


def label_of(name: str, rates: LearningRates) -> str:
    """The group of a layer or matrix: `textencoder`, `unet`, or one of the U-Net's blocks where those differ."""
    if not name.startswith("lora_unet_"):
        return "textencoder"
    return f"unet_block{block_of(name)}" if rates.blocks else "unet"


def rate_of(label: str, rates: LearningRates) -> float:
    """The full learning rate of a group's down matrices."""
    if label == "textencoder":
        return rates.text_encoder
    block = label.removeprefix("unet_block")
    return rates.unet * rates.blocks[int(block) - 1] if block != label else rates.unet


def parameter_groups(names: Iterable[str], rates: LearningRates) -> list[Group]:
    """The matrices (`lora_….lora_down.weight`) in their groups; those with a rate of 0 are in none."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(label_of(name, rates), []).append(name)
    order = sorted(members, key=lambda label: (label != "textencoder", len(label), label))
    return [group for label in order for group in _split(label, members[label], rates)]


def _split(label: str, names: list[str], rates: LearningRates) -> list[Group]:
    rate = rate_of(label, rates)
    plus = rates.plus_text_encoder if label == "textencoder" else rates.plus_unet
    faster = tuple(name for name in names if "lora_up" in name) if plus != 1.0 else ()
    slower = tuple(name for name in names if name not in set(faster))
    found = [Group(label, rate, slower), Group(f"{label} plus", rate * plus, faster)]
    return [group for group in found if group.names and group.rate]


def block_of(name: str) -> int:
    """1 to 21: the U-Net's block that a matrix is in."""
    found = re.match(r"lora_unet_(input|middle|output)_blocks?_(\d+)_", name)
    if found is None:
        raise ValueError(f"no block of SDXL's U-Net: {name}")
    first = {"input": 1, "middle": 1 + DOWN_BLOCKS, "output": 1 + DOWN_BLOCKS + MIDDLE_BLOCKS}[found[1]]
    return first + int(found[2])
