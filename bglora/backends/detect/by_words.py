"""What the detectors have in common as backends: they differ in their network, its weights and its usual score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bglora.backends import weights


@dataclass(frozen=True)
class ByWords:
    """A detector of `nets.grounding` as a backend; its methods are what a backend's module offers.

    Attributes:
        revision: of the backend. network: name of the class. default: weights where `segment.grounding` is empty.
        least: score from which something counts, unless `segment.min_score` says another one.
    """

    revision: str
    network: str
    default: str
    least: float

    def names_of_weights(self, settings: Any) -> dict[str, str]:
        """The key that names its weights, and their name."""
        return {"grounding": settings.grounding or self.default}

    def identity(self, settings: Any) -> str:
        """Revision and weights."""
        return f"{self.revision} {weights.identity(settings.grounding or self.default)}"

    def create(self, settings: Any) -> Any:
        """The detector with the settings of `segment`."""
        from bglora.nets import grounding
        from bglora.nets.device import device

        folder = weights.find(settings.grounding or self.default, setting="segment.grounding")
        return getattr(grounding, self.network)(folder, device(), settings.min_score or self.least)
