"""The base of every table of the manifest."""

from __future__ import annotations

from functools import partial
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator


class Table(BaseModel):
    """One table of project.toml: unknown keys are refused, values are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`steps = true` would pass as 1 otherwise: Python's bool is an int."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and wanted in (int, float):
            raise ValueError("should be a number")
        return value


BUILT_IN = {
    "masks": ("motion", "layers", "sam2", "sam3"),
    "fill": ("patch", "lama", "simple_lama", "brushnet", "sdxl", "hybrid"),
    "embed": ("descriptor", "openclip"),
    "caption": ("template", "qwen_vl"),
    "train": ("native", "kohya"),
    "detect": ("grounding_dino", "owlv2"),
}
"""Backends of this package by role. Those of other packages are entry points in the group `bglora.<role>`."""


def _known(role: str, name: str) -> str:
    """Refuses a name that no backend of the role has. Other packages are looked through for unusual names only."""
    if name in BUILT_IN[role]:
        return name
    names = [*BUILT_IN[role], *sorted(point.name for point in entry_points(group=f"bglora.{role}"))]
    if name in names:
        return name
    raise ValueError(f"should be {' or '.join(map(repr, names))}")


MasksName = Annotated[str, AfterValidator(partial(_known, "masks"))]
FillName = Annotated[str, AfterValidator(partial(_known, "fill"))]
EmbedName = Annotated[str, AfterValidator(partial(_known, "embed"))]
CaptionName = Annotated[str, AfterValidator(partial(_known, "caption"))]
DetectName = Annotated[str, AfterValidator(partial(_known, "detect"))]
TrainName = Annotated[str, AfterValidator(partial(_known, "train"))]
