"""The diffusion's forward process: how much of a noisy latent is signal at each timestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bglora.training.options import NoiseOptions


@dataclass(frozen=True)
class NoiseSchedule:
    """Tables over the training timesteps, on the CPU.

    Attributes:
        alphas: (steps,) cumulative product of the alphas: share of the signal in the squared latent.
        snr: (steps,) signal-to-noise ratio of the ordinary schedule, which the loss weights are made from also where
            the betas were rescaled to a zero terminal SNR, as in sd-scripts.
        velocity: the U-Net predicts v (Salimans and Ho 2022), not the noise.
    """

    alphas: Tensor
    snr: Tensor
    velocity: bool

    @classmethod
    def of(cls, scheduler: Any, options: NoiseOptions) -> NoiseSchedule:
        """From a diffusers scheduler's config."""
        import diffusers

        schedules: Any = diffusers.DDPMScheduler
        zero = options.zero_terminal_snr or bool(scheduler.config.get("rescale_betas_zero_snr", False))
        ordinary, used = (
            schedules.from_config(scheduler.config, rescale_betas_zero_snr=rescaled).alphas_cumprod
            for rescaled in (False, zero)
        )
        prediction = options.prediction
        if prediction == "base":
            prediction = scheduler.config.prediction_type
        return cls(used, signal_to_noise(ordinary), prediction == "v_prediction")

    @property
    def steps(self) -> int:
        return len(self.alphas)

    def on(self, device: torch.device | str) -> NoiseSchedule:
        """The same tables on a device, so that nothing is copied there in each step."""
        return NoiseSchedule(self.alphas.to(device), self.snr.to(device), self.velocity)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(a) x + sqrt(1 - a) e, of latents and noise (b, c, h, w) at timesteps (b,)."""
        signal, rest = self._shares(latents, timesteps)
        return signal * latents + rest * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the U-Net ought to predict: the noise, or v = sqrt(a) e - sqrt(1 - a) x."""
        if not self.velocity:
            return noise
        signal, rest = self._shares(latents, timesteps)
        return signal * noise - rest * latents

    def _shares(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas[timesteps].to(latents.dtype).view(-1, *[1] * (latents.ndim - 1))
        return alphas**0.5, (1 - alphas) ** 0.5


def signal_to_noise(alphas: Tensor) -> Tensor:
    """a / (1 - a), rounded as sd-scripts rounds it: a square of a quotient of roots."""
    return (torch.sqrt(alphas) / torch.sqrt(1.0 - alphas)) ** 2
