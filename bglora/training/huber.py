"""Losses that forgive outliers: pseudo-Huber with a threshold that depends on the timestep (Khrapov et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.options import LossOptions


def elementwise(
    predicted: Tensor, target: Tensor, timesteps: Tensor, o: LossOptions, schedule: NoiseSchedule
) -> Tensor:
    """Loss of every element (b, c, h, w), for timesteps (b,)."""
    if o.loss_type == "l2":
        return functional.mse_loss(predicted, target, reduction="none")
    if o.loss_type == "l1":
        return functional.l1_loss(predicted, target, reduction="none")
    c = threshold(timesteps, o, schedule).view(-1, 1, 1, 1)
    beyond = 2 * (torch.sqrt((predicted - target) ** 2 + c**2) - c)
    return c * beyond if o.loss_type == "huber" else beyond


def threshold(timesteps: Tensor, options: LossOptions, schedule: NoiseSchedule) -> Tensor:
    """(b,): where the loss turns from squares to absolute values."""
    if options.huber_schedule == "constant":
        return torch.full(timesteps.shape, options.huber_c * options.huber_scale, device=timesteps.device)
    if options.huber_schedule == "exponential":
        rate = -math.log(options.huber_c) / schedule.steps
        return torch.exp(-rate * timesteps) * options.huber_scale
    alphas = schedule.alphas[timesteps]
    sigmas = ((1.0 - alphas) / alphas) ** 0.5
    return (1 - options.huber_c) / (1 + sigmas) ** 2 + options.huber_c
