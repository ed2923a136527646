"""Choices of a training beyond its sizes and rates, under sd-scripts' names; the defaults change nothing.

Imports nothing heavy: stages and settings build these, the trainer reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class NoiseOptions:
    """What is added to the latents, and when.

    Attributes:
        noise_offset: strength of a constant per picture and channel on top of the noise; 0: none.
        noise_offset_random_strength: draw the strength of each batch between 0 and `noise_offset`.
        adaptive_noise_scale: so much more offset per unit of the channel's mean.
        multires_noise_iterations: octaves of pyramid noise at most; 0: none.
        multires_noise_discount: each octave counts so much of the one before.
        ip_noise_gamma: further noise in the input that is no part of the target (input perturbation); 0: none.
        ip_noise_gamma_random_strength: draw its strength of each batch between 0 and `ip_noise_gamma`.
        min_timestep, max_timestep: timesteps are drawn from min to max - 1; a max of 0 means all.
        zero_terminal_snr: rescale the betas so that the last step is noise alone (Lin et al. 2024).
        prediction: what the U-Net predicts; `base`: what its scheduler's config says.
    """

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False
    min_timestep: int = 0
    max_timestep: int = 0
    zero_terminal_snr: bool = False
    prediction: Prediction = "base"


@dataclass(frozen=True)
class LossOptions:
    """How far off the prediction is said to be, and how much each timestep counts.

    Attributes:
        loss_type: squared, absolute, or one of the pseudo-Huber losses.
        huber_schedule: how the Huber threshold goes over the timesteps.
        huber_c, huber_scale: its smallest value, and a factor.
        min_snr_gamma: weigh by min(SNR, gamma) / SNR (Hang et al. 2023); 0: off.
        scale_v_pred_loss_like_noise_pred: weigh a v-prediction loss by SNR / (SNR + 1).
        v_pred_like_loss: add so much of the loss divided by that scale; 0: off.
        debiased_estimation_loss: weigh by 1 / sqrt(SNR) (Yu et al. 2024).
    """

    loss_type: LossType = "l2"
    huber_schedule: HuberSchedule = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float = 0.0
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float = 0.0
    debiased_estimation_loss: bool = False


@dataclass(frozen=True)
class CaptionOptions:
    """How a caption varies from one showing to the next.

    Attributes:
        caption_prefix, caption_suffix: joined to the caption with a space, before anything else.
        shuffle_caption: tags come in random order, the first `keep_tokens` excepted.
        keep_tokens: tags at the start that are neither moved nor dropped nor warmed up.
        keep_tokens_separator: text in the caption that ends the kept tags (and, a second time, starts kept ones again).
        caption_separator: what is between two tags.
        secondary_separator: becomes `caption_separator` at the end; joins tags that move together.
        weighted_captions: `(word:1.2)` weighs a word's states, as in prompts of A1111.
        enable_wildcard: `{red|blue}` is one of the two; one line of several is taken.
        caption_dropout_rate: share of showings without any caption.
        caption_dropout_every_n_epochs: every n-th epoch has no captions; 0: never.
        caption_tag_dropout_rate: share of tags left out.
        token_warmup_min: tags shown at the start, beside the kept ones.
        token_warmup_step: optimizer step at which all are shown; below 1 a share of all steps; 0: from the start.
    """

    caption_prefix: str = ""
    caption_suffix: str = ""
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    caption_separator: str = ","
    secondary_separator: str = ""
    weighted_captions: bool = False
    enable_wildcard: bool = False
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1
    token_warmup_step: float = 0.0

    @property
    def varies(self) -> bool:
        """Two showings of one caption may differ, so that it cannot be encoded once."""
        moved = self.shuffle_caption or self.enable_wildcard or self.token_warmup_step > 0
        dropped = self.caption_dropout_rate > 0 or self.caption_dropout_every_n_epochs > 0
        return moved or dropped or self.caption_tag_dropout_rate > 0


@dataclass(frozen=True)
class DropoutOptions:
    """What the LoRA leaves out while it learns: 0 is off, each a share from 0 to below 1.

    Attributes:
        network_dropout: of the activations between down and up.
        rank_dropout: of the ranks, per picture.
        module_dropout: of the layers, per micro-batch.
    """

    network_dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0

    @property
    def any(self) -> bool:
        return bool(self.network_dropout or self.rank_dropout or self.module_dropout)


@dataclass(frozen=True)
class NetworkOptions:
    """Size and extent of a LoRA, under sd-scripts' names.

    Attributes:
        dim: rank; alpha: the branch is scaled by alpha / dim; 0: by 1.
        conv_dim: rank of 3 x 3 convolutions, 0: none; conv_alpha: theirs.
        text_encoders: both text encoders get a LoRA, too.
        unet: the U-Net gets one.
        dora: weights are decomposed into magnitude and direction (Liu et al. 2024), by peft.
        dropout: see there.
    """

    dim: int
    alpha: float
    conv_dim: int = 0
    conv_alpha: float = 1.0
    text_encoders: bool = False
    unet: bool = True
    dropout: DropoutOptions = DropoutOptions()
    dora: bool = False

    def size(self, large_kernel: bool) -> tuple[int, float]:
        """Rank and alpha of a layer."""
        dim, alpha = (self.conv_dim, self.conv_alpha) if large_kernel else (self.dim, self.alpha)
        return dim, alpha or float(dim)


@dataclass(frozen=True)
class RateOptions:
    """Shape of the learning rate over a training, under sd-scripts' names.

    Attributes:
        lr_scheduler: how it goes on after the warm-up.
        lr_warmup_steps: optimizer steps in which it rises from 0; a float up to 1.0: a share of all steps.
        lr_decay_steps: steps of the decay at the end of warmup_stable_decay; a float up to 1.0: a share.
        lr_scheduler_num_cycles: cosines one after the other with cosine_with_restarts.
        lr_scheduler_power: exponent of polynomial.
        lr_scheduler_min_lr_ratio: share of the rate that cosine_with_min_lr and warmup_stable_decay end at.
        lr_scheduler_timescale: of inverse_sqrt; 0: the warm-up's steps, or 10,000.
    """

    lr_scheduler: Scheduler = "cosine"
    lr_warmup_steps: int | float = 0
    lr_decay_steps: int | float = 0
    lr_scheduler_num_cycles: int = 1
    lr_scheduler_power: float = 1.0
    lr_scheduler_min_lr_ratio: float = 0.0
    lr_scheduler_timescale: int = 0
