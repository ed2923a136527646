"""Whether the base model is there, found out before hours of work rather than after them."""

from __future__ import annotations

import re
from pathlib import Path

from bglora.errors import MachineError, UserError
from bglora.training.base import MINI, PICK_ONE

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ONE_FILE = (".safetensors", ".ckpt")


def check_there(root: Path, name: str, *, download: bool) -> None:
    """Looks for a base model without reading it.

    Args:
        root: the project; a relative path is looked for in it.
        name: as in `train.base`.
        download: a name on the hub may be fetched when it is needed.

    Raises:
        UserError: it is a path, and nothing is there.
        MachineError: it is a name on the hub that is not on this machine, while downloads are not allowed.
    """
    if name == MINI or (root / name).exists():
        return
    where = f"train.base = {name}"
    if Path(name).suffix in ONE_FILE or not HUB_NAME.fullmatch(name):
        raise UserError("There is no base model at this path.", where=where, cure=PICK_ONE)
    if not download and not _fetched(name):
        raise MachineError(
            f"The base model {name} is not on this machine.",
            where=where,
            cure=f"Set project.download to yes, or fetch it with: hf download {name}; a folder wants its whole path.",
        )


def _fetched(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "model_index.json"), str)
