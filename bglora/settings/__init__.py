"""The manifest's tables as models. `Settings` is all of them; `load` and `edit` live beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bglora.settings.film import IngestSettings
from bglora.settings.lora import ComposeSettings, TestSettings, TrainSettings
from bglora.settings.plates import InpaintSettings, SegmentSettings
from bglora.settings.scenes import CaptionSettings, ClusterSettings
from bglora.settings.table import Table


class ProjectSettings(Table):
    format: Literal[1] = Field(1, description="Format of the project folder.")
    name: str = Field("", description="Name of the film; goes into triggers and file names.")
    created: str = Field("", description="Date of `init` (YYYY-MM-DD); the only date that outputs carry.")
    preset: Literal["cpu", "studio"] = Field("cpu", description="Where unset keys come from.")
    download: Literal["ask", "yes", "no"] = Field("ask", description="Whether missing weights may be fetched.")


class Sources(Table):
    films: tuple[str, ...] = Field((), description="Film files or folders of frames; sources/ is searched as well.")
    layers: tuple[str, ...] = Field((), description="Folders of an earlier segmentation: background/, masks/, character/.")


class Settings(Table):
    """project.toml as a whole."""

    project: ProjectSettings = ProjectSettings()  # type: ignore[call-arg]
    sources: Sources = Sources()  # type: ignore[call-arg]
    ingest: IngestSettings = IngestSettings()  # type: ignore[call-arg]
    segment: SegmentSettings = SegmentSettings()  # type: ignore[call-arg]
    inpaint: InpaintSettings = InpaintSettings()  # type: ignore[call-arg]
    cluster: ClusterSettings = ClusterSettings()  # type: ignore[call-arg]
    caption: CaptionSettings = CaptionSettings()  # type: ignore[call-arg]
    train: TrainSettings = TrainSettings()  # type: ignore[call-arg]
    test: TestSettings = TestSettings()  # type: ignore[call-arg]
    compose: ComposeSettings = ComposeSettings()  # type: ignore[call-arg]
