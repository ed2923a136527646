"""How diffusion engines paint: sampler, steps and guidance, also with an adapter that needs few steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bglora.errors import UserError

FEW = 8
"""Steps that such adapters need at most."""
LCM_GUIDANCE = 1.5
"""Guidance that latent consistency models bear at most: it is built in. The negative prompt counts a little."""


@dataclass(frozen=True)
class Sampling:
    """Sampler by its name in `nets.brushnet_painting.SAMPLERS`, steps, guidance scale (up to 1: none)."""

    sampler: str
    steps: int
    guidance_scale: float


def sampling(settings: Any, usual: str) -> Sampling:
    """What the settings ask for, adjusted to the adapter for few steps if they name one.

    An LCM adapter paints in at most 8 steps with guidance of at most 1.5; a Lightning or Hyper one in the number of
    steps that its name says, without guidance, so that the negative prompt has no effect.

    Args:
        usual: the sampler where the settings say "auto".

    Raises:
        UserError: it can't be told which kind of adapter it is.
    """
    name = settings.few_steps.lower()
    steps, guidance = settings.steps, settings.guidance_scale
    if not name:
        return Sampling(usual if settings.scheduler == "auto" else settings.scheduler, steps, guidance)
    if "lcm" in name:
        return Sampling("lcm", min(steps, FEW), min(guidance, LCM_GUIDANCE))
    if "lightning" in name or "hyper" in name:
        told = re.search(r"(\d+)[-_ ]?steps?", name)
        return Sampling("lightning", int(told.group(1)) if told else min(steps, FEW), 1.0)
    raise UserError(
        "It can't be told from its name what kind of adapter for few steps this is.",
        where=f"inpaint.few_steps = {settings.few_steps}",
        cure="Take one whose name has lcm, lightning or hyper in it, for instance lcm-lora-sd15; or leave it empty.",
    )
