"""Settings of `cluster` and `caption`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bglora.settings.table import CaptionName, EmbedName, Table


class ClusterSettings(Table):
    backend: EmbedName = Field("descriptor", description="What tells places apart.")
    min_cluster_size: int = Field(
        15,
        ge=2,
        description="Plates a scene needs at least; lowered by itself for a small film. Lower finds small places.",
    )
    min_samples: int = Field(3, ge=1, le=100, description="HDBSCAN's min_samples (plates): higher is stricter.")
    similarity_threshold: float = Field(
        0.75,
        ge=0,
        le=1,
        description="Groups of plates more alike than this (0 to 1) are one scene. Higher: more scenes.",
    )
    max_guessed: float = Field(
        0.35, ge=0, le=1, description="Plates with a larger share (0 to 1) of guessed or untrusted pixels stay out."
    )
    min_sharpness: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Plates less sharp than this share of their shot's median stay out. 0: all stay in.",
    )


class CaptionSettings(Table):
    backend: CaptionName = Field("template", description="Who writes the captions.")
    target_size: int = Field(300, ge=1, description="Plates per scene at most.")
    min_difference: float = Field(
        1.0,
        ge=0,
        le=255,
        description="Grey levels (mean) by which chosen plates differ; nearer ones are copies. 0: keep all.",
    )
    held_out: float = Field(
        0.1, ge=0, le=0.5, description="Share of a scene's plates that is not trained on but gives the validation loss."
    )
    repeats: int = Field(5, ge=1, le=1000, description="Repeats per epoch, kohya's folder prefix.")
    mode: Literal["place", "style"] = Field(
        "place", description="place: light and view are named, the place is the trigger's; style: contents are named."
    )
    prefix: str = Field("background", description="Tags after the trigger, the same in every caption.")
    triggers: dict[str, str] = Field(
        default_factory=dict,
        description='Your own triggers by scene: { "scene-00" = "hrbr_town" }; else made from names.',
    )
    empty_words: str = Field(
        "no characters, empty scene", description="Words that say that nobody is there; may be empty."
    )
    character_names: tuple[str, ...] = Field(
        (), description="Names of the film's characters: captions that contain one are refused."
    )
    flip: Literal["auto", "on", "off"] = Field(
        "auto", description="Mirror pictures in training; auto: off for a scene in which lettering is found."
    )
