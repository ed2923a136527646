"""Settings of `segment` and `inpaint`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bglora.settings.table import Table


class SegmentSettings(Table):
    backend: Literal["motion", "sam2", "sam3", "layers"] = Field("motion", description="Who finds the characters.")
    targets: tuple[str, ...] = Field(("person", "animal", "creature"), description="Words for what must go (grounding).")
    alpha_threshold: float = Field(0.15, gt=0, lt=1, description="Alpha from which a pixel belongs to the character.")
    dilate: int = Field(1, ge=0, le=64, description="Pixels by which removal masks are grown.")
    min_area: int = Field(64, ge=1, description="Pixels; smaller spots are no characters.")
    background: bool = Field(False, description="Also write segmented/background (RGBA, holes transparent).")
    cutouts: bool = Field(True, description="Also write segmented/character (RGBA cut-outs for a character LoRA).")


class InpaintSettings(Table):
    engine: Literal["patch", "lama", "brushnet", "sdxl", "hybrid", "simple_lama"] = Field(
        "patch", description="Fills what no other frame shows."
    )
    recover: bool = Field(True, description="Take what another frame of the shot shows from there.")
    psnr_db: float = Field(25.0, ge=0, description="Whole-plate PSNR (dB) that a fill must reach on withheld pixels.")
    ssim: float = Field(0.85, ge=0, le=1, description="Whole-plate SSIM that a fill must reach on withheld pixels.")
    max_guessed: float = Field(0.5, ge=0, le=1, description="Share of the frame that may be filled by a guess.")
