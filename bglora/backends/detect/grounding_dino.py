"""Characters by words: Grounding DINO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.nets.grounding import GroundingDino

REVISION = "grounding_dino/1"
DEFAULT = "grounding-dino-base"
LEAST = 0.3
"""Score from which something counts, unless `segment.min_score` says another one."""


def names_of_weights(settings: Any) -> dict[str, str]:
    """The key that names its weights, and their name."""
    return {"grounding": settings.grounding or DEFAULT}


def identity(settings: Any) -> str:
    """Revision and weights."""
    return f"{REVISION} {weights.identity(settings.grounding or DEFAULT)}"


def create(settings: Any) -> GroundingDino:
    """The detector with the settings of `segment`."""
    from bglora.nets.device import device
    from bglora.nets.grounding import GroundingDino

    folder = weights.find(settings.grounding or DEFAULT, setting="segment.grounding")
    return GroundingDino(folder, device(), settings.min_score or LEAST)
