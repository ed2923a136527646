"""What a LoRA file tells of its training: sd-scripts' ss_* keys, all of them, and Stability's modelspec.*."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bglora.training.buckets import Cut
from bglora.training.job import Recipe
from bglora.training.optimizer_arguments import USUAL_DECAY, optimizer_arguments
from bglora.training.plan import Plan

MODELSPEC = "1.0.1"
OPTIMIZERS = {
    "adamw": "torch.optim.adamw.AdamW",
    "adamw8bit": "bitsandbytes.optim.adamw.AdamW8bit",
    "prodigy": "prodigyopt.prodigy.Prodigy",
    "schedule_free": "schedulefree.adamw_schedulefree.AdamWScheduleFree",
}


@dataclass(frozen=True)
class Folder:
    """One folder of training pictures, `5_filmtown`: how often each is shown, and their captions."""

    repeats: int
    captions: tuple[str, ...]


@dataclass(frozen=True)
class About:
    """What a training's recipe and plan don't know.

    Attributes:
        name: of the LoRA. title: as a person reads it. comment: anything; may be empty.
        base: the base's name, without folders.
        family: `sdxl_base_v1-0`. architecture: `stable-diffusion-xl-v1-base`.
        prediction: what the base predicts, `epsilon` or `v`.
        precision: `no`, `bf16` or `fp16`.
        folders: name to folder. cuts: of all pictures.
        held_out: number of pictures for validation.
        keep_tokens: tags that stay in place.
        steps: optimizer steps behind the weights.
        created: YYYY-MM-DD, the only date that goes into the file; may be empty.
    """

    name: str
    title: str
    comment: str
    base: str
    family: str
    architecture: str
    prediction: str
    precision: str
    folders: Mapping[str, Folder]
    cuts: Sequence[Cut]
    held_out: int
    keep_tokens: int
    steps: int
    created: str


def describe(recipe: Recipe, plan: Plan, about: About) -> dict[str, str]:
    """Every key that sd-scripts writes; every value a text."""
    keys: dict[str, Any] = {
        **_run(recipe, plan, about),
        **_network(recipe),
        **_rates(recipe),
        **_data(recipe, plan, about),
        **_captions(recipe, about),
        **_noise_and_loss(recipe),
        **ABSENT,
        **_modelspec(recipe, about),
    }
    keys["ss_session_id"] = int.from_bytes(hashlib.sha256(repr(sorted(keys.items())).encode()).digest()[:4], "big")
    return {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in keys.items()}


ABSENT: Mapping[str, Any] = {
    "ss_v2": False,
    "ss_clip_skip": None,
    "ss_color_aug": False,
    "ss_face_crop_aug_range": None,
    "ss_fp8_base": False,
    "ss_fp8_base_unet": False,
    "ss_full_fp16": False,
    "ss_lowram": False,
    "ss_max_token_length": None,
    "ss_max_validation_steps": None,
    "ss_num_reg_images": 0,
    "ss_prior_loss_weight": 1.0,
    "ss_random_crop": False,
    "ss_reg_dataset_dirs": {},
    "ss_resize_interpolation": None,
    "ss_sd_scripts_commit_hash": "(unknown)",
    "ss_validate_every_n_epochs": None,
    "ss_validate_every_n_steps": None,
    "ss_validation_seed": None,
    "ss_validation_split": 0.0,
}
"""What sd-scripts has and this trainer has not, as it writes them where they are off."""


def _run(recipe: Recipe, plan: Plan, about: About) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ss_output_name": about.name,
        "ss_training_comment": about.comment or None,
        "ss_sd_model_name": about.base,
        "ss_base_model_version": about.family,
        "ss_num_batches_per_epoch": plan.batches_per_epoch,
        "ss_num_epochs": -(-plan.steps // plan.steps_per_epoch),
        "ss_max_train_steps": plan.steps,
        "ss_steps": about.steps,
        "ss_epoch": -(-about.steps // plan.steps_per_epoch),
        "ss_batch_size_per_device": recipe.batch_size,
        "ss_total_batch_size": recipe.batch_size * recipe.micro_batches,
        "ss_gradient_accumulation_steps": recipe.accumulation,
        "ss_gradient_checkpointing": recipe.gradient_checkpointing,
        "ss_mixed_precision": about.precision,
        "ss_seed": recipe.seed,
    }
    if about.created:
        date = datetime.fromisoformat(about.created).replace(tzinfo=UTC)
        found["ss_training_started_at"] = found["ss_training_finished_at"] = date.timestamp()
    return found


def _network(recipe: Recipe) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if recipe.conv_dim:
        options |= {"conv_dim": recipe.conv_dim, "conv_alpha": recipe.conv_alpha}
    if recipe.loraplus_lr_ratio != 1.0:
        options["loraplus_lr_ratio"] = recipe.loraplus_lr_ratio
    if recipe.dora:
        options |= {"algo": "lora", "dora_wd": True, "wd_on_output": True}
    for name in ("rank_dropout", "module_dropout"):
        if getattr(recipe.dropout, name):
            options[name] = getattr(recipe.dropout, name)
    found: dict[str, Any] = {
        "ss_network_module": "lycoris.kohya" if recipe.dora else "networks.lora",
        "ss_network_dim": recipe.dim,
        "ss_network_alpha": recipe.alpha,
        "ss_network_dropout": recipe.dropout.network_dropout or None,
        "ss_scale_weight_norms": recipe.scale_weight_norms or None,
    }
    if options:
        found["ss_network_args"] = {key: str(value) for key, value in options.items()}
    return found


def _rates(recipe: Recipe) -> dict[str, Any]:
    decay = [] if recipe.weight_decay == USUAL_DECAY[recipe.optimizer] else [("weight_decay", recipe.weight_decay)]
    arguments = dict([*decay, *optimizer_arguments(recipe.optimizer_args).items()])
    told = ",".join(f"{name}={value}" for name, value in arguments.items())
    return {
        "ss_learning_rate": recipe.learning_rate,
        "ss_unet_lr": recipe.unet_lr or None,
        "ss_text_encoder_lr": recipe.text_encoder_lr or None,
        "ss_optimizer": OPTIMIZERS[recipe.optimizer] + (f"({told})" if told else ""),
        "ss_lr_scheduler": recipe.lr_scheduler,
        "ss_lr_warmup_steps": recipe.warmup_steps,
        "ss_max_grad_norm": recipe.max_grad_norm,
    }


def _data(recipe: Recipe, plan: Plan, about: About) -> dict[str, Any]:
    counts: Counter[tuple[int, int]] = Counter()
    for (height, width), times in zip(plan.buckets, plan.shown, strict=True):
        counts[width, height] += times
    bucketing = recipe.bucketing
    smallest, largest = (None, None) if bucketing.no_upscale or not bucketing.step else bucketing.bounds
    return {
        "ss_num_train_images": sum(folder.repeats * len(folder.captions) for folder in about.folders.values()),
        "ss_num_validation_images": about.held_out,
        "ss_resolution": f"({bucketing.area[1]}, {bucketing.area[0]})",
        "ss_enable_bucket": recipe.bucket_step > 0,
        "ss_min_bucket_reso": smallest,
        "ss_max_bucket_reso": largest,
        "ss_bucket_no_upscale": recipe.bucket_no_upscale,
        "ss_bucket_info": {
            "buckets": {
                str(number): {"resolution": list(size), "count": count}
                for number, (size, count) in enumerate(sorted(counts.items()))
            },
            "mean_img_ar_error": sum(cut.aspect_error for cut in about.cuts) / len(about.cuts),
        },
        "ss_cache_latents": True,
        "ss_flip_aug": plan.flip,
        "ss_dataset_dirs": {
            name: {"n_repeats": folder.repeats, "img_count": len(folder.captions)}
            for name, folder in about.folders.items()
        },
        "ss_tag_frequency": {name: _tags(folder.captions) for name, folder in about.folders.items()},
    }


def _tags(captions: Sequence[str]) -> dict[str, int]:
    tags = Counter(tag.strip() for caption in captions for tag in caption.split(",") if tag.strip())
    return dict(sorted(tags.items(), key=lambda item: (-item[1], item[0])))


def _captions(recipe: Recipe, about: About) -> dict[str, Any]:
    captions = recipe.captions
    return {
        "ss_shuffle_caption": captions.shuffle_caption,
        "ss_keep_tokens": about.keep_tokens,
        "ss_caption_dropout_rate": captions.caption_dropout_rate,
        "ss_caption_dropout_every_n_epochs": captions.caption_dropout_every_n_epochs,
        "ss_caption_tag_dropout_rate": captions.caption_tag_dropout_rate,
    }


def _noise_and_loss(recipe: Recipe) -> dict[str, Any]:
    noise, loss = recipe.noise, recipe.loss
    return {
        "ss_noise_offset": noise.noise_offset or None,
        "ss_noise_offset_random_strength": noise.noise_offset_random_strength,
        "ss_adaptive_noise_scale": noise.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": noise.multires_noise_iterations or None,
        "ss_multires_noise_discount": noise.multires_noise_discount,
        "ss_ip_noise_gamma": noise.ip_noise_gamma or None,
        "ss_ip_noise_gamma_random_strength": noise.ip_noise_gamma_random_strength,
        "ss_zero_terminal_snr": noise.zero_terminal_snr,
        "ss_min_snr_gamma": loss.min_snr_gamma or None,
        "ss_debiased_estimation": loss.debiased_estimation_loss,
        "ss_loss_type": loss.loss_type,
        "ss_huber_schedule": loss.huber_schedule,
        "ss_huber_c": loss.huber_c,
        "ss_huber_scale": loss.huber_scale,
    }


def _modelspec(recipe: Recipe, about: About) -> dict[str, Any]:
    from bglora import __version__

    height, width = recipe.bucketing.area
    found: dict[str, Any] = {
        "modelspec.sai_model_spec": MODELSPEC,
        "modelspec.architecture": f"{about.architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.implementation_version": f"bglora/{__version__}",
        "modelspec.title": about.title or about.name,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": about.prediction,
    }
    if about.created:
        date = datetime.fromisoformat(about.created).replace(tzinfo=UTC)
        found["modelspec.date"] = date.strftime("%Y-%m-%dT%H:%M:%S")
    return found
