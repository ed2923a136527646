"""Settings of `train`, `test` and `compose`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from bglora.settings.table import Table, TrainName

LossType = Literal["l2", "l1", "huber", "smooth_l1"]
HuberSchedule = Literal["snr", "exponential", "constant"]
Prediction = Literal["base", "epsilon", "v_prediction"]
Optimizer = Literal["adamw", "adamw8bit", "prodigy", "schedule_free"]
Quantization = Literal["none", "int8", "nf4"]
Scheduler = Literal[
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "linear",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
]
"""The trainer's own choices, which settings may not import; a test compares them."""

SMALL_SCENE = 100
"""Plates from which `train.epochs` counts; below it, `train.epochs_small`."""

ALL_SCENES = "all-scenes"
"""Name of the LoRA that `train.scenes` asks for beside or instead of those of single scenes."""
NEGATIVE = "person, people, character, animal, creature"
CharacterName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Scale = Annotated[float, Field(ge=0, le=2)]


def _scale_or_auto(value: Any) -> Any:
    """Said once: a union would complain once for each of its members."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and 0 <= value <= 2):
        raise ValueError('should be a number from 0 to 2, or "auto"')
    return value


ScaleOrAuto = Annotated[float | Literal["auto"], BeforeValidator(_scale_or_auto)]
Share = Annotated[float, Field(ge=0, le=100)]
Steps = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]
"""A number of steps, or a share of all of them."""
Verdict = Literal[
    "too weak",
    "overpowers the prompt",
    "hallucinates characters",
    "copies its training pictures",
    "conflicts with the character",
    "not enough data",
]


class TrainSettings(Table):
    backend: TrainName = Field("native", description="Who trains.")
    kohya_template: str = Field(
        "sdxl_16gb_stable",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Configuration for kohya, by graphics memory: sdxl_12gb, sdxl_16gb_stable, sdxl_24gb, sdxl_80gb, "
        "or a file of your own in templates/kohya/ of the project.",
    )
    sd_scripts: str = Field(
        "", description="Folder of your sd-scripts, for kohya. Empty: its configuration is written, and not started."
    )
    kohya_python: str = Field(
        "",
        description="Python that sd-scripts runs with: a file, a folder of an environment, or words as "
        '"conda run -n NAME". Empty: venv or .venv in sd_scripts, else the Python of bglora.',
    )
    base: str = Field("mini", description="Base model: mini, a hub name, a diffusers folder or a .safetensors file.")
    characters: dict[CharacterName, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Character LoRAs to train on segmented/character, by name: patterns of tracks, like "
        '{ kid = ["harbor-s000_1", "harbor-s00[23]_1"] }, or [] for the one seen most, told by its colors.',
    )
    base_quantization: Quantization = Field(
        "none",
        description="Hold the base's weights in fewer bits while training: int8 (half), or nf4 (a quarter; needs "
        "bitsandbytes). Slower, and a little less exact.",
    )
    scenes: Literal["each", "all", "both"] = Field(
        "each", description="A LoRA for each scene, one for all scenes (a trigger for each), or both."
    )
    like: str = Field(
        "",
        description="A LoRA file whose hyper-parameters are taken over; what you changed here stays as it is here.",
    )
    like_except: tuple[str, ...] = Field((), description="Keys of this table that stay as they are here, too.")
    network_weights: str = Field(
        "", description="A LoRA in kohya's format to start from; rank and alpha must be the same."
    )
    resolution: int = Field(1024, ge=64, le=4096, description="Pixels: pictures have about resolution x resolution.")
    bucket_step: Literal[0, 32, 64, 128] = Field(
        64, description="Pixels: bucket sides are multiples of it. 0: squares, cropped at the center."
    )
    min_bucket: int = Field(0, ge=0, le=4096, description="Shortest side of buckets. 0: half the resolution.")
    max_bucket: int = Field(0, ge=0, le=8192, description="Longest side of buckets. 0: 1.5 times the resolution.")
    bucket_no_upscale: bool = Field(
        False, description="Pictures are only made smaller; min_bucket and max_bucket count for nothing then."
    )
    dim: int = Field(128, ge=1, le=1024, description="Rank of the LoRA.")
    alpha: float = Field(96.0, gt=0, le=1024, description="The LoRA is scaled by alpha / dim.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="AdamW's learning rate.")
    unet_lr: float = Field(0.0, ge=0, le=1, description="The U-Net's own learning rate. 0: learning_rate.")
    text_encoders: bool = Field(False, description="Train both text encoders, too: slow, and captions aren't cached.")
    text_encoder_lr: float = Field(0.0, ge=0, le=1, description="The text encoders' learning rate. 0: learning_rate.")
    conv_dim: int = Field(0, ge=0, le=1024, description="Rank of the U-Net's 3 x 3 convolutions. 0: they get no LoRA.")
    conv_alpha: float = Field(1.0, ge=0, le=1024, description="Their part is scaled by conv_alpha / conv_dim.")
    network_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the LoRA's inner values left out.")
    rank_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the ranks left out, per picture.")
    module_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the layers left out, per micro-batch.")
    scale_weight_norms: float = Field(0.0, ge=0, description="No layer changes by more than this norm. 0: no bound.")
    dora: bool = Field(
        False,
        description="Learn the weights' magnitude and direction apart (DoRA): slower, and not every tool reads it.",
    )
    block_lr_weights: tuple[Share, ...] = Field(
        (),
        description="Factors of the learning rate of the U-Net's 21 blocks: 9 down, 3 middle, 9 up. Empty: all 1.",
    )
    loraplus_lr_ratio: float = Field(
        1.0, ge=1, le=64, description="The up matrices, which start at zero, learn so many times faster (LoRA+)."
    )
    optimizer: Optimizer = Field(
        "adamw",
        description="adamw, adamw8bit (pip install bitsandbytes, needs a GPU), prodigy (pip install prodigyopt; "
        "learning rate 1) or schedule_free (pip install schedulefree; no lr_scheduler).",
    )
    optimizer_args: tuple[str, ...] = Field((), description='More of its arguments: ["betas=0.9,0.99", "eps=1e-8"].')
    weight_decay: float = Field(0.01, ge=0, le=1, description="The optimizer's weight decay.")
    lr_scheduler: Scheduler = Field(
        "cosine",
        description="How the learning rate goes on: constant, constant_with_warmup, cosine, cosine_with_restarts, "
        "cosine_with_min_lr, linear, polynomial, inverse_sqrt or warmup_stable_decay.",
    )
    lr_warmup_steps: Steps = Field(
        0, description="Optimizer steps in which the learning rate rises from 0; 0.05: so large a share of all."
    )
    lr_decay_steps: Steps = Field(0, description="Steps, or share, of the fall at the end of warmup_stable_decay.")
    lr_scheduler_num_cycles: int = Field(1, ge=1, le=100, description="Cosines of cosine_with_restarts.")
    lr_scheduler_power: float = Field(1.0, gt=0, le=10, description="Exponent of polynomial.")
    lr_scheduler_min_lr_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of the rate that cosine_with_min_lr and warmup_stable_decay end at."
    )
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to this norm. 0: never.")
    batch_size: int = Field(1, ge=1, le=64, description="Pictures per micro-batch.")
    accumulation: int = Field(2, ge=1, le=64, description="Micro-batches per optimizer step, of each process.")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that train together, each on a GPU of its own (or all on the CPU); an optimizer step "
        "takes so many times more pictures.",
    )
    epochs: int = Field(12, ge=1, description="Epochs; `epochs_small` for scenes under 100 plates.")
    epochs_small: int = Field(20, ge=1, description="Epochs for scenes under 100 plates.")
    max_steps: int = Field(0, ge=0, description="Optimizer steps at most. 0: as many as the epochs take.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations instead of keeping them: a third slower, far less memory."
    )
    cuda_graphs: bool = Field(
        True,
        description="On a GPU, record a step's work and replay it: faster, and a little more memory. Not with "
        "gradient_checkpointing, dropouts, text_encoders or dora.",
    )
    save_precision: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="Number format of the LoRA file.")
    resize_rank: int = Field(
        0, ge=0, le=1024, description="Cut the finished LoRA to this rank, by singular values. 0: as trained."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Which weights are kept: best by validation loss, or last."
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights, which is then what is validated and kept: 0.999. "
        "0: off.",
    )
    early_stop: int = Field(
        0, ge=0, description="Validations in a row without a better one after which training ends. 0: it never does."
    )
    keep_checkpoints: int = Field(
        0, ge=0, le=20, description="LoRA files kept along the way as well, in loras/<scene>/checkpoints/."
    )
    provenance_loss: bool = Field(True, description="Weigh the loss by provenance: guessed less, not trusted 0.")
    guessed_weight: float = Field(0.3, ge=0, le=1, description="Loss weight of guessed pixels with provenance_loss.")
    alpha_mask: bool = Field(False, description="Weigh the loss by the pictures' transparency, where that is less.")
    loss_type: LossType = Field("l2", description="l2 (squares), l1, huber or smooth_l1, which forgive outliers.")
    huber_schedule: HuberSchedule = Field("snr", description="Huber's threshold: snr, exponential or constant.")
    huber_c: float = Field(0.1, gt=0, le=1, description="Huber's smallest threshold.")
    huber_scale: float = Field(1.0, gt=0, le=100, description="Factor of Huber's threshold.")
    min_snr_gamma: float = Field(
        0.0, ge=0, le=100, description="Timesteps with little noise count less (min-SNR; 5 is usual). 0: off."
    )
    debiased_estimation_loss: bool = Field(False, description="Weigh timesteps by 1 / sqrt(SNR).")
    scale_v_pred_loss_like_noise_pred: bool = Field(
        False, description="Weigh the loss of a v-prediction as that of a noise prediction."
    )
    v_pred_like_loss: float = Field(0.0, ge=0, le=10, description="Add so much of a v-prediction-like loss. 0: off.")
    prediction: Prediction = Field(
        "base", description="What the U-Net predicts: base (as its configuration says), epsilon or v_prediction."
    )
    zero_terminal_snr: bool = Field(False, description="The last timestep is noise alone; for v-prediction bases.")
    min_timestep: int = Field(0, ge=0, le=999, description="First timestep that is trained.")
    max_timestep: int = Field(0, ge=0, le=1000, description="Timestep before which training ends. 0: all.")
    noise_offset: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Strength of noise constant over a picture, for dark and bright ones. 0: off.",
    )
    noise_offset_random_strength: bool = Field(False, description="Draw that strength between 0 and noise_offset.")
    adaptive_noise_scale: float = Field(0.0, ge=-1, le=1, description="More noise_offset for a picture far from gray.")
    multires_noise_iterations: int = Field(0, ge=0, le=10, description="Octaves of pyramid noise. 0: off.")
    multires_noise_discount: float = Field(0.3, ge=0, le=1, description="Strength of each octave to the one before.")
    ip_noise_gamma: float = Field(0.0, ge=0, le=1, description="Further noise in the input alone. 0: off.")
    ip_noise_gamma_random_strength: bool = Field(False, description="Draw its strength between 0 and ip_noise_gamma.")
    shuffle_caption: bool = Field(False, description="Tags in random order, trigger and prefix excepted.")
    caption_dropout_rate: float = Field(0.0, ge=0, le=1, description="Share of showings without a caption.")
    caption_dropout_every_n_epochs: int = Field(0, ge=0, description="Every n-th epoch has no captions. 0: none.")
    caption_tag_dropout_rate: float = Field(
        0.0, ge=0, le=1, description="Share of tags left out, trigger and prefix excepted."
    )
    token_warmup_min: int = Field(1, ge=0, description="Tags shown at the start, beside trigger and prefix.")
    token_warmup_step: Steps = Field(0, description="Step, or share of all, at which all tags are shown. 0: the first.")
    weighted_captions: bool = Field(
        False, description="(word:1.2) and [word] in captions weigh words, as in prompts of A1111."
    )
    enable_wildcard: bool = Field(False, description="{red|blue} in a caption is one of the two.")
    keep_tokens_separator: str = Field("", max_length=16, description="Text in captions that ends the kept tags.")
    caption_separator: str = Field(",", min_length=1, max_length=16, description="Text between two tags.")
    secondary_separator: str = Field("", max_length=16, description="Text that joins tags which move together.")
    checkpoint_every: int = Field(
        200, ge=1, description="Optimizer steps between states that a killed run goes on from."
    )
    validate_every: int = Field(0, ge=0, description="Optimizer steps between validations. 0: an eighth of all.")
    samples: int = Field(2, ge=0, le=8, description="Sample pictures painted at each validation.")
    sample_steps: int = Field(20, ge=1, le=200, description="Denoising steps of a sample picture.")
    sample_guidance: float = Field(7.5, ge=0, le=30, description="Classifier-free guidance of a sample picture.")
    tensorboard: bool = Field(
        True,
        description="Also write logs for TensorBoard: tensorboard --logdir .bglora/logs/train (needs tensorboardX).",
    )
    force: bool = Field(False, description="Start even though the memory estimate says that it won't fit.")
    seed: int = Field(0, ge=0, description="Seed of noise, order and initial weights.")
    threads: int = Field(
        2, ge=1, le=256, description="CPU threads of train, test and compose; part of the result's last bits."
    )

    @field_validator("like_except")
    @classmethod
    def _names_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in cls.model_fields:
                raise ValueError(f"should name keys of [train]; {name!r} is none")
        return value


class TestSettings(Table):
    prompts: tuple[str, ...] = Field((), description="Prompts of the grid; empty: made from the scene's captions.")
    scales: tuple[Scale, ...] = Field((0.0, 0.5, 0.7, 1.0), description="LoRA scales of the grid; 0 is the control.")
    seeds: int = Field(4, ge=1, le=64, description="Pictures per prompt and scale.")
    size: int = Field(0, ge=0, le=4096, description="Pixels of a picture's sides. 0: the base's own size.")
    steps: int = Field(50, ge=1, le=200, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=0, le=30, description="Classifier-free guidance.")
    negative_prompt: str = Field(NEGATIVE, description="What must not appear.")
    detector: bool = Field(
        False,
        description="Let segment's detector count the pictures on which somebody is, asked for or not. Off: on mini "
        "the small judge that comes with it counts, on other bases nobody.",
    )
    fail_on: tuple[Verdict, ...] = Field((), description="Verdicts that make the run end with exit code 1, for CI.")


class ComposeSettings(Table):
    mode: Literal["weighted", "switch", "regional"] = Field(
        "weighted",
        description="How adapters act together: added, in turn from step to step, or characters in their region only.",
    )
    region: tuple[str, ...] = Field(
        ("attention",),
        min_length=1,
        description="Where characters stand in mode regional, for all or for each: attention (where the painting "
        'itself puts them), a box in shares of the picture ("0.3 0.2 0.7 0.95": left, top, right, bottom), or a mask '
        "picture.",
    )
    feather: float = Field(
        0.08, ge=0, le=0.5, description="Width of a region's soft edge, as a share of the picture's shorter side."
    )
    character_scale: Scale = Field(1.0, description="Scale of character LoRAs, 0 to 2.")
    background_scale: ScaleOrAuto = Field(
        "auto", description="Scale of the background LoRA, 0 to 2; auto: what test recommends, 0.7 where it doesn't."
    )
    sweep: tuple[Scale, ...] = Field(
        (),
        description="Scales of the background LoRA to paint side by side, as a sheet; empty: background_scale alone.",
    )
    backgrounds: tuple[str, ...] = Field((), description="Scenes whose LoRAs are composed; empty: every one.")
    characters: tuple[str, ...] = Field(
        (),
        description="Character LoRAs that stand together: names in train.characters, or files. Empty: this project's "
        "own, a picture each; where there is none, the character comes from words.",
    )
    others: dict[str, Scale] = Field(
        default_factory=dict, description="More LoRAs (pose, expression, style): file to scale. They act everywhere."
    )
    character_prompt: str = Field("a character", description="Words for who stands in the picture.")
    prompt: str = Field("", description="Prompt; empty: the character's words, trigger and caption of the scene.")
    place_prompt: str = Field(
        "", description="Prompt of the place alone, for what lies outside of the region; empty: the scene's caption."
    )
    negative_prompt: str = Field("", description="What must not appear.")
    pictures: int = Field(2, ge=1, le=64, description="Pictures per background.")
    size: int = Field(
        0, ge=0, le=4096, multiple_of=8, description="Pixels of a picture's sides. 0: the base's own size."
    )
    steps: int = Field(50, ge=1, le=200, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=0, le=30, description="Classifier-free guidance.")
    memory: Literal["auto", "full", "offload", "tiled", "sequential"] = Field(
        "auto",
        description="What of the base lies on the card while test and compose paint: full (all, 12 GB), offload (the "
        "part at work, 8 GB), tiled (also the VAE in tiles, 6 GB), sequential (the layer at work; very slow), auto: by "
        "the card.",
    )
