"""Fill with BrushNet on a Stable Diffusion 1.5 or SDXL base: paints the hole by words and by what stands around it.

Memory on a card, computed, in float16, for a part of the largest size that is painted:

    Stable Diffusion 1.5    4.5 GB: UNet 1.6, BrushNet 1.2, text and VAE 0.4, at work 0.5, driver 0.5
    SDXL                    13 GB: UNet 4.8, BrushNet 0.7, text 1.5, VAE in float32 0.3, its decoder at work 4.5
    SDXL, `low_memory`      7 GB: only what is at work is on the card; the pictures are the same

and with `low_memory` about 0.9 GB for each further part that is painted at once (Stable Diffusion 1.5: 0.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bglora.backends import Needs, weights
from bglora.backends.fill import diffusion
from bglora.backends.fill.diffusion import DiffusionFill, Part
from bglora.backends.fill.sampling import sampling

if TYPE_CHECKING:
    import numpy as np

ALGORITHM = "brushnet/1"


def identity(settings: Any) -> str:
    """`brushnet/1 brushnet-sd15-random@… realistic-vision@…`, and the adapter and LaMa where they are used."""
    return diffusion.identity(ALGORITHM, settings, "brushnet", "brushnet_base")


def names_of_weights(settings: Any) -> dict[str, str]:
    """See `bglora.backends`."""
    return diffusion.names_of_weights(settings, "brushnet", "brushnet_base")


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`."""
    return diffusion.needs_of(settings, card_gb, settings.brushnet_base, small_gb=4.5, large_gb=13.0, saving_gb=7.0)


def create(settings: Any) -> BrushNetFill:
    """The engine, loaded.

    Raises:
        UserError: weights that are damaged, that are another model's, or that don't belong together.
        MachineError: weights that are not on this machine.
    """
    from bglora.nets import brushnet, diffusion_base
    from bglora.nets.brushnet_injection import check_fit
    from bglora.nets.device import device

    sampling(settings, "unipc")  # a name that says nothing is told before anything is loaded
    where = device()
    branch_path = weights.find(settings.brushnet, setting="inpaint.brushnet")
    branch = brushnet.load(branch_path, dtype=diffusion.number_type(where))
    pipeline = diffusion.load_base(settings.brushnet_base, "inpaint.brushnet_base", where)
    check_fit(pipeline.unet, branch, _places(settings))
    if settings.few_steps:
        diffusion.with_adapter(pipeline, settings.few_steps)
    for net in (pipeline.unet, pipeline.vae, branch):
        diffusion.in_fastest_layout(net, where)
    if not diffusion.saves_memory(settings, where):  # else each part comes when it is its turn
        diffusion.placed(pipeline, where, f"inpaint.brushnet_base = {settings.brushnet_base}")
        diffusion.placed(branch, where, f"inpaint.brushnet = {settings.brushnet}")
    return BrushNetFill(settings, pipeline, where, diffusion_base.native_side(pipeline), branch=branch)


def _places(settings: Any) -> str:
    return f"inpaint.brushnet = {settings.brushnet}, inpaint.brushnet_base = {settings.brushnet_base}"


@dataclass
class BrushNetFill(DiffusionFill):
    """The `fill` role. Prompts that were encoded are kept."""

    branch: Any = None
    _words: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def paint(self, parts: Sequence[Part]) -> list[np.ndarray]:
        """See `DiffusionFill.paint`."""
        import numpy as np
        import torch

        from bglora.nets import brushnet_painting as painting
        from bglora.nets import brushnet_pictures as pictures
        from bglora.nets.diffusion_base import cell

        pipeline, branch = self.pipeline, self.branch
        dtype, vae, cells = pipeline.unet.dtype, pipeline.vae, cell(pipeline)
        words = self._encoded([part.prompt for part in parts])
        self._bring(vae)
        height, width = parts[0].crop.size
        condition = painting.condition(
            vae, np.stack([part.picture for part in parts]), np.stack([part.hole for part in parts])
        )
        starts = [part.start for part in parts if part.start is not None]
        start = painting.masked_latents(vae, pictures.as_tensor(np.stack(starts))).to(dtype) if starts else None
        xl = branch.config.addition_embed_type is not None
        how = sampling(self.settings, "dpm++" if xl else "unipc")
        course = painting.Course(
            how.steps, how.guidance_scale, strength=self.settings.strength if start is not None else 1.0
        )
        shape = (vae.config.latent_channels, height // cells, width // cells)
        rows = len(parts) * (2 if how.guidance_scale > 1 else 1)
        self._bring(pipeline.unet, branch)
        latents = painting.denoise(
            pipeline.unet,
            branch,
            painting.sampler(how.sampler, self.scheduler),
            painting.noise_of([part.seed for part in parts], shape).to(self.device, dtype),
            condition.to(dtype),
            words,
            course,
            time_ids=painting.sizes(height, width, rows).to(self.device, dtype) if xl else None,
            start=start,
            generators=[torch.Generator().manual_seed(part.seed + 1) for part in parts],
        )
        self._bring(vae)
        # One picture at a time: the decoder takes more memory than the UNet.
        return [pictures.as_pictures(painting.decoded(vae, one[None]))[0] for one in latents]

    def _encoded(self, prompts: Sequence[str]) -> Any:
        """Rows of words for the parts; every prompt goes through the text encoders once."""
        from bglora.nets import brushnet_painting as painting

        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._words]
        if new:
            self._bring(*self._encoders())
        for prompt in new:
            self._words[prompt] = painting.encoded(self.pipeline, [prompt], [self.settings.negative_prompt])
        return painting.Words.joined([self._words[prompt] for prompt in prompts])

    def _encoders(self) -> list[Any]:
        found = [self.pipeline.text_encoder, getattr(self.pipeline, "text_encoder_2", None)]
        return [encoder for encoder in found if encoder is not None]

    def make_room(self) -> None:
        """See `DiffusionFill.make_room`."""
        self._bring()

    def _bring(self, *wanted: Any) -> None:
        """Where memory is to be saved, has only these networks on the card; the others wait in main memory."""
        if not self.low_memory:
            return
        everything = [self.pipeline.unet, self.branch, self.pipeline.vae, *self._encoders()]
        for net in everything:
            if all(net is not one for one in wanted):
                net.to("cpu")
        for net in wanted:
            net.to(self.device)
