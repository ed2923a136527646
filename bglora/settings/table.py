"""The base of every table of the manifest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """One table of project.toml: unknown keys are refused, values are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
