"""Fill with an SDXL model through diffusers' own inpainting pipeline: one that was tuned to fill, or any SDXL model.

Memory on a card, computed, in float16, a part of 1280 x 1216 pixels, the largest that is painted: 12.3 GB (UNet 4.8,
text 1.5, VAE in float32 0.3, its decoder at work 4.5); 6 GB with `low_memory`, which has only what is at work there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bglora.backends import Needs
from bglora.backends.fill import diffusion
from bglora.backends.fill.diffusion import DiffusionFill, Part
from bglora.backends.fill.sampling import sampling

if TYPE_CHECKING:
    import numpy as np

ALGORITHM = "sdxl/2"


def identity(settings: Any) -> str:
    """`sdxl/2 sdxl-inpainting@…`, and the adapter and LaMa where they are used."""
    return diffusion.identity(ALGORITHM, settings, "sdxl")


def names_of_weights(settings: Any) -> dict[str, str]:
    """See `bglora.backends`."""
    return diffusion.names_of_weights(settings, "sdxl")


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`."""
    return diffusion.needs_of(settings, card_gb, settings.sdxl, small_gb=12.3, large_gb=12.3, saving_gb=6.0)


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
    pipeline = diffusion.load_base(settings.sdxl, "inpaint.sdxl", where, inpainting=True)
    if settings.few_steps:
        diffusion.with_adapter(pipeline, settings.few_steps)
    for net in (pipeline.unet, pipeline.vae):
        diffusion.in_fastest_layout(net, where)
    engine = SDXLFill(settings, pipeline, where, diffusion_base.native_side(pipeline))
    if engine.low_memory and where.type == "cuda":
        pipeline.enable_model_cpu_offload(device=where)
    else:
        diffusion.placed(pipeline, where, f"inpaint.sdxl = {settings.sdxl}")
    return engine


def seen_strength(steps: int, strength: float) -> float:
    """A strength with which diffusers' pipeline takes one step at least, however few there are.

    It takes `int(steps * strength)` of them; where that is none, the last one is taken.
    """
    return strength if int(steps * strength) else min(1.0, 1.5 / steps)


@dataclass
class SDXLFill(DiffusionFill):
    """The `fill` role."""

    def __post_init__(self) -> None:
        super().__post_init__()
        vae, numbers = self.pipeline.vae, self.pipeline.unet.dtype
        if vae.config.force_upcast and vae.dtype != numbers:
            # The pipeline leaves the VAE in the UNet's numbers after encoding. Rounded to these now, its weights are
            # the same for the first picture as for all later ones.
            whole = vae.dtype
            vae.to(numbers).to(whole)

    def make_room(self) -> None:
        """See `DiffusionFill.make_room`."""
        self.pipeline.maybe_free_model_hooks()

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
            strength=seen_strength(how.steps, self.settings.strength) if seeded else 1.0,
            generator=[torch.Generator().manual_seed(part.seed) for part in parts],
            output_type="latent",
        ).images
        if self.pipeline.vae.config.force_upcast:
            self.pipeline.vae.to(torch.float32)  # the pipeline leaves it in half precision, in which it overflows
        found: list[np.ndarray] = []
        for one in latents:
            found += list(pictures.as_pictures(painting.decoded(self.pipeline.vae, one[None])))
        return found
