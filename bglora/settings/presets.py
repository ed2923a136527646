"""The commented manifests that `init` copies and that unset keys come from."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

PRESETS = ("cpu", "studio")


def templates() -> Path:
    """The folder of templates: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@cache
def preset_text(name: str) -> str:
    """The template's text, comments and all."""
    return (templates() / "project" / f"{name}.toml").read_text(encoding="utf-8")


def preset_values(name: str) -> dict[str, Any]:
    """The template's tables as plain values."""
    return tomllib.loads(preset_text(name))
