"""Recorded steps give what steps as they are give, and a reason stands where they are not used.

A card's recorder is replaced by one that remembers the call: what is tested is which tensors it reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bglora.training import graphs
from bglora.training.graphs import Graphs, graphs_for
from bglora.training.job import Recipe
from bglora.training.loop import Training
from bglora.training.options import DropoutOptions
from tests.training.test_memory import begun


class Remembered:
    """Replays by calling; the loss goes where the first call's went, as a graph's does."""

    def __init__(self, run: Callable[[], Tensor], result: Tensor, off: float) -> None:
        self.run, self.result, self.off = run, result, off

    def replay(self) -> None:
        self.result.copy_(self.run() * self.off)


class Rememberer:
    """Stands for the card: recording runs nothing, so gradients of the call that finds the loss's place are undone."""

    def __init__(self, training: Training, off: float = 1.0) -> None:
        self.grads, self.off, self.recorded = training.adapter.grads, off, 0

    def warm(self, run: Callable[[], Tensor]) -> Tensor:
        return run()

    def record(self, run: Callable[[], Tensor]) -> tuple[Remembered, Tensor]:
        before = [grads.clone() for grads in self.grads]
        result = torch.zeros_like(run())
        for grads, value in zip(self.grads, before, strict=True):
            grads.copy_(value)
        self.recorded += 1
        return Remembered(run, result, self.off), result


class Unrecordable(Rememberer):
    def record(self, run: Callable[[], Tensor]) -> tuple[Remembered, Tensor]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")


def after(training: Training, steps: int = 4) -> tuple[list[float], list[Tensor]]:
    try:
        losses = [float(training.descend(step)) for step in range(steps)]
        return losses, [value.clone() for value in training.adapter.parameters().values()]
    finally:
        training.adapter.detach()


def test_recorded_steps_train_to_the_same_weights(tmp_path: Path) -> None:
    plain = after(begun(tmp_path / "plain", {}))
    training = begun(tmp_path / "recorded", {})
    recorder = Rememberer(training)
    training.learner.graphs = Graphs(training.adapter, training.learner.accumulate, recorder)
    recorded = after(training)
    assert recorder.recorded == 1 and not training.learner.graphs.reason
    assert recorded[0] == pytest.approx(plain[0], rel=1e-6)
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(recorded[1], plain[1], strict=True))


@pytest.mark.parametrize(
    ("recorder", "reason"), [(lambda t: Rememberer(t, 1.5), "in place of"), (Unrecordable, "not permitted")]
)
def test_a_recording_that_fails_or_computes_something_else_is_not_used(
    tmp_path: Path, recorder: Callable[[Training], Rememberer], reason: str
) -> None:
    plain = after(begun(tmp_path / "plain", {}))
    training = begun(tmp_path / "recorded", {})
    training.learner.graphs = Graphs(training.adapter, training.learner.accumulate, recorder(training))
    found = after(training)
    assert reason in training.learner.graphs.reason and "more lines" not in training.learner.graphs.reason
    assert found[0] == pytest.approx(plain[0], rel=1e-6)


def test_more_shapes_than_are_recorded_run_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 0)
    training = begun(tmp_path, {})
    training.learner.graphs = Graphs(training.adapter, training.learner.accumulate, Rememberer(training))
    after(training)
    assert "more than 0 shapes" in training.learner.graphs.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cuda_graphs": False}, "train.cuda_graphs"),
        ({"gradient_checkpointing": True}, "checkpointing"),
        ({"dora": True}, "DoRA"),
        ({"text_encoders": True}, "encoders"),
        ({"dropout": DropoutOptions(0.1)}, "dropout"),
    ],
)
def test_what_cannot_be_recorded_is_told(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    recipe = replace(Recipe(), **change)  # type: ignore[arg-type]
    training = begun(tmp_path, {})
    training.adapter.detach()
    assert reason in graphs_for(training.adapter, recipe, training.learner.accumulate, "cuda")[1]
    assert training.learner.graphs is None and training.learner.not_recorded == ""  # on a CPU nobody asks
