"""Which learning rate each of a LoRA's matrices gets: sd-scripts' parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
        if self.blocks and len(self.blocks) != DOWN_BLOCKS + MIDDLE_BLOCKS + UP_BLOCKS:
            raise ValueError(f"{len(self.blocks)} block weights, not {DOWN_BLOCKS + MIDDLE_BLOCKS + UP_BLOCKS}")


@dataclass(frozen=True)
class Group:
    """Matrices that share a learning rate."""

    label: str
    rate: float
    names: tuple[str, ...]


def parameter_groups(names: Iterable[str], rates: LearningRates) -> list[Group]:
    """The matrices (`lora_….lora_down.weight`) in their groups; those with a rate of 0 are in none."""
    text: list[str] = []
    blocks: dict[int, list[str]] = {}
    for name in names:
        if not name.startswith("lora_unet_"):
            text.append(name)
        else:
            blocks.setdefault(block_of(name) if rates.blocks else 0, []).append(name)
    groups = _split("textencoder", text, rates.text_encoder, rates.plus_text_encoder)
    for number, members in sorted(blocks.items()):
        label, rate = ("unet", rates.unet)
        if rates.blocks:
            label, rate = f"unet_block{number}", rates.unet * rates.blocks[number - 1]
        groups += _split(label, members, rate, rates.plus_unet)
    return groups


def _split(label: str, names: list[str], rate: float, plus: float) -> list[Group]:
    faster = tuple(name for name in names if "lora_up" in name) if plus != 1.0 else ()
    members: Mapping[str, tuple[tuple[str, ...], float]] = {
        label: (tuple(name for name in names if name not in set(faster)), rate),
        f"{label} plus": (faster, rate * plus),
    }
    return [Group(key, value, chosen) for key, (chosen, value) in members.items() if chosen and value]


def block_of(name: str) -> int:
    """1 to 21: the U-Net's block that a matrix is in."""
    found = re.match(r"lora_unet_(input|middle|output)_blocks?_(\d+)_", name)
    if found is None:
        raise ValueError(f"no block of SDXL's U-Net: {name}")
    first = {"input": 1, "middle": 1 + DOWN_BLOCKS, "output": 1 + DOWN_BLOCKS + MIDDLE_BLOCKS}[found[1]]
    return first + int(found[2])
