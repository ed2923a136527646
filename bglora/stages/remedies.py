"""What a user types to train otherwise than a LoRA was trained, for the cures of its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bglora.settings import Settings
from bglora.settings.lora import SMALL_SCENE


def remedies(settings: Settings, record: Mapping[str, Any], pictures: int) -> dict[str, str]:
    """Commands by their end: `longer`, `shorter`, `lower rank`, `closer` (plates that differ less are let in).

    Args:
        record: what `train` recorded of the LoRA.
        pictures: how many it learned from.
    """
    train, caption = settings.train, settings.caption
    if train.max_steps and int(record.get("steps", train.max_steps)) >= train.max_steps:
        key, length = "max_steps", train.max_steps
    else:
        key = "epochs_small" if pictures < SMALL_SCENE else "epochs"
        length = getattr(train, key)
    dim = max(1, int(record.get("dim", train.dim)) // 2)
    found = {
        "longer": _set(f"train.{key}", -(-length * 3 // 2)),
        "shorter": _set(f"train.{key}", max(1, length // 2)),
        "lower rank": f"{_set('train.dim', dim)}, {_set('train.alpha', f'{dim * 0.75:g}')}",
    }
    if caption.min_difference:
        found["closer"] = _set("caption.min_difference", f"{caption.min_difference / 2:g}")
    return found


def _set(key: str, value: object) -> str:
    return f"`bglora set {key} {value}`"
