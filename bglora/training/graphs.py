"""A micro-batch's forward and backward pass, recorded once for each shape and replayed (CUDA graphs).

It takes the host out of the step: launching some ten thousand small kernels costs more than computing them.
Only on a card, where results differ in their last bits from run to run anyhow; on a CPU nothing of this is used. What
was recorded is checked against the step as it is before it is used, and where it cannot be, the reason is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from bglora.training.adapter import Adapter
from bglora.training.job import Recipe
from bglora.training.loss import Batch

MOST = 12
"""Shapes that are recorded; what comes after them runs as it is."""
OFF = 1e-2
"""Relative difference of loss and gradients' norms at which a recording is not used: bf16's sums vary by less."""

Step = Callable[[Batch], Tensor]
"""Adds a micro-batch's gradients, returns its loss."""
Shape = tuple[Any, ...]


class Recording(Protocol):
    """What `torch.cuda.CUDAGraph` does."""

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records a step. `warm` runs it as it is, where recording will happen; `record` gives what it returned, too."""

    def warm(self, run: Callable[[], Tensor]) -> Tensor: ...

    def record(self, run: Callable[[], Tensor]) -> tuple[Recording, Tensor]: ...


class CudaRecorder:
    """torch's own. All recordings share one pool, for one runs at a time and its loss is taken away at once."""

    def __init__(self, device: str) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(torch.device(device))

    def warm(self, run: Callable[[], Tensor]) -> Tensor:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = run()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, run: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = run()
        return graph, result


@dataclass(frozen=True)
class Recorded:
    """A recording with the tensors that it reads and the loss that it writes."""

    graph: Recording
    batch: Batch
    loss: Tensor

    def __call__(self, batch: Batch) -> Tensor:
        _fill(self.batch, batch)
        self.graph.replay()
        return self.loss.clone()


class Graphs:
    """Runs micro-batches, recorded where that is possible.

    Attributes:
        reason: why one was not, for people; empty while none was refused.
    """

    def __init__(self, adapter: Adapter, step: Step, recorder: Recorder) -> None:
        self.adapter, self.step, self.recorder = adapter, step, recorder
        self.reason = ""
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, Recorded] = {}

    def begin(self) -> None:
        """To be called after the adapter's `begin`: every gradient is added to from here on, as in the recordings."""
        for grads in self.adapter.grads:
            grads.zero_()
        self.adapter.all_written()

    def __call__(self, batch: Batch) -> Tensor:
        """Adds the step's gradients, returns its loss. A shape is recorded when it comes for the second time."""
        shape = _shape(batch)
        if shape in self._recorded:
            return self._recorded[shape](batch)
        if shape in self._seen and not self.reason:
            self._record(shape, batch)
            if shape in self._recorded:
                return self._recorded[shape](batch)
        self._seen.add(shape)
        return self.step(batch)

    def _record(self, shape: Shape, batch: Batch) -> None:
        if len(self._recorded) == MOST:
            self.reason = f"more than {MOST} shapes of batches"
            return
        before = [grads.clone() for grads in self.adapter.grads]
        own = _copy(batch)
        try:
            self._zero()
            asked = self._figures(self.recorder.warm(lambda: self.step(own)))
            graph, loss = self.recorder.record(lambda: self.step(own))
            self._zero()
            graph.replay()
            found = self._figures(loss)
            if torch.allclose(found, asked, rtol=OFF, atol=1e-12):
                self._recorded[shape] = Recorded(graph, own, loss)
            else:
                self.reason = f"a recorded step gave {found.tolist()} in place of {asked.tolist()}"
        except RuntimeError as error:  # torch says so where an operation cannot be recorded
            self.reason = f"it cannot be recorded: {str(error).strip().splitlines()[0]}"
        for grads, value in zip(self.adapter.grads, before, strict=True):
            grads.copy_(value)

    def _zero(self) -> None:
        for grads in self.adapter.grads:
            grads.zero_()

    def _figures(self, loss: Tensor) -> Tensor:
        """The loss and the norms of the gradients."""
        norms = [torch.linalg.vector_norm(grads) for grads in self.adapter.grads]
        return torch.stack([loss.detach().float(), *norms])


def graphs_for(adapter: Adapter, recipe: Recipe, step: Step, device: str) -> tuple[Graphs | None, str]:
    """What runs a training's micro-batches on a card; or None and the reason, which is empty on a CPU."""
    if not device.startswith("cuda"):
        return None, ""
    reason = why_not(recipe)
    return (None, reason) if reason else (Graphs(adapter, step, CudaRecorder(device)), "")


def why_not(recipe: Recipe) -> str:
    """Why a recipe's steps cannot be recorded; empty where they can be."""
    if not recipe.cuda_graphs:
        return "train.cuda_graphs is false"
    if recipe.gradient_checkpointing:
        return "gradient checkpointing reads the state of the random numbers back"
    if recipe.dora:
        return "DoRA's gradients are made anew each step"
    if recipe.text_encoders:
        return "text encoders that learn are given captions of any length"
    if recipe.dropout.any:
        return "dropout draws anew each step"
    return ""


def _tensors(batch: Batch) -> dict[str, Tensor]:
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in found.items() if value is not None}


def _shape(batch: Batch) -> Shape:
    return tuple((name, tuple(value.shape), value.dtype) for name, value in _tensors(batch).items())


def _copy(batch: Batch) -> Batch:
    return replace(batch, **{name: value.detach().clone() for name, value in _tensors(batch).items()})


def _fill(target: Batch, batch: Batch) -> None:
    source = _tensors(batch)
    for name, value in _tensors(target).items():
        value.copy_(source[name])
