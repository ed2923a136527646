"""Which backends stay in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bglora.backends.resident import Resident, measured_free_gb
from bglora.settings.plates import InpaintSettings
from bglora.settings.scenes import ClusterSettings
from tests.backends import tiny_diffusion as tiny
from tests.backends import tiny_lama


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


def test_who_is_at_work_stays_when_it_asks_for_another() -> None:
    resident = Resident(free_gb=lambda: 0.2)
    asking = resident.get("fill", "patch", InpaintSettings())
    resident.get("embed", "descriptor", ClusterSettings(), beside=asking)
    assert list(resident.loaded) == [("fill", "patch"), ("embed", "descriptor")]


def test_an_engine_gets_lama_from_where_it_was_gotten_itself(tmp_path: Path) -> None:
    lama = str(tiny_lama.checkpoint(tmp_path / "lama.safetensors"))
    settings = InpaintSettings(**tiny.brushnet_settings("sd15"), steps=2, lama_first=True, lama=lama)
    resident = Resident(free_gb=lambda: 100.0)
    engine = resident.get("fill", "brushnet", settings)
    hole = np.zeros((64, 64), bool)
    hole[20:30, 20:30] = True
    engine.fill(np.zeros((64, 64, 3), np.uint8), hole, seed=1)
    assert set(resident.loaded) == {("fill", "brushnet"), ("fill", "lama")}
    hybrid = resident.get("fill", "hybrid", settings)
    hybrid.fill(np.zeros((64, 64, 3), np.uint8), hole, seed=1)
    assert set(resident.loaded) == {("fill", "brushnet"), ("fill", "lama"), ("fill", "hybrid")}


def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's word on two cards: the second is ours. 1 GiB is free on it, and 2 of what PyTorch holds are unused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, given in {
        "mem_get_info": [(9 * 2**30, 80 * 2**30), (2**30, 24 * 2**30)],
        "memory_reserved": [0, 5 * 2**30],
        "memory_allocated": [0, 3 * 2**30],
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda where=None, given=given: given[where.index if where else 0])
    monkeypatch.setenv("BGLORA_DEVICE", "cuda:1")


def test_free_memory_is_that_of_the_card_in_use_with_what_pytorch_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    two_cards(monkeypatch)
    assert measured_free_gb() == 3
