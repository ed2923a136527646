"""How large models are, told from their files or names without loading any: what memory they take follows from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bglora.backends import weights
from bglora.errors import UserError

SDXL_SIGN = b"conditioner.embedders.1."
"""Begins the names of SDXL's second text encoder in a model of one file."""


def found(name: str) -> Path | None:
    """Where the weights lie that a setting names; None if they are not here."""
    one = weights.entry(name)
    try:
        path = weights.present(one) if one else Path(name).expanduser()
    except UserError:  # who loads them says so
        return None
    return path if path is not None and path.exists() else None


def tensor_bytes(name: str) -> int:
    """Bytes of a model's .safetensors; without them what is known of the model, or what its name says (7B); else 0."""
    path = found(name)
    if path is not None:
        files = path.glob("*.safetensors") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    one = weights.entry(name)
    if one and one.bytes:
        return one.bytes
    told = re.search(r"(\d+(?:\.\d+)?)b(?![a-z0-9])", name.lower())
    return int(2e9 * float(told.group(1))) if told else 0


def is_sdxl(name: str) -> bool:
    """Whether a diffusion model is of SDXL's kind: by its config or its tensors, by its name if it isn't here."""
    path = found(name)
    try:
        if path is not None and path.is_dir():
            config = json.loads((path / "unet" / "config.json").read_text("utf-8"))
            return bool(config.get("addition_embed_type") == "text_time")
        if path is not None and path.suffix == ".safetensors":
            with path.open("rb") as stream:
                return SDXL_SIGN in stream.read(min(int.from_bytes(stream.read(8), "little"), 2**26))
    except (OSError, ValueError, AttributeError):  # damaged: who loads it says so
        return "xl" in name.lower()
    return "xl" in name.lower()
