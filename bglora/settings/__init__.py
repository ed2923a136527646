"""The manifest's tables as models.

Settings            project.toml as a whole, typed and frozen
manifest.load       reads it: --set > environment > project.toml > preset, all mistakes at once
edit.set_value      changes one key of project.toml; comments and order stay
presets             the commented templates that `init` copies and unset keys come from
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bglora.settings.film import IngestSettings
from bglora.settings.lora import ComposeSettings, TestSettings, TrainSettings
from bglora.settings.plates import InpaintSettings, SegmentSettings
from bglora.settings.scenes import CaptionSettings, ClusterSettings
from bglora.settings.table import Table


class ProjectSettings(Table):
    format: Literal[1] = Field(1, description="Format of the project folder.")
    name: str = Field("", description="Short name of the film; goes into triggers and file names.")
    title: str = Field("", description="The film's name as a person writes it.")
    created: str = Field(
        "",
        pattern=r"^(\d{4}-\d{2}-\d{2})?$",
        description="Date of `init` (YYYY-MM-DD); the only date that outputs carry.",
    )
    preset: Literal["cpu", "studio"] = Field("cpu", description="Where unset keys come from.")
    download: Literal["ask", "yes", "no"] = Field(
        "ask",
        description="Whether missing weights may be fetched when a run needs them: yes, no, or ask on a terminal.",
    )
    commercial: bool = Field(
        False, description="Refuse models whose terms forbid commercial use, before anything is made."
    )


class Sources(Table):
    films: tuple[str, ...] = Field((), description="Film files or folders of frames; sources/ is searched as well.")
    layers: tuple[str, ...] = Field(
        (), description="Folders of an earlier segmentation: background/, masks/, character/."
    )


class Settings(BaseSettings):
    """project.toml as a whole. `Settings()` has the defaults alone; `manifest.load` reads a project's."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_prefix="BGLORA_",
        env_nested_delimiter="__",
    )

    project: ProjectSettings = Field(default_factory=ProjectSettings)
    sources: Sources = Field(default_factory=Sources)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    segment: SegmentSettings = Field(default_factory=SegmentSettings)
    inpaint: InpaintSettings = Field(default_factory=InpaintSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    caption: CaptionSettings = Field(default_factory=CaptionSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    test: TestSettings = Field(default_factory=TestSettings)
    compose: ComposeSettings = Field(default_factory=ComposeSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back: `manifest.load` says which sources count, and in which order."""
        return (init_settings,)
