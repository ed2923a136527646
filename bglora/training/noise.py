"""The noise of a micro-batch: drawn from a generator, then put together as sd-scripts does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from bglora.training.options import NoiseOptions
from bglora.training.transfer import sent


@dataclass(frozen=True)
class Draws:
    """Everything random about a micro-batch's noise.

    Attributes:
        plain: (b, c, h, w).
        timesteps: (b,).
        offset: (b, c, 1, 1), or None without an offset.
        offset_strength: 0 to 1; the offset's strength as a share of the option's.
        octaves: pyramid noise from fine to coarse, (b, c, h_i, w_i).
        extra: (b, c, h, w), in the input alone; None without input perturbation.
        extra_strength: 0 to 1, as above.
    """

    plain: Tensor
    timesteps: Tensor
    offset: Tensor | None = None
    offset_strength: float = 1.0
    octaves: tuple[Tensor, ...] = field(default=())
    extra: Tensor | None = None
    extra_strength: float = 1.0

    def on(self, device: str) -> Draws:
        """The same draws on a device."""
        return replace(
            self,
            plain=sent(self.plain, device),
            timesteps=sent(self.timesteps, device),
            offset=None if self.offset is None else sent(self.offset, device),
            octaves=tuple(sent(octave, device) for octave in self.octaves),
            extra=None if self.extra is None else sent(self.extra, device),
        )


def draw(shape: tuple[int, ...], options: NoiseOptions, steps: int, generator: torch.Generator) -> Draws:
    """Draws for latents of a shape (b, c, h, w), and timesteps of a schedule of so many steps. All on the CPU."""

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    plain = torch.stack([normal(*shape[1:]) for _ in range(shape[0])])
    timesteps = draw_timesteps(shape[0], options, steps, generator)
    offset, offset_strength, octaves, extra, extra_strength = None, 1.0, [], None, 1.0
    if options.noise_offset:
        offset_strength = uniform() if options.noise_offset_random_strength else 1.0
        offset = normal(*shape[:2], 1, 1)
    for number in range(options.multires_noise_iterations):
        size = octave_size((shape[2], shape[3]), number, uniform())
        octaves.append(normal(*shape[:2], *size))
        if 1 in size:
            break
    if options.ip_noise_gamma:
        extra = normal(*shape)
        extra_strength = uniform() if options.ip_noise_gamma_random_strength else 1.0
    return Draws(plain, timesteps, offset, offset_strength, tuple(octaves), extra, extra_strength)


def draw_timesteps(count: int, options: NoiseOptions, steps: int, generator: torch.Generator) -> Tensor:
    """(count,) from min to max - 1; where that is no interval, all of them the max."""
    least, most = options.min_timestep, options.max_timestep or steps
    if least >= most:
        return torch.full((count,), most)
    return torch.randint(least, most, (count,), generator=generator)


def octave_size(size: tuple[int, int], number: int, drawn: float) -> tuple[int, int]:
    """Height and width of an octave: smaller by a factor of 2 to 4, drawn (0 to 1), to the power of its number."""
    factor = float((drawn * 2 + 2) ** number)
    return max(1, int(size[0] / factor)), max(1, int(size[1] / factor))


def compose(draws: Draws, latents: Tensor, options: NoiseOptions) -> Tensor:
    """The noise that is also the target: plain, with the offset (CrossLabs 2023), with the pyramid (Whitaker 2023)."""
    noise = draws.plain
    if draws.offset is not None:
        strength: float | Tensor = draws.offset_strength * options.noise_offset
        if options.adaptive_noise_scale:
            means = latents.mean(dim=(2, 3), keepdim=True).abs()
            strength = (strength + options.adaptive_noise_scale * means).clamp(min=0.0)
        noise = noise + strength * draws.offset
    if draws.octaves:
        for number, octave in enumerate(draws.octaves):
            grown = functional.interpolate(octave, size=noise.shape[2:], mode="bilinear")
            noise = noise + grown * options.multires_noise_discount**number
        noise = noise / noise.std()
    return noise


def perturbed(draws: Draws, noise: Tensor, options: NoiseOptions) -> Tensor:
    """The noise that the input gets: with input perturbation (Ning et al. 2023) more than the target has."""
    if draws.extra is None:
        return noise
    return noise + draws.extra_strength * options.ip_noise_gamma * draws.extra
