"""Training: it learns, it goes on bit by bit after a kill or a stop, and it stops on nonsense."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.overrides import TorchFunctionMode

from bglora.errors import MachineError, UserError
from bglora.training import memory
from bglora.training.base import load_base
from bglora.training.job import Paused
from bglora.training.loop import LOG_EVERY, Training, Watch
from tests.bench.train_cpu import counted
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], dict[str, object]]:
    """A training that was never stopped: pictures folder, output bytes, record."""
    home = tmp_path_factory.mktemp("whole")
    result = train(tiny_job(home / "pictures"), Watcher(home / "out"))
    return home / "pictures", read(home / "out", result.outputs), dict(result.record)


def read(folder: Path, outputs: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in outputs}


def test_the_same_job_gives_the_same_bytes(whole: tuple, tmp_path: Path) -> None:
    pictures, expected, _ = whole
    result = train(tiny_job(pictures), Watcher(tmp_path))
    assert read(tmp_path, result.outputs) == expected


def test_killed_by_the_system_it_goes_on_to_the_same_bytes(whole: tuple, tmp_path: Path) -> None:
    pictures, expected, _ = whole
    command = [sys.executable, "-m", "tests.training.tiny_job", str(pictures), str(tiny_base()), str(tmp_path), "5"]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode != 0
    assert not (tmp_path / "loras/scene-00.safetensors").exists()
    assert (tmp_path / "state/scene-00/state.safetensors").exists()
    watcher = Watcher(tmp_path)
    result = train(tiny_job(pictures), watcher)
    assert read(tmp_path, result.outputs) == expected


@pytest.mark.parametrize("step", [1, 3, 4])
def test_asked_to_stop_it_saves_and_goes_on_to_the_same_bytes(whole: tuple, tmp_path: Path, step: int) -> None:
    pictures, expected, _ = whole
    job = tiny_job(pictures)
    with pytest.raises(Paused):
        train(job, Watcher(tmp_path, step))
    result = train(job, Watcher(tmp_path))
    assert read(tmp_path, result.outputs) == expected


def test_checkpoints_may_come_more_or_less_often_without_changing_the_result(whole: tuple, tmp_path: Path) -> None:
    pictures, expected, _ = whole
    result = train(tiny_job(pictures, checkpoint_every=100), Watcher(tmp_path))
    assert read(tmp_path, result.outputs) == expected


def test_the_record_tells_steps_and_pictures_apart(whole: tuple) -> None:
    record = whole[2]
    assert record["steps"] == 6  # five pictures, batches of one, groups of two: three steps an epoch
    assert record["pictures_seen"] == 10
    steps = [point[0] for point in record["curve"]]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 6
    validated = [point[0] for point in record["curve"] if point[2] is not None]
    assert validated == [0, 3, 6]
    log = [json.loads(line) for line in whole[1]["loras/scene-00/log.jsonl"].splitlines()]
    assert [line["step"] for line in log] == steps


def test_training_lowers_the_loss_on_pictures_it_learns_from(tmp_path: Path) -> None:
    job = tiny_job(
        tmp_path / "pictures", epochs=25, samples=0, validate_every=25, batch_size=4, accumulation=1, learning_rate=3e-2
    )
    job = replace(job, pictures=job.pictures[:1], repeats=4, held_out=job.pictures[:1])
    record = train(job, Watcher(tmp_path)).record
    assert record["validation"] < 0.985 * record["validation_before"]


def test_nothing_is_learned_from_what_is_not_trusted(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", epochs=1, samples=0)
    for picture in job.pictures:
        Image.fromarray(np.full((72, 128), 3, np.uint8)).save(picture.provenance)
    record = train(job, Watcher(tmp_path)).record
    assert record["loss"] == 0.0


def test_one_picture_without_anything_held_out_is_enough_to_train(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", epochs=2, samples=1)
    result = train(replace(job, pictures=job.pictures[:1], held_out=()), Watcher(tmp_path))
    assert result.record["validation"] is None
    assert result.record["kept_step"] == result.record["steps"] == 2


def test_a_loss_that_is_not_a_number_stops_with_its_step_named(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", learning_rate=1.0, max_grad_norm=0.0, epochs=200, samples=0, weight_decay=0.0)
    job = replace(job, recipe=replace(job.recipe, learning_rate=1e12))
    with pytest.raises(UserError) as caught:
        train(job, Watcher(tmp_path))
    assert "at step" in caught.value.what
    assert "train.learning_rate" in caught.value.cure


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    before = {name: type(module) for name, module in base.unet.named_modules()}
    train(tiny_job(tmp_path / "pictures", epochs=1, samples=0), Watcher(tmp_path))
    assert {name: type(module) for name, module in base.unet.named_modules()} == before


def test_gradient_checkpointing_gives_the_same_weights(tmp_path: Path) -> None:
    outputs = []
    for name, checkpointing in (("plain", False), ("recomputed", True)):
        job = tiny_job(tmp_path / "pictures", epochs=1, samples=0, gradient_checkpointing=checkpointing)
        result = train(job, Watcher(tmp_path / name))
        outputs.append([point[1] for point in result.record["curve"][1:]])
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-5)


def test_too_little_memory_is_refused_with_the_setting_that_fits(tmp_path: Path) -> None:
    base = load_base(str(tiny_base()))
    recipe = replace(tiny_job(tmp_path).recipe, batch_size=8)
    need = memory.estimate(base, recipe, (64, 96))
    leaner = memory.estimate(base, replace(recipe, gradient_checkpointing=True), (64, 96))
    assert leaner.activations < need.activations
    free = leaner.total - leaner.base + 1
    with pytest.raises(MachineError) as caught:
        memory.check(base, recipe, (64, 96), free=free, force=False)
    assert "bglora set train.gradient_checkpointing true" in caught.value.cure
    assert memory.check(base, recipe, (64, 96), free=free, force=True)["total"] > 0


class Reads(TorchFunctionMode):
    """Notes what takes a number out of a tensor, for which a program waits until the device has computed it."""

    READING = ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in self.READING:
            self.found.append(function.__name__)
        return function(*args, **kwargs or {})


def test_between_log_lines_nothing_waits_for_a_number(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "pictures", epochs=200, samples=0, checkpoint_every=1000, validate_every=1000, ema=0.9)
    training = Training(job, load_base(job.base), tmp_path, tmp_path / "samples", Watch(lambda *_: None, lambda: False))
    try:
        training._look(0.0)
        while training.progress.step < LOG_EVERY - 2:
            training._advance()
        with Reads() as reads:
            operations = counted(training._advance)[1]
            assert reads.found == []
            assert 0 < operations <= 30
            training._advance()
            assert reads.found  # what the log line shows
        assert [point[0] for point in training.progress.curve] == [0, 3, 6, 9]  # no point is lost by reading late
    finally:
        training.adapter.detach()
