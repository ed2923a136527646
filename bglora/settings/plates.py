"""Settings of `segment` and `inpaint`."""

from __future__ import annotations

from pydantic import Field

from bglora.settings.table import FillName, MasksName, Table


class SegmentSettings(Table):
    backend: MasksName = Field(
        "motion",
        description="Who finds the characters: motion (what moves in front of the background), or layers (masks of an "
        "earlier segmentation, taken by themselves wherever a source has them).",
    )
    samples: int = Field(
        32, ge=4, le=64, description="Frames of a shot that are looked at together; memory grows with it (frames)."
    )
    alpha_threshold: float = Field(
        0.15, gt=0, lt=1, description="Alpha (0 to 1) from which a pixel at an edge belongs to the character."
    )
    dilate: int = Field(1, ge=0, le=64, description="Pixels by which removal masks are grown.")
    min_area: int = Field(
        64, ge=1, description="Smallest character, in pixels of a picture 512 wide; smaller spots are noise."
    )
    background: bool = Field(False, description="Also write segmented/background (RGBA, holes transparent).")
    cutouts: bool = Field(True, description="Also write segmented/character (RGBA cut-outs for a character LoRA).")


class InpaintSettings(Table):
    engine: FillName = Field("patch", description="Fills what no other frame of the shot shows.")
    recover: bool = Field(True, description="Take what another frame of the shot shows from there.")
    psnr_db: float = Field(
        25.0,
        ge=0,
        le=99,
        description="Whole-plate PSNR (dB) that a fill must reach on withheld pixels, else retry, else drop.",
    )
    ssim: float = Field(
        0.85,
        ge=0,
        le=1,
        description="Whole-plate SSIM (0 to 1) that a fill must reach on withheld pixels, else retry, else drop.",
    )
    tries: int = Field(
        2, ge=1, le=10, description="How often a fill is tried with other parameters before the plate is dropped."
    )
    max_guessed: float = Field(
        0.5, ge=0, le=1, description="Share of the frame (0 to 1) that may be filled by a guess."
    )
    recovered_psnr_db: float = Field(
        20.0,
        ge=0,
        le=99,
        description="PSNR (dB) that recovery must reach on withheld pixels of a frame, else the plate is dropped.",
    )
    audit: bool = Field(True, description="Drop plates in which something still moves.")
    wide: bool = Field(
        False, description="Also stitch a pan's background wider than the frame, cut to training buckets."
    )
