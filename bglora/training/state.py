"""The state of a training between two optimizer steps, in one file that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training import tensor_file
from bglora.training.job import TrainJob
from bglora.training.learner import Learner


@dataclass
class Progress:
    """What a training knows besides its weights.

    Attributes:
        step: optimizer steps done.
        losses: losses of the steps since the last point of the curve.
        curve: [step, mean loss since the point before, validation loss or None, learning rate].
        best_step: step of the best weights so far; -1 before the first validation.
        best_loss: their validation loss.
        since_best: validations since then.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[tuple[int, float | None, float | None, float]] = field(default_factory=list)
    best_step: int = -1
    best_loss: float = float("inf")
    since_best: int = 0

    def validated(self, loss: float) -> bool:
        """Takes in a validation of the weights after `step`; True if they are the best so far."""
        better = loss < self.best_loss
        self.since_best = 0 if better else self.since_best + 1
        if better:
            self.best_step, self.best_loss = self.step, loss
        return better


def save(path: Path, learner: Learner, progress: Progress, origin: str) -> None:
    """Weights, moments and averages as tensors, all else that the optimizer knows and the progress as JSON in the
    metadata; `origin` says what the training learns from, see `origin_of`."""
    optimizer = learner.optimizer
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for place, parameter in _parameters(optimizer):
        tensors[f"{place}/weight"] = parameter
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"{place}/state/{name}"] = value
            else:
                numbers[f"{place}/state/{name}"] = value
    for place, name, value in _group_values(optimizer):
        (tensors if isinstance(value, Tensor) else numbers)[f"{place}/{name}"] = value
    if learner.average is not None:
        tensors |= {f"average/{number}": value for number, value in enumerate(learner.average.values)}
    metadata = {"progress": json.dumps(asdict(progress)), "numbers": json.dumps(numbers), "origin": origin}
    tensor_file.write(path, tensors, metadata)


def origin_in(path: Path) -> str:
    """What the training that saved this state learned from."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as stream:
        return str((stream.metadata() or {}).get("origin", ""))


def load(path: Path, learner: Learner) -> Progress:
    """Puts a saved state back; the training goes on as if it had never stopped."""
    from safetensors import safe_open

    optimizer = learner.optimizer
    with safe_open(str(path), "pt") as stream, torch.no_grad():
        saved: dict[str, Any] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        metadata = stream.metadata()
    saved |= json.loads(metadata["numbers"])
    for place, parameter in _parameters(optimizer):
        parameter.data.copy_(saved[f"{place}/weight"])
        start = f"{place}/state/"
        optimizer.state[parameter] = {
            name.removeprefix(start): _on(parameter.device, name, value)
            for name, value in saved.items()
            if name.startswith(start)
        }
    for place, name, value in _group_values(optimizer):
        known = saved.get(f"{place}/{name}", value)
        optimizer.param_groups[int(place)][name] = known.to(value.device) if isinstance(value, Tensor) else known
    progress = Progress(**json.loads(metadata["progress"]))
    progress.curve = [tuple(point) for point in progress.curve]  # type: ignore[misc]
    if learner.average is not None:
        learner.average.taken = progress.step
        for number, value in enumerate(learner.average.values):
            value.copy_(saved[f"average/{number}"])
    learner.adapter.refresh()
    return progress


def _parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """The optimizer's parameters with their places: `group/number`."""
    return [
        (f"{group}/{number}", parameter)
        for group, one in enumerate(optimizer.param_groups)
        for number, parameter in enumerate(one["params"])
    ]


def _group_values(optimizer: torch.optim.Optimizer) -> list[tuple[str, str, Any]]:
    """What an optimizer counts and adapts for a whole group, as Prodigy's distance: group, name, value."""
    return [
        (str(number), name, value)
        for number, group in enumerate(optimizer.param_groups)
        for name, value in sorted(group.items())
        if name not in ("params", "lr") and isinstance(value, bool | int | float | Tensor)
    ]


def _on(device: torch.device, name: str, value: Any) -> Any:
    """Moments on the parameter's device; a step counter stays where torch keeps it without `capturable`."""
    return value.to(device) if isinstance(value, Tensor) and not name.endswith("/step") else value


def origin_of(job: TrainJob) -> str:
    """Digest of all that a training learns from and how; a state is gone on from only where it is the same.

    Files are read again, so that a picture or a caption that was changed in between is noticed.
    """
    recipe = replace(job.recipe, checkpoint_every=0, tensorboard=False, cuda_graphs=True)
    how = repr((recipe, Path(job.base).name, job.repeats, job.flip, job.keep_tokens))
    found = hashlib.blake2b(how.encode(), digest_size=16)
    for picture in (*job.pictures, None, *job.held_out):
        if picture is not None:
            found.update(repr((picture.name, picture.caption)).encode())
            for path in filter(None, (picture.image, picture.provenance)):
                found.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        found.update(b"|")
    if job.network_weights is not None:
        found.update(job.network_weights.read_bytes())
    return found.hexdigest()


def save_weights(path: Path, parameters: Mapping[str, Tensor]) -> None:
    """The weights alone, in full precision."""
    tensor_file.write(path, {name: parameter.detach() for name, parameter in parameters.items()}, {})


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `save_weights` wrote."""
    from safetensors.torch import load_file

    return load_file(path)
