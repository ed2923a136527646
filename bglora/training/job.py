"""One training as data: what every training backend is handed, and what it hands back. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bglora.errors import UserError
from bglora.training.groups import LearningRates
from bglora.training.options import (
    CaptionOptions,
    DropoutOptions,
    LossOptions,
    NetworkOptions,
    NoiseOptions,
    Optimizer,
    Quantization,
    RateOptions,
    Scheduler,
)

if TYPE_CHECKING:
    from bglora.training.buckets import Bucketing

ORIGINAL, RECOVERED, GUESSED, UNTRUSTED = range(4)
"""Provenance of a plate's pixel, as stored in provenance/<shot>/<FFFFFF>.png."""


class Diverged(UserError):
    """Raised by a training whose loss or weights are no finite numbers any more."""


class Paused(Exception):
    """Raised by a training that was asked to stop and has saved its state; the same job goes on from there."""


@dataclass(frozen=True)
class TrainPicture:
    """One picture to learn from, or to validate on.

    Attributes:
        name: `harbor-s003/000060`.
        image: RGB picture of any size, absolute path.
        caption: the whole caption, as it is encoded: trigger, prefix and all.
        provenance: 8-bit picture of the plate's size with values 0 to 3 (see above); None: all of it is original.
    """

    name: str
    image: Path
    caption: str
    provenance: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters, in sd-scripts' terms where it has one.

    Attributes:
        resolution: buckets have about resolution x resolution pixels.
        bucket_step: bucket sides are multiples of this many pixels; 0: one square bucket, center crop.
        dim: rank.
        alpha: the LoRA's branch is scaled by alpha / dim.
        batch_size: pictures per micro-batch.
        accumulation: micro-batches per optimizer step and process.
        processes: how many processes train together, on a GPU each or on the CPU; a step takes so many more pictures.
        epochs: passes over all pictures, each `repeats` times.
        max_steps: optimizer steps at most; 0: as many as the epochs take.
        provenance_weights: loss weight of each provenance value (original, recovered, guessed, untrusted); None: all 1.
        loraplus_lr_ratio: the up matrices' learning rate is so many times higher (LoRA+, Hayou et al. 2024).
        unet_lr, text_encoder_lr: learning rates of these parts; 0: the same.
        block_lr_weights: factor of the learning rate of each of the U-Net's 21 blocks; empty: all 1.
        warmup_steps: optimizer steps in which the learning rate rises from 0; a float up to 1.0: a share of all.
        lr_decay_steps, lr_scheduler_num_cycles, lr_scheduler_power, lr_scheduler_min_lr_ratio: see `RateOptions`.
        optimizer: adamw (fused), adamw8bit (bitsandbytes), prodigy (prodigyopt) or schedule_free (schedulefree).
        optimizer_args: more of its arguments, `betas=0.9,0.99`, as sd-scripts writes them.
        conv_dim, conv_alpha: rank and alpha of 3 x 3 convolutions; a rank of 0: they get none.
        text_encoders: both text encoders are trained, too.
        scale_weight_norms: the norm of a layer's change is cut to this after every micro-batch; 0: never.
        dora: magnitude and direction of the weights are learned apart (DoRA, Liu et al. 2024).
        noise, loss, captions, dropout: see there.
        cuda_graphs: steps are recorded and replayed on a card (`bglora.training.graphs`).
        base_quantization: the base's weights are held in fewer bits (`bglora.training.quantized`).
        resolution_height: the height, where `resolution` is the width; 0: the same.
        min_bucket, max_bucket: sides of buckets; 0: half and 1.5 times the resolution.
        bucket_no_upscale: pictures are never made larger.
        alpha_mask: the transparency of a picture weighs its loss, where that is less than the provenance's weight.
        resize_rank: the finished LoRA is cut to this rank; 0: it stays as trained.
        checkpoint_every: optimizer steps between saved states (for resuming).
        validate_every: optimizer steps between validations; 0: an eighth of all steps.
        samples: sample pictures painted along the way, at validations.
        sample_steps: denoising steps of a sample picture.
        keep: which weights become the LoRA: the best by validation loss, or the last.
        ema: decay of the moving average of the weights, which then is what is validated and kept; 0: none.
        early_stop: validations in a row without a better one after which training ends; 0: it never ends early.
        keep_checkpoints: LoRA files along the way, evenly spread over the steps.
        tensorboard: loss, learning rate, validation and step time are also written as TensorBoard's events.
        threads: CPU threads of torch; part of the recipe because sums depend on it in their last bits.
    """

    resolution: int = 1024
    bucket_step: int = 64
    dim: int = 128
    alpha: float = 96.0
    learning_rate: float = 1e-4
    loraplus_lr_ratio: float = 1.0
    unet_lr: float = 0.0
    text_encoder_lr: float = 0.0
    block_lr_weights: tuple[float, ...] = ()
    lr_scheduler: Scheduler = "cosine"
    warmup_steps: int | float = 0
    lr_decay_steps: int | float = 0
    lr_scheduler_num_cycles: int = 1
    lr_scheduler_power: float = 1.0
    lr_scheduler_min_lr_ratio: float = 0.0
    optimizer: Optimizer = "adamw"
    optimizer_args: tuple[str, ...] = ()
    weight_decay: float = 0.01
    conv_dim: int = 0
    conv_alpha: float = 1.0
    text_encoders: bool = False
    scale_weight_norms: float = 0.0
    dora: bool = False
    base_quantization: Quantization = "none"
    cuda_graphs: bool = True
    noise: NoiseOptions = NoiseOptions()
    loss: LossOptions = LossOptions()
    captions: CaptionOptions = CaptionOptions()
    dropout: DropoutOptions = DropoutOptions()
    resolution_height: int = 0
    min_bucket: int = 0
    max_bucket: int = 0
    bucket_no_upscale: bool = False
    alpha_mask: bool = False
    resize_rank: int = 0
    max_grad_norm: float = 1.0
    batch_size: int = 1
    accumulation: int = 2
    processes: int = 1
    epochs: int = 12
    max_steps: int = 0
    provenance_weights: tuple[float, float, float, float] | None = (1.0, 1.0, 0.3, 0.0)
    save_precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 200
    validate_every: int = 0
    samples: int = 2
    sample_steps: int = 20
    sample_guidance: float = 7.5
    keep: Literal["best", "last"] = "best"
    ema: float = 0.0
    early_stop: int = 0
    keep_checkpoints: int = 0
    tensorboard: bool = True
    seed: int = 0
    threads: int = 2

    @property
    def bucketing(self) -> Bucketing:
        from bglora.training.buckets import Bucketing

        area = (self.resolution_height or self.resolution, self.resolution)
        return Bucketing(area, self.min_bucket, self.max_bucket, self.bucket_step, self.bucket_no_upscale)

    @property
    def micro_batches(self) -> int:
        """Of an optimizer step, of all processes together; the last step of an epoch may have fewer."""
        return self.accumulation * self.processes

    @property
    def network(self) -> NetworkOptions:
        return NetworkOptions(
            self.dim, self.alpha, self.conv_dim, self.conv_alpha, self.text_encoders, True, self.dropout, self.dora
        )

    @property
    def rates(self) -> RateOptions:
        return RateOptions(
            self.lr_scheduler,
            self.warmup_steps,
            self.lr_decay_steps,
            self.lr_scheduler_num_cycles,
            self.lr_scheduler_power,
            self.lr_scheduler_min_lr_ratio,
        )

    @property
    def learning_rates(self) -> LearningRates:
        ratio, text = self.loraplus_lr_ratio, self.text_encoder_lr or self.learning_rate
        return LearningRates(self.unet_lr or self.learning_rate, text, ratio, ratio, self.block_lr_weights)


@dataclass(frozen=True)
class TrainJob:
    """One LoRA to train: a scene's pictures on a base model.

    Attributes:
        scene: `scene-00`; the LoRA is written to `loras/<scene>.safetensors` below `tools.scratch`.
        title: the scene's name as a person reads it.
        base: `mini`, a hub name, a diffusers folder or a .safetensors file; paths absolute.
        pictures: at least one.
        held_out: never trained on; give the validation loss. May be empty.
        dataset: the scene's dataset folder (sd-scripts' train_data_dir), absolute.
        repeats: how often an epoch shows each picture.
        flip: every picture may be mirrored (decided per scene).
        keep_tokens: tags at the start of every caption that stay in place (trigger and prefix).
        created: the project's date (YYYY-MM-DD), the only date that goes into the file; may be empty.
        force: start even though the memory estimate says that it won't fit.
        network_weights: a LoRA in kohya's format to start from, absolute.
        taken: fields of the recipe that another LoRA's metadata gave (`train.like`), also where they are the defaults.
    """

    scene: str
    title: str
    trigger: str
    base: str
    pictures: tuple[TrainPicture, ...]
    held_out: tuple[TrainPicture, ...]
    dataset: Path
    repeats: int
    flip: bool
    keep_tokens: int
    created: str
    recipe: Recipe
    force: bool = False
    network_weights: Path | None = None
    taken: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainResult:
    """What a training backend hands back.

    Attributes:
        outputs: files written below `tools.scratch`, POSIX paths relative to it; the LoRA first.
        record: JSON values: trigger, base, dim, alpha, steps (optimizer steps), pictures_seen, loss, validation,
            curve [[step, loss, validation or null, learning rate], ...], checkpoints.
        undone: what a person has to do before there is a LoRA; empty where it is trained. Outputs are kept as they are.
    """

    outputs: tuple[str, ...]
    record: Mapping[str, Any] = field(default_factory=dict)
    undone: str = ""
