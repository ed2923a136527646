"""Characters by words: OWLv2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.nets.grounding import Owlv2

REVISION = "owlv2/1"
DEFAULT = "owlv2-base"
LEAST = 0.2
"""Score from which something counts, unless `segment.min_score` says another one."""


def names_of_weights(settings: Any) -> dict[str, str]:
    """The key that names its weights, and their name."""
    return {"grounding": settings.grounding or DEFAULT}


def identity(settings: Any) -> str:
    """Revision and weights."""
    return f"{REVISION} {weights.identity(settings.grounding or DEFAULT)}"


def create(settings: Any) -> Owlv2:
    """The detector with the settings of `segment`."""
    from bglora.nets.device import device
    from bglora.nets.grounding import Owlv2

    folder = weights.find(settings.grounding or DEFAULT, setting="segment.grounding")
    return Owlv2(folder, device(), settings.min_score or LEAST)
