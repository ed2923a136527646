"""The base model that settings name, found among the weights and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bglora.backends import Needs, weights
from bglora.nets import published

if TYPE_CHECKING:
    from bglora.nets.offload import Memory
    from bglora.training.base import Base
    from bglora.training.options import Quantization

SETTING = "train.base"
MINI = "mini"
CONFIGS = published.CONFIGS["SDXL"]
"""What a base in a single file does not carry."""


def names_of_weights(base: str) -> dict[str, tuple[str, ...]]:
    """The weights that a base needs: itself, and SDXL's configs where it is a single file."""
    return {"base": (base, CONFIGS) if Path(base).is_file() else (base,)}


def needs(base: str, gpu_gb: float) -> Needs:
    """Memory with a base: little with the one of the package; SDXL's on its way to a card, and `gpu_gb` there."""
    return Needs(2.0) if base == MINI else Needs(10.0, gpu_gb)


def check(base: str) -> None:
    """Refuses a single file of another kind, before SDXL's configs are asked for.

    Raises:
        UserError: it is damaged, or no SDXL-class model.
    """
    if Path(base).is_file():
        from bglora.training.base import check_family

        check_family(Path(base))


def load(name: str, quantization: Quantization = "none", memory: Memory = "full") -> Base:
    """The base, loaded, as it is or in fewer bits; the last one stays loaded.

    Args:
        memory: how much of it lies on the card at a time.

    Raises:
        UserError, MachineError: it is not there, or no SDXL-class model.
    """
    from bglora.training.base import load_base

    where = weights.find(name, setting=SETTING)
    check(str(where))
    configs = weights.find(CONFIGS, setting=SETTING) if where.is_file() else None
    return load_base(name, where, configs=configs, quantization=quantization, memory=memory)
