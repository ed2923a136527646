"""How much each timestep's loss counts, in sd-scripts' order."""

from __future__ import annotations

import torch
from torch import Tensor

from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.options import LossOptions

MOST = 1000.0
"""SNR that the scales are cut at; the first timesteps' goes to infinity in other schedules."""


def weigh(losses: Tensor, timesteps: Tensor, options: LossOptions, schedule: NoiseSchedule) -> Tensor:
    """Losses (b,) of timesteps (b,), weighted: min-SNR, v scaled like noise, v-like, debiased, in this order."""
    snr = schedule.snr[timesteps]
    cut = snr.clamp(max=MOST)
    if options.min_snr_gamma:
        least = snr.clamp(max=options.min_snr_gamma)
        losses = losses * (least / (snr + 1 if schedule.velocity else snr))
    if options.scale_v_pred_loss_like_noise_pred:
        losses = losses * (cut / (cut + 1))
    if options.v_pred_like_loss:
        losses = losses + losses / (cut / (cut + 1)) * options.v_pred_like_loss
    if options.debiased_estimation_loss:
        losses = losses * (1 / (cut + 1) if schedule.velocity else 1 / torch.sqrt(cut))
    return losses
