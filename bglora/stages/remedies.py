"""What a user types to have it otherwise than a stage made it, and for the cures of a LoRA's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from pydantic import ValidationError

from bglora.settings import Settings
from bglora.settings.lora import SMALL_SCENE


def command(settings: Settings, key: str, value: float) -> str:
    """Such as "`bglora set ingest.fps 4`"; empty where the setting has that value, or does not take it."""
    table, _, name = key.partition(".")
    now = getattr(settings, table)
    try:
        then = type(now).model_validate({**now.model_dump(), name: value})
    except ValidationError:
        return ""
    return "" if then == now else f"`bglora set {key} {f'{value:g}' if isinstance(value, float) else value}`"


def remedies(settings: Settings, record: Mapping[str, Any], pictures: int) -> dict[str, str]:
    """Commands by their end: `longer`, `shorter`, `lower rank`, `closer` (plates that differ less are let in).

    Ends that no command reaches are left out.

    Args:
        record: what `train` recorded of the LoRA.
        pictures: how many it learned from.
    """
    train = settings.train
    if train.max_steps and int(record.get("steps", train.max_steps)) >= train.max_steps:
        key, length = "max_steps", train.max_steps
    else:
        key = "epochs_small" if pictures < SMALL_SCENE else "epochs"
        length = getattr(train, key)
    dim = int(record.get("dim", train.dim)) // 2
    lower = [command(settings, "train.dim", dim), command(settings, "train.alpha", dim * 0.75)] if dim else []
    found = {
        "longer": command(settings, f"train.{key}", ceil(1.5 * length)),
        "shorter": command(settings, f"train.{key}", max(1, length // 2)),
        "lower rank": ", ".join(one for one in lower if one),
        "closer": command(settings, "caption.min_difference", settings.caption.min_difference / 2),
    }
    return {end: typed for end, typed in found.items() if typed}
