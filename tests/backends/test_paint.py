"""The painter: LoRAs act by their scale, leave no trace, and are refused where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bglora import backends
from bglora.errors import UserError
from bglora.training import tensor_file
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lora")
    train(tiny_job(home / "pictures", epochs=3, samples=0, learning_rate=3e-2), Watcher(home))
    return home / "loras/scene-00.safetensors"


@pytest.fixture
def painter() -> Iterator[Any]:
    torch.set_num_threads(1)
    found = backends.load("paint", "diffusers", SimpleNamespace(base=str(tiny_base())))
    yield found
    found.close()


def paint(painter: Any, adapters: Any = (), seeds: Any = (1, 2), **more: Any) -> np.ndarray:
    return np.stack(painter.paint(["a town"] * len(seeds), "people", list(seeds), (64, 96), 3, 3.0, adapters, **more))


def test_pictures_have_the_asked_size_and_follow_their_seeds(painter: Any) -> None:
    pictures = paint(painter)
    assert pictures.shape == (2, 64, 96, 3) and pictures.dtype == np.uint8
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(paint(painter, seeds=(2, 1)), pictures[::-1])


def test_a_lora_acts_by_its_scale_and_scale_0_is_the_base_alone(painter: Any, lora: Path) -> None:
    plain = paint(painter).astype(int)
    np.testing.assert_array_equal(paint(painter, [(lora, 0.0)]), plain)
    half, full = paint(painter, [(lora, 0.5)]), paint(painter, [(lora, 2.0)])
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()
    painter.close()
    np.testing.assert_array_equal(paint(painter), plain)


def test_a_schedule_sets_the_scale_of_each_step(painter: Any, lora: Path) -> None:
    steady = paint(painter, [(lora, 2.0)])
    np.testing.assert_array_equal(paint(painter, [(lora, 0.0)], schedule=lambda step: [2.0]), steady)
    late = paint(painter, [(lora, 2.0)], schedule=lambda step: [0.0 if step < 2 else 2.0])
    assert (late != steady).any()


def test_a_lora_of_another_base_is_refused_and_leaves_no_trace(painter: Any, tmp_path: Path) -> None:
    plain = paint(painter)
    name = "lora_unet_input_blocks_4_1_proj_in"
    wrong = {
        f"{name}.lora_down.weight": torch.zeros(4, 640),
        f"{name}.lora_up.weight": torch.ones(640, 4),
        f"{name}.alpha": torch.tensor(4.0),
    }
    tensor_file.write(tmp_path / "foreign.safetensors", wrong, {})
    with pytest.raises(UserError) as caught:
        paint(painter, [(tmp_path / "foreign.safetensors", 1.0)])
    assert "another one" in caught.value.what and "train.base" in caught.value.cure
    np.testing.assert_array_equal(paint(painter), plain)


def test_plates_come_back_from_the_vae_in_their_size(painter: Any) -> None:
    plates = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    assert painter.as_painted(plates).shape == plates.shape
