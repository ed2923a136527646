"""Several processes that train together learn what one learns from as many pictures a step; they stop, go on and die
together. One pair of processes, started by accelerate, serves all tests of this file.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from bglora.backends.train import native
from bglora.backends.train.crew import FAILURE, ProcessDied
from bglora.errors import MachineError, UserError
from bglora.training.base import exact, load_base
from bglora.training.job import Paused, Recipe, TrainJob
from bglora.training.loop import Training, Watch
from bglora.training.loss import Batch
from bglora.training.plan import Plan
from bglora.training.processes import Processes
from tests.training.tiny_base import tiny_base
from tests.training.tiny_job import Watcher, tiny_job

LORA = Path("loras/scene-00.safetensors")
CHANGES: dict[str, Any] = {
    "processes": 2,
    "accumulation": 1,
    "text_encoders": True,
    "save_precision": "fp32",
    "keep": "last",
    "validate_every": 8,
}
"""With the text encoders there is more than one buffer of gradients."""


class Tools(Watcher):
    """Stops, or acts, once a step is reached: between two looks there may be more than one."""

    def __init__(self, root: Path, scratch: Path, at: int = 1 << 30, act: Callable[[], bool] = lambda: True) -> None:
        super().__init__(scratch, at, act)
        self.root = root

    def stopping(self) -> bool:
        return self.steps >= self.at and self.act()


@dataclass(frozen=True)
class Pair:
    """Two processes, what they are to train, and what came out when nobody stopped them."""

    home: Path
    trainer: native.Native
    job: TrainJob
    result: Any

    def train(self, name: str, *stop: Any) -> Any:
        return self.trainer.train(self.job, Tools(self.home, self.home / name, *stop))

    def lora(self, name: str) -> bytes:
        return (self.home / name / LORA).read_bytes()

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return {key: value for key, value in load_file(self.home / name / LORA).items() if not key.endswith("alpha")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home, trainer = tmp_path_factory.mktemp("pair"), native.create(None)
    job = replace(tiny_job(home / "pictures", **CHANGES), repeats=2)
    result = trainer.train(job, Tools(home, home / "whole"))
    yield Pair(home, trainer, job, result)
    assert trainer.crew is not None
    trainer.crew.close()


def test_two_processes_learn_what_one_learns_with_twice_the_accumulation(pair: Pair) -> None:
    alone = replace(pair.job, recipe=replace(pair.job.recipe, processes=1, accumulation=2))
    single = native.create(None).train(alone, Tools(pair.home, pair.home / "alone"))
    ours, theirs = pair.weights("whole"), pair.weights("alone")
    assert ours.keys() == theirs.keys()
    assert max(float(value.abs().max()) for value in theirs.values()) > 0.03  # they moved
    assert all(torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-6) for name in theirs)
    for one, other in zip(pair.result.record["curve"], single.record["curve"], strict=True):
        assert [value or 0.0 for value in one] == pytest.approx([value or 0.0 for value in other], rel=1e-6)
    for key in ("steps", "pictures_seen", "validation"):
        assert pair.result.record[key] == pytest.approx(single.record[key], rel=1e-6)
    assert [name for name in pair.result.outputs if "samples" in name]


def test_two_processes_learn_what_one_learns_with_twice_the_batch(pair: Pair, tmp_path: Path) -> None:
    alone = replace(pair.job, recipe=replace(pair.job.recipe, processes=1))
    base = load_base(str(tiny_base()))
    with exact(1):
        training = Training(alone, base, tmp_path, tmp_path, Watch(lambda *_: None, lambda: False))
        plan = Plan(training.plan.buckets, alone.repeats, alone.flip, pair.job.recipe)
        start = {name: weights.clone() for name, weights in training.parameters.items()}
        try:
            for step in range(plan.steps):
                batches = [training.batch(step, number, draws) for number, draws in enumerate(plan.batches(step))]
                training.learner.descend([joined(batches, plan.recipe.micro_batches)], plan.learning_rate(step))
            theirs = {name: weights.clone() for name, weights in training.parameters.items()}
        finally:
            training.adapter.detach()
    ours = pair.weights("whole")
    apart, way = distance(ours, theirs), distance(theirs, start)
    assert apart < 1e-4 * way  # Adam makes steps of one size, even of rounding


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([(one[name] - other[name]).norm() for name in other]).norm())


def joined(batches: list[Batch], size: int) -> Batch:
    """Batches as one of `size` pictures; a missing one is there with a weight of 0."""
    whole = [*batches, *[replace(batches[0], weights=torch.zeros_like(batches[0].weights))] * (size - len(batches))]
    parts = {field.name: [getattr(one, field.name) for one in whole] for field in fields(Batch)}
    return Batch(**{name: None if values[0] is None else torch.cat(values) for name, values in parts.items()})


def test_stopped_together_they_go_on_to_the_same_bytes(pair: Pair) -> None:
    with pytest.raises(Paused, match="scene-00 at step"):
        pair.train("stopped", 2)
    assert not (pair.home / "stopped" / LORA).exists()
    pair.train("stopped")
    assert pair.lora("stopped") == pair.lora("whole")


def test_what_one_process_refuses_ends_all_with_its_three_lines(pair: Pair) -> None:
    broken = replace(pair.job.pictures[0], image=pair.home / "nothing.png")
    job = replace(pair.job, pictures=(broken, *pair.job.pictures[1:]))
    with pytest.raises((UserError, OSError), match=r"nothing\.png"):
        pair.trainer.train(job, Tools(pair.home, pair.home / "broken"))


def test_a_process_that_dies_ends_all_with_the_reason(pair: Pair) -> None:
    crew = pair.trainer.crew
    assert crew is not None
    alive = [crew.pids[1]]

    def kill() -> bool:
        if alive:
            os.kill(alive.pop(), signal.SIGKILL)
        return False

    with pytest.raises(ProcessDied) as caught:
        pair.train("killed", 3, kill)
    assert caught.value.what == "Process 2 of 2 that trained together died: killed by SIGKILL."
    assert "same command" in caught.value.cure
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) for pid in crew.pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in crew.pids)


@pytest.mark.parametrize("count", [2, 3])
def test_together_the_processes_see_what_one_sees_and_none_sees_it_twice(count: int) -> None:
    recipe = Recipe(batch_size=1, accumulation=2, processes=count, epochs=2)
    plan = Plan([(64, 64)] * 7, 1, True, recipe)
    single = Plan([(64, 64)] * 7, 1, True, replace(recipe, processes=1, accumulation=2 * count))
    assert plan.steps == single.steps
    for step in range(plan.steps):
        parts = [Processes(number, count).share(plan.batches(step)) for number in range(count)]
        assert all(len(part) <= recipe.accumulation for part in parts)
        assert sorted((one for part in parts for one in part), key=lambda one: one[0]) == list(
            enumerate(single.batches(step))
        )


def test_a_training_that_another_launcher_has_started_several_times_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MachineError) as caught:
        native.create(None).train(tiny_job(tmp_path), Tools(tmp_path, tmp_path))
    assert "bglora set train.processes 2" in caught.value.cure


def test_the_launchers_report_is_read_by_its_own_lines_not_by_those_of_its_log() -> None:
    report = """E1125 api.py:1002] failed (exitcode: -15) local_rank: 0 (pid: 76) of binary: /usr/bin/python
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 77)  (SIGKILL)
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 76)  (SIGTERM)
"""
    assert [one.groups() for one in FAILURE.finditer(report)] == [("1", "-9"), ("0", "-15")]
