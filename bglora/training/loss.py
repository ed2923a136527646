"""Noise in, weighted error out: the loss of one micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bglora.training.base import Base
from bglora.training.cache import Captions, Example


@dataclass(frozen=True)
class Batch:
    """latents, noise (b, 4, h, w), weights (b, 1, h, w), timesteps (b,), time_ids (b, 6), states (b, 77, c), pooled
    (b, p)."""

    latents: Tensor
    noise: Tensor
    weights: Tensor
    timesteps: Tensor
    time_ids: Tensor
    states: Tensor
    pooled: Tensor


def gather(
    examples: Sequence[tuple[Example, bool]], captions: Captions, noise: Tensor, timesteps: Tensor, base: Base
) -> Batch:
    """Joins examples (each as it is or mirrored) of one bucket and moves them to the base's device."""
    rows = torch.tensor([example.caption for example, _ in examples])
    sides = [int(flipped) for _, flipped in examples]
    return Batch(
        *(
            part.to(base.device)
            for part in (
                torch.stack([example.latents[side] for (example, _), side in zip(examples, sides, strict=True)]),
                noise,
                torch.stack([example.weights[side] for (example, _), side in zip(examples, sides, strict=True)]),
                timesteps,
                torch.stack([example.time_ids[side] for (example, _), side in zip(examples, sides, strict=True)]),
                captions.states[rows],
                captions.pooled[rows],
            )
        )
    )


def error(base: Base, batch: Batch) -> Tensor:
    """Weighted squared error per picture (b,): mean over channels and cells, not renormalized by the weights' sum."""
    schedule: Any = base.noise
    noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
    if schedule.config.prediction_type == "v_prediction":
        target = schedule.get_velocity(batch.latents, batch.noise, batch.timesteps)
    else:
        target = batch.noise
    with torch.autocast(base.unet.device.type, torch.bfloat16, enabled=base.device != "cpu"):
        predicted = base.unet(
            noisy,
            batch.timesteps,
            batch.states,
            added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        ).sample
    squared: Tensor = (predicted.float() - target.float()) ** 2
    return (squared * batch.weights).mean(dim=(1, 2, 3))
