"""The loss on held-out pictures at fixed timesteps with fixed noise, so that two validations compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bglora.training import noise
from bglora.training.base import Base
from bglora.training.cache import Example, seeded
from bglora.training.caption_book import CaptionBook
from bglora.training.captions import affixed
from bglora.training.loss import error, gather
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.options import CaptionOptions, LossOptions, NoiseOptions

PICTURES = 6
TIMES = 4


@torch.no_grad()
def validation_loss(
    base: Base, schedule: NoiseSchedule, held_out: Sequence[Example], book: CaptionBook, options: CaptionOptions
) -> float | None:
    """Mean over the pictures of their error at `TIMES` timesteps, weighed by provenance; None if nothing is held out.

    Args:
        schedule: on the base's device. book: has the pictures' captions.
    """
    if not held_out:
        return None
    times = torch.tensor([int(schedule.steps * (number + 0.5) / TIMES) for number in range(TIMES)])
    losses = []
    for example in held_out:
        plain = torch.randn((TIMES, *example.latents[0].shape), generator=seeded("validation", example.name))
        captions = book.embed([affixed(example.caption, options)] * TIMES)
        draws = noise.Draws(plain, times)
        batch = gather([(example, False)] * TIMES, captions, draws, NoiseOptions(), schedule, base.device)
        losses.append(error(base, batch, schedule, LossOptions()).mean())
    return sum(torch.stack(losses).tolist()) / len(losses)
