"""LaMa where little is missing, diffusion where much is: `inpaint.simple_below` is the border.

A stage that tries, rates and falls back asks `order` and runs the two engines by their own names; `create` is for
whoever wants one engine that decides by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        return self.fill_many([frame], [hole], seeds=[seed], prompts=[prompt])[0]

    def fill_many(
        self,
        frames: Sequence[np.ndarray],
        holes: Sequence[np.ndarray],
        *,
        seeds: Sequence[int],
        prompts: Sequence[str] | None = None,
    ) -> list[np.ndarray]:
        """See `BatchFillBackend.fill_many`: all small holes together, then all large ones."""
        words = prompts or [""] * len(frames)
        names = [order(self.settings.simple_below, float(hole.mean()))[0] for hole in holes]
        filled: dict[int, np.ndarray] = {}
        for name in dict.fromkeys(names):
            places = [place for place, wanted in enumerate(names) if wanted == name]
            made = self.resident.get("fill", name, self.settings, beside=self).fill_many(
                [frames[k] for k in places],
                [holes[k] for k in places],
                seeds=[seeds[k] for k in places],
                prompts=[words[k] for k in places],
            )
            filled |= dict(zip(places, made, strict=True))
        return [filled[k] for k in range(len(frames))]
