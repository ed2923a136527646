"""Fill with an SDXL model through diffusers' own inpainting pipeline: one that was tuned to fill, or any SDXL model.

Computed memory on a card, float16, at 1024 x 1024 pixels and batch 1: 11.5 GB (UNet 5.1, text 1.6, VAE in float32 0.3,
its decoder's activations 4), 9 GB with `low_memory`, which has one part of the model on the card at a time and decodes
in tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bglora.backends import weights
from bglora.backends.fill.diffusion import DiffusionFill, Part, number_type, placed, with_adapter
from bglora.backends.fill.sampling import sampling

if TYPE_CHECKING:
    import numpy as np

ALGORITHM = "sdxl/1"


def identity(settings: Any) -> str:
    """`sdxl/1 sdxl-inpainting@…`, and the adapter and LaMa where they are used."""
    from bglora import backends

    names = [settings.sdxl, *filter(None, [settings.few_steps])]
    known = " ".join([ALGORITHM, *map(weights.identity, names)])
    return f"{known} {backends.identity('fill', 'lama', settings)}" if settings.lama_first else known


def create(settings: Any) -> SDXLFill:
    """The engine, loaded.

    Raises:
        UserError: weights that are damaged or another model's.
        MachineError: weights that are not on this machine.
    """
    from bglora.nets import diffusion_base
    from bglora.nets.device import device

    sampling(settings, "dpm++")
    where = device()
    path = weights.find(settings.sdxl, setting="inpaint.sdxl")
    pipeline = diffusion_base.load(path, setting="inpaint.sdxl", dtype=number_type(where), inpainting=True)
    if settings.few_steps:
        with_adapter(pipeline, settings.few_steps)
    engine = SDXLFill(settings, pipeline, where, diffusion_base.native_side(pipeline))
    if engine.low_memory and where.type == "cuda":
        pipeline.enable_model_cpu_offload(device=where)
    else:
        placed(pipeline, where)
    if engine.low_memory:
        pipeline.vae.enable_tiling()
    return engine


@dataclass
class SDXLFill(DiffusionFill):
    """The `fill` role."""

    def paint(self, parts: Sequence[Part]) -> list[np.ndarray]:
        """See `DiffusionFill.paint`."""
        import torch
        from PIL import Image

        from bglora.nets import brushnet_painting as painting
        from bglora.nets import brushnet_pictures as pictures

        how = sampling(self.settings, "dpm++")
        self.pipeline.scheduler = painting.sampler(how.sampler, self.scheduler)
        seeded = all(part.start is not None for part in parts)
        height, width = parts[0].crop.size
        latents = self.pipeline(
            prompt=[part.prompt for part in parts],
            negative_prompt=[self.settings.negative_prompt] * len(parts),
            image=[Image.fromarray(part.picture if part.start is None else part.start) for part in parts],
            mask_image=[Image.fromarray(part.hole.astype("uint8") * 255) for part in parts],
            height=height,
            width=width,
            num_inference_steps=how.steps,
            guidance_scale=how.guidance_scale,
            # Just below 1 the pipeline starts from pure noise, but keeps known latents of an ordinary model.
            strength=self.settings.strength if seeded else 0.9999,
            generator=[torch.Generator().manual_seed(part.seed) for part in parts],
            output_type="latent",
        ).images
        if self.pipeline.vae.config.force_upcast:
            self.pipeline.vae.to(torch.float32)  # the pipeline leaves it in half precision, in which it overflows
        found: list[np.ndarray] = []
        for one in latents:
            found += list(pictures.as_pictures(painting.decoded(self.pipeline.vae, one[None])))
        return found
