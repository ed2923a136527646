"""Settings of `cluster` and `caption`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bglora.settings.table import Table


class ClusterSettings(Table):
    backend: Literal["descriptor", "openclip"] = Field("descriptor", description="What tells places apart.")
    min_cluster_size: int = Field(15, ge=2, description="Plates a scene needs at least. Lower finds small places, and more false ones.")
    min_samples: int = Field(3, ge=1, description="HDBSCAN's min_samples: higher is stricter.")
    similarity_threshold: float = Field(0.75, ge=0, le=1, description="Clusters more alike than this are one scene.")
    max_guessed: float = Field(0.35, ge=0, le=1, description="Plates with a larger share of guessed pixels stay out.")


class CaptionSettings(Table):
    backend: Literal["template", "qwen_vl"] = Field("template", description="Who writes the captions.")
    target_size: int = Field(300, ge=1, description="Plates per scene at most.")
    repeats: int = Field(5, ge=1, description="Repeats per epoch, kohya's folder prefix.")
    mode: Literal["place", "style"] = Field("place", description="place: light and view are named; style: contents are.")
    prefix: str = Field("background", description="Tags after the trigger, the same in every caption.")
    empty_words: str = Field("no characters, empty scene", description="Words that say that nobody is there; may be empty.")
    flip: Literal["auto", "on", "off"] = Field("auto", description="Mirror pictures in training; auto: off where lettering is found.")
