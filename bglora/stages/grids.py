"""Pictures of a LoRA for `test`: every prompt at every scale from the same seeds, and the sheet that shows them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bglora.engine.stage import Item, Stopped, Tools

FINAL = 0
"""Stands for the finished LoRA where others are named by their optimizer step."""


@dataclass(frozen=True)
class Grid:
    """Test pictures of one LoRA file.

    Attributes:
        step: optimizer step of the checkpoint; `FINAL` for the finished LoRA.
        lora: its path in the project.
        scales: ascending, the first is 0: the base alone.
        pictures: uint8 (scales, prompts, seeds, H, W, 3); every scale starts from the same noise.
        asking: places of the prompts that ask for somebody. elsewhere: of those that ask for another place.
    """

    step: int
    lora: str
    prompts: Sequence[str]
    scales: Sequence[float]
    pictures: np.ndarray
    asking: Sequence[int] = ()
    elsewhere: Sequence[int] = ()


@dataclass(frozen=True)
class Asked:
    """What a grid is asked for.

    Attributes:
        prompts: what to paint. side: of the square pictures, in pixels.
        asking: places of the prompts that ask for somebody. cast: the character LoRA that stands by there, at its
            scale, whatever the background's: none where the project has no character.
        elsewhere: places of the prompts that ask for another place.
    """

    prompts: Sequence[str]
    side: int
    asking: Sequence[int] = ()
    cast: Sequence[tuple[Path, float]] = ()
    elsewhere: Sequence[int] = ()


def paint_grids(item: Item, tools: Tools, painter: Any, loras: Mapping[int, str], asked: Asked) -> list[Grid]:
    """A grid for each LoRA file; the base alone is painted once for all of them.

    Args:
        loras: step to path.

    Raises:
        Stopped: the run was asked to stop.
    """
    scales = sorted({0.0, *item.settings["test.scales"]})
    rounds = [(FINAL, "", 0.0), *((step, lora, scale) for step, lora in loras.items() for scale in scales if scale)]
    painted: dict[tuple[int, float], np.ndarray] = {}
    for number, (step, lora, scale) in enumerate(rounds):
        what = f"scale {scale:g}" if step == FINAL else f"step {step}, scale {scale:g}"
        if tools.stopping():
            raise Stopped(f"{item.name} at {what}")
        tools.progress(number, len(rounds), f"painting at {what}")
        adapters = [(Path(tools.root) / lora, scale)] if lora else []
        painted[step, scale] = _paint(item, tools, painter, asked, adapters)
    base = painted[FINAL, 0.0]
    return [
        Grid(
            step,
            lora,
            asked.prompts,
            scales,
            np.stack([base, *(painted[step, scale] for scale in scales if scale)]),
            asked.asking,
            asked.elsewhere,
        )
        for step, lora in loras.items()
    ]


def _paint(item: Item, tools: Tools, painter: Any, asked: Asked, adapters: Sequence[tuple[Path, float]]) -> np.ndarray:
    """uint8 (prompts, seeds, H, W, 3)."""
    settings = item.settings
    seeds = [tools.seed + number for number in range(settings["test.seeds"])]
    found: dict[int, np.ndarray] = {}
    everyone, negative = range(len(asked.prompts)), settings["test.negative_prompt"]
    groups = (
        ([k for k in everyone if k not in asked.asking], negative, ()),
        (asked.asking, allowing(negative), asked.cast),
    )
    for places, denied, more in groups:
        if not places:
            continue
        flat = painter.paint(
            [asked.prompts[k] for k in places for _ in seeds],
            denied,
            seeds * len(places),
            (asked.side, asked.side),
            settings["test.steps"],
            settings["test.guidance_scale"],
            [*adapters, *more],
        )
        for number, k in enumerate(places):
            found[k] = np.stack(flat[number * len(seeds) : (number + 1) * len(seeds)])
    return np.stack([found[k] for k in everyone])


def allowing(negative: str) -> str:
    """A negative prompt without the words for characters, for prompts that ask for one."""
    from bglora.backends.caption.template import named_character

    return ", ".join(tag.strip() for tag in negative.split(",") if tag.strip() and not named_character([tag]))


def write_grid(scratch: Path, home: str, grid: Grid) -> list[str]:
    """Each picture, and the sheet of all: a row a prompt, a column a scale. The sheet comes first."""
    from bglora.backends.paint.sheet import contact_sheet

    folder, pictures = scratch / home, grid.pictures
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    for s, scale in enumerate(grid.scales):
        for p in range(len(grid.prompts)):
            for number, picture in enumerate(pictures[s, p]):
                name = f"{home}/prompt{p}-scale{round(scale * 100):03d}-seed{number}.webp"
                Image.fromarray(picture).save(scratch / name, quality=92, method=4)
                outputs.append(name)
    cells = [[list(pictures[s, p]) for s in range(len(grid.scales))] for p in range(len(grid.prompts))]
    columns = ["base alone" if scale == 0 else f"scale {scale:g}" for scale in grid.scales]
    sheet = contact_sheet(cells, grid.prompts, columns, thumb=min(160, max(pictures.shape[3:5])))
    sheet.save(folder / "grid.webp", quality=92, method=4)
    return [f"{home}/grid.webp", *outputs]
