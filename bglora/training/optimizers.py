"""What moves the weights: AdamW, or an optimizer of a library that is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from bglora.errors import MachineError, UserError
from bglora.training.adapter import Adapter
from bglora.training.groups import rate_of
from bglora.training.job import Recipe
from bglora.training.optimizer import adamw
from bglora.training.optimizer_arguments import optimizer_arguments

PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "schedule_free": "schedulefree"}


def create(adapter: Adapter, recipe: Recipe) -> Any:
    """An optimizer over the adapter's groups; each knows its learning rate's share of the recipe's as `ratio`.

    Raises:
        MachineError: its library is not installed, or it needs a GPU and there is none.
        UserError: it does not take one of its arguments, or Prodigy was given several learning rates.
    """
    groups = [
        {
            "params": [group.parameter],
            "ratio": group.ratio * rate_of(group.name, recipe.learning_rates) / recipe.learning_rate,
        }
        for group in adapter.groups(recipe.loraplus_lr_ratio)
    ]
    rates = {group["ratio"] for group in groups} - {0.0}
    if recipe.optimizer == "prodigy" and len(rates) > 1:
        raise UserError(
            "Prodigy finds one learning rate for all that it trains; parts of the LoRA can't have others.",
            where="train.optimizer = prodigy",
            cure="bglora set train.optimizer adamw; or train.loraplus_lr_ratio to 1, train.unet_lr and "
            "train.text_encoder_lr to 0, and train.block_lr_weights to 0 or one number",
        )
    options = {"weight_decay": recipe.weight_decay, **optimizer_arguments(recipe.optimizer_args)}
    if recipe.optimizer == "adamw8bit" and not all(buffer.is_cuda for buffer in adapter.grads):
        raise MachineError("adamw8bit needs a GPU.", where="train.optimizer", cure="bglora set train.optimizer adamw")
    make = _makers()[recipe.optimizer]
    try:
        optimizer = make(groups, recipe.learning_rate, **options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{recipe.optimizer} does not take these arguments: {error}.",
            where=f"train.optimizer_args = {list(recipe.optimizer_args)}",
            cure="Delete the argument that it does not know.",
        ) from error
    if recipe.optimizer == "schedule_free":
        optimizer.train()
    return optimizer


def _makers() -> dict[str, Callable[..., Any]]:
    return {
        "adamw": adamw,
        "adamw8bit": lambda *args, **options: _library("adamw8bit").optim.AdamW8bit(*args, **options),
        "prodigy": lambda *args, **options: _library("prodigy").Prodigy(*args, **options),
        "schedule_free": lambda *args, **options: _library("schedule_free").AdamWScheduleFree(*args, **options),
    }


def _library(name: str) -> Any:
    package = PACKAGES[name]
    try:
        return import_module(package)
    except ImportError as error:
        raise MachineError(
            f"The optimizer {name} is part of {package}, which is not installed.",
            where=f"train.optimizer = {name}",
            cure=f"pip install {package}; or bglora set train.optimizer adamw",
        ) from error
