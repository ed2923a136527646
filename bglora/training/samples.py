"""Sample pictures along the way: every time the same prompts from the same noise, so that they compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bglora.training import emphasis, painting
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.job import TrainJob


@torch.no_grad()
def paint_samples(base: Base, job: TrainJob, size: Size, folder: Path, step: int) -> None:
    """Paints as many as the recipe says, with the weights that the base has now, into `step-<step>-<number>.png`.

    Prompts are captions of held-out pictures, of training pictures where none is held out.
    """
    recipe = job.recipe
    if not recipe.samples:
        return
    prompts = [picture.caption for picture in spread(job.held_out or job.pictures, recipe.samples)]
    if recipe.captions.weighted_captions:
        prompts = [emphasis.plain(prompt) for prompt in prompts]
    look = painting.Look(size, recipe.sample_steps, recipe.sample_guidance)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [recipe.seed + number for number in range(len(prompts))]
    for number, picture in enumerate(painting.paint(base, prompts, seeds, look)):
        Image.fromarray(picture).save(folder / f"step-{step:06d}-{number}.png", compress_level=1)


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread."""
    if len(values) <= count:
        return list(values)
    return [values[int((i + 0.5) * len(values) / count)] for i in range(count)]
