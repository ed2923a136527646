"""The base model that settings name, found among the weights and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.training.base import Base

SETTING = "train.base"
CONFIGS = "sdxl-config"


def load(name: str) -> Base:
    """The base, loaded; the last one stays loaded.

    Raises:
        UserError, MachineError: it is not there, or no SDXL-class model.
    """
    from bglora.training.base import load_base

    where = weights.find(name, setting=SETTING)
    configs = weights.find(CONFIGS, setting=SETTING) if where.is_file() else None
    return load_base(name, where, configs=configs)
