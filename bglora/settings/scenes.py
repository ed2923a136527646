"""Settings of `cluster` and `caption`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bglora.settings.table import CaptionName, EmbedName, Table

NAMES_OF_PLACES = """
harbor, beach, coast with cliffs, sea floor, open sea, ship deck, town street, city street, village,
market square, rooftops, bridge, forest, clearing in a forest, jungle, meadow, garden, park, farm,
river bank, lake, waterfall, swamp, mountains, snowy landscape, desert, canyon, cave, night sky,
outer space, castle, tower, temple, ruins, living room, kitchen, bedroom, bathroom, attic, cellar,
corridor, staircase, library, classroom, office, laboratory, workshop, warehouse, factory, hospital,
shop, restaurant, theater, train station, inside of a train, inside of a car, spaceship, hall,
prison cell
"""
TITLES = tuple(" ".join(name.split()) for name in NAMES_OF_PLACES.split(","))
"""Words that scenes are named by where the embedder can compare pictures with words."""


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
    openclip: str = Field(
        "ViT-L-14/laion2b_s32b_b82k",
        description="Model of the backend openclip: NAME/WEIGHTS of OpenCLIP, a hub name, a folder, or NAME/FILE.",
    )
    titles: tuple[str, ...] = Field(
        TITLES,
        description="What new scenes may be called, by the word that fits best (backend openclip). []: by the film.",
    )

    @field_validator("titles")
    @classmethod
    def _each_word_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word.strip() or set(word) & set("\n\r,") for word in value):
            raise ValueError("should be words without commas or line breaks, none of them empty")
        if len({word.casefold() for word in value}) < len(value):
            raise ValueError("should name each place once")
        return value


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
    qwen_vl: str = Field(
        "Qwen2-VL-7B-Instruct",
        description="Model of the backend qwen_vl: a Qwen2-VL, 2.5-VL or 3-VL by name, hub name or folder.",
    )
    quantize: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Weights of qwen_vl in fewer bits, to save memory of the card (needs bitsandbytes)."
    )
    tries: int = Field(3, ge=1, le=3, description="How often qwen_vl is asked about a picture before the template.")
    max_tokens: int = Field(160, ge=32, le=2000, description="Tokens of an answer of qwen_vl at most.")
    batch: int = Field(8, ge=1, le=256, description="Pictures that qwen_vl looks at together.")
    flip: Literal["auto", "on", "off"] = Field(
        "auto", description="Mirror pictures in training; auto: off for a scene in which lettering is found."
    )
