"""Options of kohya's sd-scripts that undo each other, are ignored, or surprise. Pure data in, sentences out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

Config = Mapping[str, Any]
Grade = Literal["error", "notice"]
Row = tuple[str, str, str, Grade]
"""Option, what happens, cure, grade."""

ATTENTION = ("sdpa", "xformers", "mem_eff_attn")
CHANGES_CAPTIONS = ("shuffle_caption", "caption_dropout_rate", "token_warmup_step", "caption_tag_dropout_rate")
SILENTLY_LOST = (
    "caption_prefix",
    "caption_suffix",
    "enable_wildcard",
    "secondary_separator",
    "caption_dropout_every_n_epochs",
)


def conflicts(config: Config) -> Iterator[Row]:
    """All that is wrong between the options of one configuration (flat, as sd-scripts sees it)."""
    for rule in RULES:
        yield from rule(config)


def _needed(c: Config) -> Iterator[Row]:
    if not c.get("resolution"):
        yield "resolution", "is missing; the start is refused.", 'Write resolution = "1024,1024".', "error"
    if not c.get("pretrained_model_name_or_path"):
        yield "pretrained_model_name_or_path", "is missing.", "Name an SDXL checkpoint.", "error"
    if not c.get("train_data_dir") and not c.get("dataset_config"):
        what = "is missing; sd-scripts would end with exit code 0 and no file."
        yield "train_data_dir", what, "Name the folder that holds the <repeats>_<trigger> folders.", "error"
    if not c.get("network_module"):
        yield "network_module", "is missing.", 'Write network_module = "networks.lora".', "error"
    if not c.get("dataset_config") and c.get("caption_extension") != ".txt":
        what = 'is not ".txt"; captions would not be found, and the folder\'s name would be the caption.'
        yield "caption_extension", what, 'Write caption_extension = ".txt".', "error"
    if "caption_extention" in c:
        yield "caption_extention", "is the old, misspelt name.", 'Write caption_extension = ".txt".', "error"


def _memory(c: Config) -> Iterator[Row]:
    if not any(c.get(name) for name in ATTENTION):
        what = "is off, and so are xformers and mem_eff_attn: attention would be slow and large."
        yield "sdpa", what, "Write sdpa = true.", "error"
    if c.get("mixed_precision", "no") == "no":
        what = 'is "no" unless written here; accelerate\'s own setting does not count.'
        yield "mixed_precision", what, 'Write mixed_precision = "bf16".', "notice"
    for flag, precision in (("full_bf16", "bf16"), ("full_fp16", "fp16")):
        if c.get(flag) and c.get("mixed_precision") != precision:
            yield flag, f"needs mixed_precision {precision}.", f'Write mixed_precision = "{precision}".', "error"
    if c.get("mixed_precision") == "fp16" and not c.get("no_half_vae") and not c.get("vae"):
        what = "is off: SDXL's VAE overflows in fp16 and gives NaN latents."
        yield "no_half_vae", what, "Write no_half_vae = true.", "error"
    if c.get("fused_backward_pass"):
        yield "fused_backward_pass", "does nothing here.", "Delete it.", "notice"


def _latents(c: Config) -> Iterator[Row]:
    cached = next((name for name in ("cache_latents", "cache_latents_to_disk") if c.get(name)), "")
    for name in ("color_aug", "random_crop"):
        if cached and c.get(name):
            yield name, f"can't go with {cached}; the start is refused.", f"Write {name} = false.", "error"


def _text(c: Config) -> Iterator[Row]:
    names = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")
    cached = next((name for name in names if c.get(name)), "")
    if not cached:
        return
    for name in CHANGES_CAPTIONS:
        if c.get(name):
            yield name, f"can't go with {cached}; the start is refused.", f"Delete {name} or {cached}.", "error"
    for name in SILENTLY_LOST:
        if c.get(name):
            yield name, f"is silently not applied with {cached}.", "Put it into the captions.", "error"
    if not c.get("network_train_unet_only"):
        what = f"is off, but {cached} can't go with training the text encoders."
        yield "network_train_unet_only", what, "Write network_train_unet_only = true.", "error"


def _captions(c: Config) -> Iterator[Row]:
    if c.get("keep_tokens") and c.get("caption_prefix"):
        what = "is put before the caption and uses up keep_tokens: the tags meant are shuffled."
        yield "caption_prefix", what, "Leave it empty; bglora writes the prefix into the captions.", "error"
    moved = any(c.get(name) for name in ("shuffle_caption", "token_warmup_step", "caption_tag_dropout_rate"))
    if c.get("keep_tokens") and not moved:
        yield "keep_tokens", "has no effect: nothing moves tags.", "Fine as it is.", "notice"


def _schedule(c: Config) -> Iterator[Row]:
    warmup = c.get("lr_warmup_steps", 0)
    if c.get("lr_scheduler", "constant") == "constant" and warmup:
        cure = 'Write lr_scheduler = "constant_with_warmup".'
        yield "lr_scheduler", "is constant, which knows no lr_warmup_steps; the start fails.", cure, "error"
    if isinstance(warmup, float) and warmup >= 1:
        yield "lr_warmup_steps", f"{warmup} is a share: 1.0 is all steps.", f"Write {round(warmup)}.", "error"


def _buckets(c: Config) -> Iterator[Row]:
    steps = c.get("bucket_reso_steps")
    if isinstance(steps, int) and steps % 32:
        yield "bucket_reso_steps", "must be a multiple of 32; the start is refused.", "Write 64.", "error"
    if c.get("bucket_no_upscale") and (c.get("min_bucket_reso") or c.get("max_bucket_reso")):
        what = "makes min_bucket_reso and max_bucket_reso count for nothing."
        yield "bucket_no_upscale", what, "Delete one or the other.", "notice"
    sides = [int(side) for side in str(c.get("resolution", "")).split(",") if side.strip().isdigit()]
    if not sides or not c.get("enable_bucket") or c.get("bucket_no_upscale"):
        return
    least, most = c.get("min_bucket_reso", 256), c.get("max_bucket_reso", 1024)
    if isinstance(least, int) and least > min(sides):
        yield "min_bucket_reso", "is above resolution; the start is refused.", f"Write {min(sides) // 2}.", "error"
    if isinstance(most, int) and most < max(sides):
        yield "max_bucket_reso", "is below resolution; the start is refused.", f"Write {2 * max(sides)}.", "error"


def _noise(c: Config) -> Iterator[Row]:
    if c.get("adaptive_noise_scale") and not c.get("noise_offset"):
        yield "adaptive_noise_scale", "needs noise_offset; the start fails.", "Write noise_offset = 0.05.", "error"
    if c.get("v_pred_like_loss") and c.get("v_parameterization"):
        yield "v_pred_like_loss", "can't go with v_parameterization.", "Delete one of them.", "error"
    if c.get("scale_v_pred_loss_like_noise_pred") and not c.get("v_parameterization"):
        yield "scale_v_pred_loss_like_noise_pred", "needs v_parameterization.", "Delete it.", "error"
    if c.get("v2"):
        yield "v2", "is for Stable Diffusion 2; SDXL's script refuses it.", "Delete it.", "error"
    if c.get("zero_terminal_snr") and (c.get("min_snr_gamma") or c.get("debiased_estimation_loss")):
        what = "is on, but the loss weights are made from the ordinary noise schedule."
        yield "zero_terminal_snr", what, "Delete min_snr_gamma and debiased_estimation_loss.", "notice"


def _logging(c: Config) -> Iterator[Row]:
    if c.get("log_with") in ("tensorboard", "all") and not c.get("logging_dir"):
        yield "logging_dir", "is missing; log_with needs it.", 'Write logging_dir = "logs".', "error"


RULES: tuple[Callable[[Config], Iterator[Row]], ...] = (
    _needed,
    _memory,
    _latents,
    _text,
    _captions,
    _schedule,
    _buckets,
    _noise,
    _logging,
)
