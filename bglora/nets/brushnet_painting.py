"""Filling holes with BrushNet and a stock diffusion model: what goes in, the denoising, what comes out.

Rows of a batch under classifier-free guidance: those without the prompt first, then those with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bglora.nets import brushnet_pictures
from bglora.nets.brushnet import BrushNet
from bglora.nets.brushnet_injection import Slots, injected, with_zeros

SAMPLERS = {
    "unipc": ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lightning": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
}
"""diffusers' class of each sampler, and what differs from the base model's own config. The authors' UniPC ends at the
smallest noise that was trained on; that of current diffusers would go on to none."""


@dataclass(frozen=True)
class Words:
    """Prompts as the text encoders see them, a row a picture.

    Attributes:
        prompt, negative: (n, 77, d).
        pooled, negative_pooled: (n, p); SDXL only.
    """

    prompt: Tensor
    negative: Tensor
    pooled: Tensor | None = None
    negative_pooled: Tensor | None = None

    @classmethod
    def joined(cls, rows: Sequence[Words]) -> Words:
        """The words of several pictures, one after the other."""
        prompt, negative = torch.cat([row.prompt for row in rows]), torch.cat([row.negative for row in rows])
        pooled = [row.pooled for row in rows if row.pooled is not None]
        negative_pooled = [row.negative_pooled for row in rows if row.negative_pooled is not None]
        return cls(
            prompt,
            negative,
            torch.cat(pooled) if pooled else None,
            torch.cat(negative_pooled) if negative_pooled else None,
        )

    def rows(self, guided: bool) -> tuple[Tensor, Tensor | None]:
        """Both for the UNet, the negative half first if there is guidance."""
        if not guided:
            return self.prompt, self.pooled
        pooled = None
        if self.pooled is not None and self.negative_pooled is not None:
            pooled = torch.cat([self.negative_pooled, self.pooled])
        return torch.cat([self.negative, self.prompt]), pooled


@dataclass(frozen=True)
class Course:
    """How a picture is painted.

    Attributes:
        steps: of denoising.
        guidance_scale: classifier-free guidance; up to 1 there is none, and the negative prompt has no effect.
        scale: by what BrushNet's features are multiplied.
        window: part of the steps, from and to (0 to 1), in which BrushNet acts.
        guess: BrushNet acts on the rows with the prompt only, weaker at the first layers.
        strength: share of the noise that a given start picture is covered with; 1: pure noise, nothing is seen of it.
    """

    steps: int = 50
    guidance_scale: float = 7.5
    scale: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)
    guess: bool = False
    strength: float = 1.0

    def acts(self, step: int, steps: int) -> bool:
        """True if BrushNet acts in step `step` of `steps`."""
        return step / steps >= self.window[0] and (step + 1) / steps <= self.window[1] and self.scale != 0


def sampler(name: str, base: Any) -> Any:
    """A scheduler of diffusers by one of `SAMPLERS`, with the noise of the base model's own scheduler `base`."""
    import diffusers

    kind, more = SAMPLERS[name]
    return getattr(diffusers, kind).from_config(base.config, **more)


@torch.inference_mode()
def masked_latents(vae: Any, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
    """Latents (n, 4, h, w) of pictures (n, 3, H, W), -1 to 1, scaled.

    Args:
        noise: (m n, 4, h, w), draws from the VAE's distribution, the pictures m times over. None: its mode. The
            research code draws, from a generator of its own that no seed reaches; the spread is tiny in trained VAEs.
    """
    # One picture at a time: in float32, four of SDXL's would take more memory than its UNet.
    found = [vae.encode(one[None]).latent_dist for one in pictures.to(vae.device, vae.dtype)]
    mean = torch.cat([one.mean for one in found])
    if noise is None:
        return mean * float(vae.config.scaling_factor)
    spread = torch.cat([one.std for one in found])
    mean, spread = (value.repeat(len(noise) // len(value), 1, 1, 1) for value in (mean, spread))
    return drawn(mean, spread, noise) * float(vae.config.scaling_factor)


def drawn(mean: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    """A draw from a normal distribution with given noise."""
    return mean + spread * noise.to(mean)


def conditioned(latents: Tensor, kept_cells: Tensor) -> Tensor:
    """BrushNet's condition (n, 5, h, w): latents of the blacked-out pictures and the mask, 1 where kept.

    With m n latents for n masks the masks serve m times over.
    """
    masks = kept_cells.to(latents).repeat(len(latents) // len(kept_cells), 1, 1, 1)
    return torch.cat([latents, masks], 1)


def condition(vae: Any, pictures: brushnet_pictures.Pictures, holes: Any, noise: Tensor | None = None) -> Tensor:
    """BrushNet's condition from uint8 pictures (n, H, W, 3) with holes (n, H, W), bool or white from 128 on."""
    kept = brushnet_pictures.kept(holes)
    blacked = brushnet_pictures.blacked_out(pictures, 1 - kept[:, 0].numpy())
    latents = masked_latents(vae, brushnet_pictures.as_tensor(blacked), noise)
    cell = int(2 ** (len(vae.config.block_out_channels) - 1))
    return conditioned(latents, brushnet_pictures.kept_cells(kept, cell))


@torch.inference_mode()
def decoded(vae: Any, latents: Tensor) -> Tensor:
    """Pictures (n, 3, H, W), about -1 to 1, of latents."""
    return torch.as_tensor(vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample)


class Denoiser:
    """Predicts the noise of one step with both networks. Attached between `with injected(unet) as slots`."""

    def __init__(self, unet: Any, brushnet: BrushNet, slots: Slots, words: Words, course: Course) -> None:
        self.unet, self.brushnet, self.slots, self.course = unet, brushnet, slots, course
        self.guided = course.guidance_scale > 1 and unet.config.time_cond_proj_dim is None
        self.text, self.pooled = words.rows(self.guided)
        self.scales = brushnet.scales(course.scale, guess=course.guess)
        self.time_ids: Tensor | None = None
        self.added: Tensor | None = None

    def size(self, time_ids: Tensor) -> None:
        """The pictures' sizes (rows of the UNet, 6); SDXL only."""
        self.time_ids = time_ids
        pooled, sizes = self._steered(self.pooled), self._steered(time_ids)
        if pooled is not None and sizes is not None:
            self.added = self.brushnet.added(pooled, sizes)

    def _steered(self, rows: Tensor | None) -> Tensor | None:
        """The rows that BrushNet runs on."""
        return rows[len(rows) // 2 :] if rows is not None and self.guided and self.course.guess else rows

    def noise(self, latents: Tensor, timestep: Tensor, condition: Tensor, active: bool) -> Tensor:
        """The noise in latents (n, 4, h, w), guided.

        Args:
            condition: (n, 5, h, w), or (2 n, 5, h, w) where both halves differ. With n rows what no text touches is
                computed once: all of BrushNet for Stable Diffusion 1.5; for SDXL what comes before the first residual
                block, into which the time embedding brings the text.
        """
        rows = torch.cat([latents, latents]) if self.guided else latents
        if active:
            self._steer(latents, timestep, condition)
        else:
            self.slots.clear()
        named: dict[str, Any] = {}
        if self.pooled is not None:
            named["added_cond_kwargs"] = {"text_embeds": self.pooled, "time_ids": self.time_ids}
        found = self.unet(rows, timestep, encoder_hidden_states=self.text, return_dict=False, **named)[0]
        if not self.guided:
            return torch.as_tensor(found)
        without, with_prompt = found.chunk(2)
        return torch.as_tensor(without + self.course.guidance_scale * (with_prompt - without))

    def _steer(self, latents: Tensor, timestep: Tensor, condition: Tensor) -> None:
        only_prompt = self.guided and self.course.guess
        if only_prompt:
            condition = condition[: len(latents)]
        seen = torch.cat([latents, latents]) if len(condition) > len(latents) else latents
        features = self.brushnet(seen, timestep, condition, self.added, self.scales)
        self.slots.put(with_zeros(features, len(latents)) if only_prompt else features)


@torch.inference_mode()
def denoise(
    unet: Any,
    brushnet: BrushNet,
    scheduler: Any,
    noise: Tensor,
    condition: Tensor,
    words: Words,
    course: Course,
    *,
    time_ids: Tensor | None = None,
    start: Tensor | None = None,
    generators: Sequence[torch.Generator] | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """From noise (n, 4, h, w) to latents, steered by BrushNet.

    Args:
        condition: from `condition` or `conditioned`: (n, 5, h, w), or (2 n, 5, h, w) for two differing halves.
        time_ids: (rows of the UNet, 6) for SDXL; see `sizes`.
        start: scaled latents (n, 4, h, w) of a picture to start from, under noise as `course.strength` says.
        generators: one a picture, for samplers that add noise on the way.
        on_step: called with the step's number from 0 and the latents after it.
    """
    scheduler.set_timesteps(course.steps, device=noise.device)
    latents, timesteps = _started(scheduler, noise, start, course)
    more = {"generator": list(generators)} if generators and _takes_generator(scheduler) else {}
    with injected(unet) as slots:
        denoiser = Denoiser(unet, brushnet, slots, words, course)
        if time_ids is not None:
            denoiser.size(time_ids)
        for step, timestep in enumerate(timesteps):
            scaled = scheduler.scale_model_input(latents, timestep)
            predicted = denoiser.noise(scaled, timestep, condition, course.acts(step, len(timesteps)))
            latents = scheduler.step(predicted, timestep, latents, return_dict=False, **more)[0]
            if on_step is not None:
                on_step(step, latents)
    return latents


def _started(scheduler: Any, noise: Tensor, start: Tensor | None, course: Course) -> tuple[Tensor, Tensor]:
    if start is None or course.strength >= 1:
        return noise * scheduler.init_noise_sigma, scheduler.timesteps
    first = min(course.steps - 1, course.steps - int(course.steps * course.strength)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # those that count their steps
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    return scheduler.add_noise(start.to(noise), noise, timesteps[:1].repeat(len(noise))), timesteps


def _takes_generator(scheduler: Any) -> bool:
    import inspect

    return "generator" in inspect.signature(scheduler.step).parameters


def sizes(height: int, width: int, rows: int) -> Tensor:
    """SDXL's time ids of pictures that are whole and of this size: (rows, 6)."""
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(rows, 1)


def noise_of(seeds: Iterable[int], shape: tuple[int, int, int]) -> Tensor:
    """Normal noise, (n, *shape), drawn on the CPU: a seed starts from the same noise on every device, in any batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.inference_mode()
def encoded(pipeline: Any, prompts: Sequence[str], negatives: Sequence[str]) -> Words:
    """The prompts, a negative one for each, through the text encoders of a stock pipeline of SD or SDXL."""
    found = pipeline.encode_prompt(
        prompt=list(prompts),
        negative_prompt=list(negatives),
        device=pipeline.text_encoder.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    return Words(*found)
