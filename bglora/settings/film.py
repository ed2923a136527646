"""Settings of `ingest`."""

from __future__ import annotations

from pydantic import Field

from bglora.settings.table import Table


class IngestSettings(Table):
    fps: float = Field(
        2.0, ge=0, description="Frames kept per second. 0 keeps every frame, duplicates and blurred ones too."
    )
    min_per_shot: int = Field(1, ge=1, description="Frames kept of a shot at least.")
    max_per_shot: int = Field(8, ge=0, description="Frames kept of a shot at most. 0: no limit.")
    blur_threshold: float = Field(
        80.0,
        ge=0,
        description="Variance of the Laplacian at about 512 x 288; less is blurred, unless the whole shot is as soft.",
    )
    crop_bars: bool = Field(True, description="Find black letterbox bars and crop them.")
