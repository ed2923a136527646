"""The LoRA as a file: sd-scripts' format with its ss_* metadata and Stability's modelspec, which all tools read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.training import tensor_file
from bglora.training.base import MINI, Base
from bglora.training.job import TrainJob
from bglora.training.plan import Plan

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODELSPEC = "1.0.1"


def write_lora(
    path: Path, weights: Mapping[str, Tensor], alphas: Mapping[str, float], metadata: Mapping[str, str], precision: str
) -> None:
    """Casts, adds the alphas and the hashes, and writes; the same weights give the same bytes."""
    dtype = PRECISIONS[precision]
    tensors = {name: weight.detach().cpu().to(dtype) for name, weight in weights.items()}
    tensors |= {f"{name}.alpha": torch.tensor(float(alpha)).to(dtype) for name, alpha in alphas.items()}
    hashes = {
        "sshs_model_hash": tensor_file.model_hash(tensors),
        "sshs_legacy_hash": tensor_file.legacy_hash(tensors, metadata),
    }
    tensor_file.write(path, tensors, {**metadata, **hashes})


def describe(job: TrainJob, plan: Plan, base: Base, steps: int) -> dict[str, str]:
    """Metadata of a LoRA: every value a string, and no date but the project's own."""
    recipe = job.recipe
    buckets = sorted(Counter(plan.buckets).items())
    folder = f"{job.repeats}_{job.trigger}"
    small = job.base == MINI
    described: dict[str, Any] = {
        "ss_output_name": job.scene,
        "ss_training_comment": f"{job.title}; trigger: {job.trigger}",
        "ss_sd_model_name": Path(job.base).name,
        "ss_base_model_version": "bglora_mini" if small else "sdxl_base_v1-0",
        "ss_v2": False,
        "ss_network_module": "networks.lora",
        "ss_network_dim": recipe.dim,
        "ss_network_alpha": recipe.alpha,
        "ss_network_dropout": None,
        "ss_learning_rate": recipe.learning_rate,
        "ss_unet_lr": recipe.learning_rate,
        "ss_text_encoder_lr": None,
        "ss_optimizer": f"torch.optim.adamw.AdamW(weight_decay={recipe.weight_decay})",
        "ss_loraplus_lr_ratio": recipe.loraplus_lr_ratio if recipe.loraplus_lr_ratio != 1.0 else None,
        "ss_lr_scheduler": recipe.lr_scheduler,
        "ss_lr_warmup_steps": recipe.warmup_steps,
        "ss_max_grad_norm": recipe.max_grad_norm,
        "ss_num_train_images": len(job.pictures) * job.repeats,
        "ss_num_reg_images": 0,
        "ss_num_validation_images": len(job.held_out),
        "ss_num_batches_per_epoch": plan.batches_per_epoch,
        "ss_num_epochs": -(-plan.steps // plan.steps_per_epoch),
        "ss_max_train_steps": plan.steps,
        "ss_steps": steps,
        "ss_epoch": -(-steps // plan.steps_per_epoch),
        "ss_batch_size_per_device": recipe.batch_size,
        "ss_total_batch_size": recipe.batch_size * recipe.accumulation,
        "ss_gradient_accumulation_steps": recipe.accumulation,
        "ss_gradient_checkpointing": recipe.gradient_checkpointing,
        "ss_mixed_precision": "no" if base.device == "cpu" else "bf16",
        "ss_full_fp16": False,
        "ss_seed": recipe.seed,
        "ss_resolution": f"({recipe.resolution}, {recipe.resolution})",
        "ss_enable_bucket": recipe.bucket_step > 0,
        "ss_bucket_no_upscale": False,
        "ss_cache_latents": True,
        "ss_flip_aug": job.flip,
        "ss_color_aug": False,
        "ss_random_crop": False,
        "ss_shuffle_caption": False,
        "ss_keep_tokens": job.keep_tokens,
        "ss_caption_dropout_rate": 0.0,
        "ss_min_snr_gamma": None,
        "ss_noise_offset": None,
        "ss_loss_type": "l2",
        "ss_reg_dataset_dirs": {},
        "ss_dataset_dirs": {folder: {"n_repeats": job.repeats, "img_count": len(job.pictures)}},
        "ss_tag_frequency": {folder: _tags([picture.caption for picture in job.pictures])},
        "ss_bucket_info": {
            "buckets": {
                str(number): {"resolution": [width, height], "count": count * job.repeats}
                for number, ((height, width), count) in enumerate(buckets)
            }
        },
        "modelspec.sai_model_spec": MODELSPEC,
        "modelspec.architecture": "bglora-mini/lora" if small else "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": job.title or job.scene,
        "modelspec.resolution": f"{recipe.resolution}x{recipe.resolution}",
        "modelspec.prediction_type": "v" if base.noise.config.prediction_type == "v_prediction" else "epsilon",
        "modelspec.trigger_phrase": job.trigger,
        "modelspec.usage_hint": f"Put {job.trigger} at the start of the prompt.",
    }
    if job.created:
        date = datetime.fromisoformat(job.created).replace(tzinfo=UTC)
        described["modelspec.date"] = date.strftime("%Y-%m-%dT%H:%M:%S")
        described["ss_training_started_at"] = date.timestamp()
        described["ss_training_finished_at"] = date.timestamp()
    return {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in described.items()}


def _tags(captions: Sequence[str]) -> dict[str, int]:
    tags = Counter(tag.strip() for caption in captions for tag in caption.split(",") if tag.strip())
    return dict(sorted(tags.items(), key=lambda item: (-item[1], item[0])))


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a LoRA file, also a foreign one.

    Raises:
        UserError: it is not there, or not a LoRA in .safetensors.
    """
    from safetensors import SafetensorError, safe_open

    cure = "Name a LoRA file in .safetensors format."
    if not path.is_file():
        raise UserError("There is no LoRA file at this path.", where=str(path), cure=cure)
    try:
        with safe_open(str(path), "pt") as stream:
            keys, metadata = list(stream.keys()), stream.metadata() or {}
    except SafetensorError as error:
        raise UserError(
            "The LoRA file is damaged, or not in .safetensors format.", where=str(path), cure=cure
        ) from error
    if not any("lora" in key.lower() for key in keys):
        raise UserError("The file has no LoRA weights.", where=str(path), cure=cure)
    return dict(metadata)
