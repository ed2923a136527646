"""Settings of `train`, `test` and `compose`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bglora.settings.table import Table, TrainName

NEGATIVE = "person, people, character, animal, creature"
Scale = Annotated[float, Field(ge=0, le=2)]
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
    base: str = Field("mini", description="Base model: mini, a hub name, a diffusers folder or a .safetensors file.")
    resolution: int = Field(1024, ge=64, le=4096, description="Pixels: pictures have about resolution x resolution.")
    bucket_step: Literal[0, 32, 64, 128] = Field(
        64, description="Pixels: bucket sides are multiples of it. 0: squares, cropped at the center."
    )
    dim: int = Field(128, ge=1, le=1024, description="Rank of the LoRA.")
    alpha: float = Field(96.0, gt=0, le=1024, description="The LoRA is scaled by alpha / dim.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="AdamW's learning rate.")
    loraplus_lr_ratio: float = Field(
        1.0, ge=1, le=64, description="The up matrices, which start at zero, learn so many times faster (LoRA+)."
    )
    lr_scheduler: Literal["cosine", "constant"] = Field("cosine", description="How the learning rate goes on.")
    lr_warmup_steps: int = Field(0, ge=0, description="Optimizer steps in which the learning rate rises from 0.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to this norm. 0: never.")
    batch_size: int = Field(1, ge=1, le=64, description="Pictures per micro-batch.")
    accumulation: int = Field(2, ge=1, le=64, description="Micro-batches per optimizer step.")
    epochs: int = Field(12, ge=1, description="Epochs; `epochs_small` for scenes under 100 plates.")
    epochs_small: int = Field(20, ge=1, description="Epochs for scenes under 100 plates.")
    max_steps: int = Field(0, ge=0, description="Optimizer steps at most. 0: as many as the epochs take.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations instead of keeping them: a third slower, far less memory."
    )
    save_precision: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="Number format of the LoRA file.")
    keep: Literal["best", "last"] = Field(
        "best", description="Which weights are kept: best by validation loss, or last."
    )
    provenance_loss: bool = Field(True, description="Weigh the loss by provenance: guessed less, not trusted 0.")
    guessed_weight: float = Field(0.3, ge=0, le=1, description="Loss weight of guessed pixels with provenance_loss.")
    checkpoint_every: int = Field(
        200, ge=1, description="Optimizer steps between states that a killed run goes on from."
    )
    validate_every: int = Field(0, ge=0, description="Optimizer steps between validations. 0: an eighth of all.")
    samples: int = Field(2, ge=0, le=8, description="Sample pictures painted at each validation.")
    sample_steps: int = Field(20, ge=1, le=200, description="Denoising steps of a sample picture.")
    sample_guidance: float = Field(7.5, ge=0, le=30, description="Classifier-free guidance of a sample picture.")
    force: bool = Field(False, description="Start even though the memory estimate says that it won't fit.")
    seed: int = Field(0, ge=0, description="Seed of noise, order and initial weights.")
    threads: int = Field(
        2, ge=1, le=256, description="CPU threads of train, test and compose; part of the result's last bits."
    )


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
        description="Let segment's detector count the pictures on which somebody is though the prompt asks for nobody.",
    )
    fail_on: tuple[Verdict, ...] = Field((), description="Verdicts that make the run end with exit code 1, for CI.")


class ComposeSettings(Table):
    mode: Literal["weighted", "switch"] = Field(
        "weighted", description="How adapters act together: added, or in turn from step to step."
    )
    character_scale: Scale = Field(1.0, description="Scale of character LoRAs, 0 to 2.")
    background_scale: Scale = Field(0.7, description="Scale of the background LoRA, 0 to 2.")
    characters: tuple[str, ...] = Field((), description="Character LoRA files; none: the character comes from words.")
    character_prompt: str = Field("a character", description="Words for who stands in the picture.")
    prompt: str = Field("", description="Prompt; empty: the character's words, trigger and caption of the scene.")
    negative_prompt: str = Field("", description="What must not appear.")
    pictures: int = Field(2, ge=1, le=64, description="Pictures per background.")
    size: int = Field(0, ge=0, le=4096, description="Pixels of a picture's sides. 0: the base's own size.")
    steps: int = Field(50, ge=1, le=200, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=0, le=30, description="Classifier-free guidance.")
