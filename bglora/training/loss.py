"""Noise in, weighted error out: the loss of one micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bglora.training import huber, noise
from bglora.training.base import Base
from bglora.training.cache import Example
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.options import LossOptions, NoiseOptions
from bglora.training.transfer import sent
from bglora.training.weighting import weigh


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the base's device.

    Attributes:
        latents: (b, 4, h, w), scaled as the U-Net sees them.
        noise: (b, 4, h, w), what is predicted (or v is made of).
        noisy: (b, 4, h, w), the U-Net's input.
        weights: (b, 1, h, w), loss weights of the cells.
        timesteps: (b,).
        time_ids: (b, 6), size conditioning.
        states: (b, n, c), both text encoders' hidden states, joined.
        pooled: (b, p), of the second encoder.
        shares: (b,), loss weight of each picture; None: 1.
    """

    latents: Tensor
    noise: Tensor
    noisy: Tensor
    weights: Tensor
    timesteps: Tensor
    time_ids: Tensor
    states: Tensor
    pooled: Tensor
    shares: Tensor | None = None


def gather(
    examples: Sequence[tuple[Example, bool]],
    captions: tuple[Tensor, Tensor],
    draws: noise.Draws,
    options: NoiseOptions,
    schedule: NoiseSchedule,
    device: str,
) -> Batch:
    """Joins examples (each as it is or mirrored) of one bucket on the device, as `schedule`, and adds the noise.

    `captions` are their states (b, n, c) and pooled vectors (b, p), on the device.
    """
    sides = [int(flipped) for _, flipped in examples]
    latents, weights, time_ids = (
        torch.stack([getattr(example, name)[side] for (example, _), side in zip(examples, sides, strict=True)])
        for name in ("latents", "weights", "time_ids")
    )
    latents, weights, time_ids = (sent(part, device) for part in (latents, weights, time_ids))
    draws = draws.on(device)
    target = noise.compose(draws, latents, options)
    noisy = schedule.noisy(latents, noise.perturbed(draws, target, options), draws.timesteps)
    return Batch(latents, target, noisy, weights, draws.timesteps, time_ids, *captions)


def error(base: Base, batch: Batch, schedule: NoiseSchedule, options: LossOptions) -> Tensor:
    """Weighted error per picture (b,) of the U-Net's prediction; `schedule` lies on the base's device."""
    with torch.autocast(base.unet.device.type, torch.bfloat16, enabled=base.device != "cpu"):
        predicted: Tensor = base.unet(
            batch.noisy,
            batch.timesteps,
            batch.states,
            added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        ).sample
    return per_picture(predicted, batch, schedule, options)


def per_picture(predicted: Tensor, batch: Batch, schedule: NoiseSchedule, options: LossOptions) -> Tensor:
    """Error of predictions (b, c, h, w) per picture (b,), in fp32.

    Mean over channels and cells, not renormalized by the weights' sum; then each picture's share, then the weight of
    its timestep.
    """
    target = schedule.target(batch.latents, batch.noise, batch.timesteps)
    each = huber.elementwise(predicted.float(), target.float(), batch.timesteps, options, schedule)
    losses = (each * batch.weights).mean(dim=(1, 2, 3))
    if batch.shares is not None:
        losses = losses * batch.shares
    return weigh(losses, batch.timesteps, options, schedule)
