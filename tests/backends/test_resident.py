"""Which backends stay in memory."""

from __future__ import annotations

from bglora.backends.resident import Resident, measured_free_gb
from bglora.settings.plates import InpaintSettings
from bglora.settings.scenes import ClusterSettings


def test_a_backend_is_loaded_once_while_memory_lasts() -> None:
    resident = Resident(free_gb=lambda: 100.0)
    patch = resident.get("fill", "patch", InpaintSettings())
    resident.get("embed", "descriptor", ClusterSettings())
    assert resident.get("fill", "patch", InpaintSettings()) is patch


def test_where_the_next_one_would_not_fit_those_that_are_there_go_first() -> None:
    resident = Resident(free_gb=lambda: 0.2)
    patch = resident.get("fill", "patch", InpaintSettings())
    assert resident.get("fill", "patch", InpaintSettings()) is patch
    resident.get("embed", "descriptor", ClusterSettings())
    assert list(resident.loaded) == [("embed", "descriptor")]


def test_free_memory_is_measured() -> None:
    assert 0.01 < measured_free_gb() < 100_000
