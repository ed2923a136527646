"""The state of a training between two optimizer steps, in one file that is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bglora.training import tensor_file


@dataclass
class Progress:
    """What a training knows besides its weights.

    Attributes:
        step: optimizer steps done.
        losses: losses of the steps since the last point of the curve.
        curve: [step, mean loss since the point before, validation loss or None, learning rate].
        best_step: step of the best weights so far; -1 before the first validation.
        best_loss: their validation loss.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[tuple[int, float | None, float | None, float]] = field(default_factory=list)
    best_step: int = -1
    best_loss: float = float("inf")


MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Weights and AdamW's moments as tensors, the rest as JSON in the file's metadata."""
    tensors: dict[str, Tensor] = {f"weight/{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    tensor_file.write(path, tensors, {"progress": json.dumps(asdict(progress))})


def load(path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    """Puts a saved state back; the training goes on as if it had never stopped."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as stream, torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stream.get_tensor(f"weight/{name}"))
            moments = {moment: stream.get_tensor(f"{moment}/{name}") for moment in MOMENTS}
            optimizer.state[parameter] = {
                moment: value if moment == "step" else value.to(parameter.device) for moment, value in moments.items()
            }
        progress = Progress(**json.loads(stream.metadata()["progress"]))
    progress.curve = [tuple(point) for point in progress.curve]  # type: ignore[misc]
    return progress


def save_weights(path: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """The weights alone, in full precision."""
    tensor_file.write(path, {name: parameter.detach() for name, parameter in parameters.items()}, {})
