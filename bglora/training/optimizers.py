"""What moves the weights: PyTorch's AdamW, or one of a library that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from bglora.errors import MachineError
from bglora.training.groups import Group
from bglora.training.options import OptimizerOptions

PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "schedule_free": "schedulefree"}


def create(parameters: Mapping[str, nn.Parameter], groups: Sequence[Group], options: OptimizerOptions) -> Any:
    """An optimizer over the matrices of the groups; each group knows its own full rate as `base`.

    Raises:
        MachineError: its library is not installed, or it needs a GPU and there is none.
    """
    own: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in group.names], "lr": group.rate, "base": group.rate} for group in groups
    ]
    common: dict[str, Any] = {"betas": options.betas, "eps": options.eps, "weight_decay": options.weight_decay}
    if options.optimizer == "adamw":
        fused = all(parameter.is_cuda for parameter in parameters.values())
        return torch.optim.AdamW(own, **common, fused=fused or None)
    library = _library(options.optimizer)
    if options.optimizer == "adamw8bit":
        if not all(parameter.is_cuda for parameter in parameters.values()):
            raise MachineError("adamw8bit needs a GPU.", where="train.optimizer", cure='Set train.optimizer = "adamw".')
        return library.optim.AdamW8bit(own, **common)
    if options.optimizer == "prodigy":
        return library.Prodigy(own, **common)
    return library.AdamWScheduleFree(own, **common)


def _library(name: str) -> Any:
    package = PACKAGES[name]
    try:
        return import_module(package)
    except ImportError as error:
        raise MachineError(
            f"The optimizer {name} is part of {package}, which is not installed.",
            where=f"train.optimizer = {name}",
            cure=f'pip install {package}; or set train.optimizer = "adamw".',
        ) from error
