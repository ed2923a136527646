"""LaMa where little is missing, diffusion where much is: `inpaint.simple_below` is the border.

A stage that tries, rates and falls back asks `order` and runs the two engines by their own names; `create` is for
whoever wants one engine that decides by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.backends.resident import Resident

if TYPE_CHECKING:
    import numpy as np

SIMPLE, STRONG = "lama", "brushnet"


def order(simple_below: float, share: float | None = None) -> list[str]:
    """The two engines in the order in which they are tried.

    Args:
        simple_below: share of the frame (0 to 1) below which LaMa comes first.
        share: share of the frame that is missing; None: as for a small hole.
    """
    return [SIMPLE, STRONG] if share is None or share < simple_below else [STRONG, SIMPLE]


def identity(settings: Any) -> str:
    """What both engines are."""
    return "+".join(("hybrid/1", *(backends.identity("fill", name, settings) for name in (SIMPLE, STRONG))))


def needs(settings: Any, card_gb: float) -> backends.Needs:
    """See `bglora.backends.needs`: what the larger of both takes, for they take turns where memory is short."""
    each = [backends.needs("fill", name, settings, card_gb) for name in (SIMPLE, STRONG)]
    return backends.Needs(max(one.memory_gb for one in each), max(one.gpu_gb for one in each))


def create(settings: Any) -> Hybrid:
    """`settings`: the table [inpaint]. The engines are loaded when a hole first asks for them."""
    return Hybrid(settings)


class Hybrid:
    """One of two engines for each hole, by how much of the frame it takes."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.resident = Resident()

    def fill(self, frame: np.ndarray, hole: np.ndarray, *, seed: int, prompt: str = "") -> np.ndarray:
        """See `FillBackend.fill`."""
        name = order(self.settings.simple_below, float(hole.mean()))[0]
        engine = self.resident.get("fill", name, self.settings, beside=self)
        return engine.fill(frame, hole, seed=seed, prompt=prompt)
