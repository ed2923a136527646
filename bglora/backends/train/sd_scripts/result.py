"""The file that sd-scripts made: whole, a LoRA, finite, and trained."""

from __future__ import annotations

from pathlib import Path

from bglora.backends.train.sd_scripts.states import tensors_whole
from bglora.errors import UserError

UP = (".lora_up.weight", ".lora_B.weight")
"""Matrices that start at zero, and are zero still where nothing was trained."""


def check(path: Path) -> None:
    """Refuses a file that is no trained LoRA.

    Raises:
        UserError: it is cut, has no LoRA's keys, values that are no numbers, or only zeros where training begins.
    """
    import torch
    from safetensors import safe_open

    if not tensors_whole(path):
        raise _unfit("The LoRA that sd-scripts wrote is cut: its end is missing.", path)
    with safe_open(str(path), "pt") as stream:
        names = list(stream.keys())
        if not any("lora_" in name for name in names):
            raise _unfit("The file that sd-scripts wrote has no LoRA weights.", path)
        ups = [name for name in names if name.endswith(UP)]
        moved = not ups
        for name in names:
            tensor = stream.get_tensor(name)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise _unfit(f"The LoRA that sd-scripts wrote has values that are no numbers, in {name}.", path)
            moved = moved or (name.endswith(UP) and bool(tensor.any()))
    if not moved:
        raise _unfit("The LoRA that sd-scripts wrote is untrained: all its up matrices are zero.", path)


def _unfit(what: str, path: Path) -> UserError:
    return UserError(
        what,
        where=path.name,
        cure="Set a smaller train.learning_rate if the loss jumped; `bglora retry` trains the scene again.",
    )
