"""Which backends stay in memory: all that fit; where the next one would not, those that are there go first."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from bglora import backends

ROOM = 1.1
"""A backend's stated need times this must be free before it is loaded beside others."""


class Resident:
    """Backends that are loaded, by role and name.

    Args:
        free_gb: tells how much memory is free where models live, in GB; measured if None.
    """

    def __init__(self, free_gb: Callable[[], float] | None = None) -> None:
        self.free_gb = free_gb or measured_free_gb
        self.loaded: dict[tuple[str, str], Any] = {}

    def get(self, role: str, name: str, settings: Any) -> Any:
        """The backend, loaded if it is not there; see `backends.load` for errors."""
        key = (role, name)
        if key not in self.loaded:
            if self.loaded and self.free_gb() < ROOM * _need_gb(role, name):
                self.clear()
            self.loaded[key] = backends.load(role, name, settings)
        return self.loaded[key]

    def clear(self) -> None:
        """Lets go of all backends and gives the card's memory back."""
        self.loaded.clear()
        gc.collect()
        if _on_card():
            import torch

            torch.cuda.empty_cache()


def free_on_card_gb() -> float | None:
    """Memory that is free on the card on which models run, GB; None where they run on the processor."""
    if not _on_card():
        return None
    import torch

    from bglora.nets.device import device

    return float(torch.cuda.mem_get_info(device())[0]) / 2**30


def measured_free_gb() -> float:
    """Memory that is free on the card, or in the machine where models run on the processor; GB."""
    free = free_on_card_gb()
    if free is not None:
        return free
    import psutil

    return float(psutil.virtual_memory().available) / 2**30


def _need_gb(role: str, name: str) -> float:
    entry = backends.find(role, name)
    return entry.gpu_gb if entry.gpu_gb and _on_card() else entry.memory_gb


def _on_card() -> bool:
    from bglora.nets.device import device

    return device().type == "cuda"
