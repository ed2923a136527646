"""What a state on disk gives back to the optimizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from bglora.training import state
from bglora.training.adapter import Adapter
from bglora.training.base import load_base
from bglora.training.learner import Learner
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import RECIPE


def learner(device: str) -> Learner:
    base = load_base(str(tiny_base()))
    unet: Any = copy.deepcopy(base.unet).to(device)
    return Learner(base, Adapter(unet, 4, 3.0, seed=0), RECIPE)


def test_all_that_an_optimizer_keeps_comes_back_in_its_format_on_the_weights_device(tmp_path: Path) -> None:
    saved, path = learner("cpu"), tmp_path / "state.safetensors"
    (weights,) = saved.weights
    kept = {"step": torch.tensor(7.0), "state1": torch.arange(9, dtype=torch.uint8)}  # fused AdamW's, 8-bit AdamW's
    saved.optimizer.state[weights] |= {**kept, "count": 7}
    state.save(path, saved, state.Progress(step=7), "origin")
    for device in ("cpu", "meta"):
        loaded = learner(device)
        assert state.load(path, loaded).step == 7
        found = loaded.optimizer.state[loaded.weights[0]]
        assert found["count"] == 7
        assert {name: (found[name].device.type, found[name].dtype) for name in kept} == {
            "step": (device, torch.float32),
            "state1": (device, torch.uint8),
        }
        assert device == "meta" or all(torch.equal(found[name], value) for name, value in kept.items())
