"""What moves the weights: AdamW, or an optimizer of a library that is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bglora.errors import MachineError
from bglora.training.adapter import Adapter
from bglora.training.groups import rate_of
from bglora.training.job import Recipe
from bglora.training.optimizer import adamw

PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "schedule_free": "schedulefree"}


def create(adapter: Adapter, recipe: Recipe) -> Any:
    """An optimizer over the adapter's groups; each knows its learning rate's share of the recipe's as `ratio`.

    Raises:
        MachineError: its library is not installed, or it needs a GPU and there is none.
    """
    groups = [
        {
            "params": [group.parameter],
            "ratio": group.ratio * rate_of(group.name, recipe.learning_rates) / recipe.learning_rate,
        }
        for group in adapter.groups(recipe.loraplus_lr_ratio)
    ]
    rate = recipe.learning_rate
    options: dict[str, Any] = {"betas": recipe.betas, "eps": recipe.eps, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        return adamw(groups, rate, **options)
    library = _library(recipe.optimizer)
    if recipe.optimizer == "adamw8bit":
        if not all(buffer.is_cuda for buffer in adapter.grads):
            raise MachineError("adamw8bit needs a GPU.", where="train.optimizer", cure='Set train.optimizer = "adamw".')
        return library.optim.AdamW8bit(groups, rate, **options)
    if recipe.optimizer == "prodigy":
        return library.Prodigy(groups, rate, **options)
    optimizer = library.AdamWScheduleFree(groups, rate, **options)
    optimizer.train()
    return optimizer


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
