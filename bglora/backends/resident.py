"""Which backends stay in memory: all that fit; where the next one would not, those that are there go first."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from bglora import backends

ROOM = 1.1
"""A backend's stated need times this must be free before it is loaded beside others."""
KEY = "backends"
"""By which a stage's items share one (`Tools.once`): whatever a stage loads, it loads here, or memory isn't managed."""


class Resident:
    """Backends that are loaded, by role and name.

    Args:
        free_gb: tells how much memory is free where models live, in GB; measured if None.
    """

    def __init__(self, free_gb: Callable[[], float] | None = None) -> None:
        self.free_gb = free_gb or measured_free_gb
        self.loaded: dict[tuple[str, str], Any] = {}

    def get(self, role: str, name: str, settings: Any, beside: Any = None) -> Any:
        """The backend, loaded if it is not there; see `backends.load` for errors.

        A backend that has others work for it has an attribute `resident`: it is given this one, to get them from.

        Args:
            beside: a loaded backend that is at work and stays: the one that asks.
        """
        key = (role, name)
        if key not in self.loaded:
            if self.loaded and self.free_gb() < ROOM * _need_gb(role, name, settings):
                self.clear(beside)
            loaded = backends.load(role, name, settings)
            if hasattr(loaded, "resident"):
                loaded.resident = self
            self.loaded[key] = loaded
        return self.loaded[key]

    def clear(self, beside: Any = None) -> None:
        """Lets go of all backends but one that is at work, and gives the card's memory back."""
        self.loaded = {key: one for key, one in self.loaded.items() if one is beside}
        if find_spec("torch") is not None:
            from bglora.nets.device import give_back

            give_back()


def free_on_card_gb() -> float | None:
    """Memory that is free on the card on which models run, GB; None where they run on the processor."""
    from bglora.nets.device import card_gb

    return measured_free_gb() if card_gb() else None


def measured_free_gb() -> float:
    """Memory that is free on the card, or in the machine where models run on the processor; GB."""
    from bglora.nets.device import device, free_bytes

    return free_bytes(device()) / 2**30


def _need_gb(role: str, name: str, settings: Any) -> float:
    from bglora.nets.device import card_gb

    card = card_gb()
    need = backends.needs(role, name, settings, card)
    return need.gpu_gb if need.gpu_gb and card else need.memory_gb
