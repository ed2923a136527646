"""Settings of `segment` and `inpaint`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bglora.settings.table import DetectName, FillName, MasksName, Table


class SegmentSettings(Table):
    backend: MasksName = Field(
        "motion",
        description="Who finds the characters: motion (what moves in front of the background), sam2 (what `targets` "
        "names, followed through the shot), sam3 (the same by one model), or layers (masks of an earlier segmentation, "
        "taken by themselves wherever a source has them).",
    )
    targets: list[str] = Field(
        ["person", "animal", "creature"],
        description="Whom sam2 and sam3 look for, in words. Empty: only those whom you point out.",
    )
    sam2: str = Field("sam2.1-hiera-large", description="Weights of sam2: a name of `bglora models`, or a path.")
    sam3: str = Field("sam3", description="Weights of sam3: a name of `bglora models`, or a path.")
    detector: DetectName = Field(
        "grounding_dino", description="Who finds `targets` for sam2, and looks over plates if inpaint.detector says so."
    )
    grounding: str = Field(
        "", description="Weights of the detector. Empty: grounding-dino-base or owlv2-base, by `detector`."
    )
    min_score: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Score from which a find counts. 0: 0.3 by grounding_dino, 0.2 by owlv2, 0.5 by sam3.",
    )
    window: int = Field(
        16, ge=2, le=256, description="Frames that sam2 and sam3 hold at once; memory grows with it (frames)."
    )
    redetect: int = Field(
        8,
        ge=1,
        description="Frames looked at from one search for `targets` to the next, which finds who came in.",
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


def _shares(routes: dict[str, str]) -> dict[str, str]:
    for share in routes:
        try:
            right = 0 < float(share) <= 1
        except ValueError:
            right = False
        if not right:
            raise ValueError(f"should have shares of the frame above 0 and up to 1 as keys, not {share!r}")
    return routes


Routes = Annotated[dict[str, FillName], AfterValidator(_shares)]


class InpaintSettings(Table):
    engine: FillName = Field("patch", description="Fills what no other frame of the shot shows.")
    fallback: list[FillName] = Field(
        [], description="Engines that are tried in turn where the first one's fill is too poor."
    )
    routes: Routes = Field(
        {},
        description="Another first engine by the share of the frame that is missing, for instance "
        '{ "0.05" = "patch", "1" = "lama" }: patch below 0.05, lama above. Empty: always `engine`.',
    )
    simple_below: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Share of the frame (0 to 1) below which `hybrid` fills with lama, else with brushnet; the other "
        "one comes next.",
    )
    rate_all: bool = Field(
        False,
        description="Rate `engine` and all of `fallback` on every hole and take the best one (slower). The table of "
        "plates/engines.json then tells which is best by share missing.",
    )
    brushnet: str = Field(
        "brushnet-sd15-random",
        description="BrushNet's weights: a name of `bglora models`, hub name, or path. Take those for random masks; "
        "those for segmentation masks fill a hole with a thing of its outline.",
    )
    brushnet_base: str = Field(
        "realistic-vision",
        description="The model that BrushNet steers, of the same family (Stable Diffusion 1.5 or SDXL): a name of "
        "`bglora models`, a hub name, a diffusers folder, or one .safetensors file.",
    )
    sdxl: str = Field(
        "sdxl-inpainting",
        description="The model of the engine sdxl: one tuned to fill holes, or any SDXL model.",
    )
    prompt: str = Field(
        "empty background of a 3D animated film, detailed scenery, sharp focus",
        description="The empty place in words, for brushnet and sdxl. {title}: that of the scene, once it is known.",
    )
    negative_prompt: str = Field(
        "person, people, character, face, animal, creature, silhouette, statue, shadow of a person, text, blurry, ugly",
        description="What is not to be painted; caption.character_names are added to it.",
    )
    prompts: dict[str, str] = Field(
        {},
        description="Other prompts by pattern of shot, scene or its title, the first that fits: "
        '{ "harbor-s00*" = "a quay at dusk, {title}" }.',
    )
    steps: int = Field(50, ge=1, le=1000, description="Denoising steps of brushnet and sdxl.")
    guidance_scale: float = Field(
        7.5,
        ge=0,
        le=30,
        description="How strongly words count; up to 1 the negative prompt is not read.",
    )
    scheduler: Literal["auto", "unipc", "dpm++", "ddim"] = Field(
        "auto", description="Sampler; auto: unipc with Stable Diffusion 1.5, dpm++ with SDXL, as BrushNet's authors do."
    )
    few_steps: str = Field(
        "",
        description="An LCM, Lightning or Hyper adapter, by name, hub name or path (lcm-lora-sd15): at most 8 steps, "
        "guidance lowered to what it bears. Empty: none.",
    )
    lama_first: bool = Field(False, description="Let brushnet and sdxl start from LaMa's fill instead of pure noise.")
    strength: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the noise that LaMa's fill is covered with; 1: nothing is seen of it.",
    )
    batch: int = Field(4, ge=1, le=64, description="Parts of frames painted at once; halved where memory is short.")
    low_memory: Literal["auto", "yes", "no"] = Field(
        "auto", description="Save memory of the card at the cost of time; auto: on cards below 16 GB."
    )
    lama: str = Field(
        "big-lama",
        description="Weights of the engines lama and simple_lama: a name that `bglora models` lists, or the path of a "
        "checkpoint or of its folder.",
    )
    lama_side: int = Field(
        1024,
        ge=0,
        le=8192,
        description="Longest side (pixels) up to which lama looks at a whole picture. Of larger ones it sees the "
        "surroundings of each hole, made smaller where they are longer than this. 0: always whole, at full size.",
    )
    lama_tile: int = Field(
        1024,
        ge=256,
        le=4096,
        description="Longest side (pixels) that goes through lama at once; what is larger goes in overlapping tiles. "
        "Less takes less memory.",
    )
    lama_compile: bool = Field(
        False,
        description="Compile lama for the graphics card. Takes about a minute for each size of picture at first; pays "
        "from some thousand fills of one size.",
    )
    recover: bool = Field(True, description="Take what another frame of the shot shows from there.")
    revisit: bool = Field(
        True,
        description="Where the camera returns to the same viewpoint in another shot, take from there what no frame of "
        "the shot shows. Only with `recover`.",
    )
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
    hole_gain_db: float = Field(
        -3.0,
        ge=-99,
        le=99,
        description="PSNR (dB) inside a withheld hole, above that of a flat color there, that a fill must reach. Right "
        "texture that does not lie exactly as in the truth loses 3 dB to a flat color.",
    )
    hole_gain_ssim: float = Field(
        -0.1, ge=-2, le=2, description="SSIM inside a withheld hole, above that of a flat color there; as before."
    )
    tries: int = Field(
        2,
        ge=1,
        le=10,
        description="How often each engine is tried, with another seed each time, "
        "before the next one is or the plate is dropped.",
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
    audit: bool = Field(True, description="Drop plates in which something of a character may be left.")
    detector: bool = Field(
        False,
        description="Let segment's detector look for characters on every plate. Where it finds one, sam2 or sam3 masks "
        "it and the plate is made again, twice at most; then the plate is dropped.",
    )
    grain: Literal["none", "match"] = Field(
        "none",
        description="Grain of recovered and guessed pixels: none, or match (as much as the frame has).",
    )
    wide: bool = Field(
        False, description="Also stitch a pan's background wider than the frame, cut to training buckets."
    )
