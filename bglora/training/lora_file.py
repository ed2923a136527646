"""The LoRA as a file: sd-scripts' format with its ss_* metadata and Stability's modelspec, which all tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bglora.training import metadata, tensor_file
from bglora.training.base import MINI, Base
from bglora.training.buckets import Cut
from bglora.training.job import TrainJob
from bglora.training.lora_header import read_header
from bglora.training.plan import Plan

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def write_lora(
    path: Path, weights: Mapping[str, Tensor], alphas: Mapping[str, float], told: Mapping[str, str], precision: str
) -> None:
    """Casts, adds the alphas and the hashes, and writes; the same weights give the same bytes."""
    dtype = PRECISIONS[precision]
    tensors = {name: weight.detach().cpu().to(dtype) for name, weight in weights.items()}
    tensors |= {f"{name}.alpha": torch.tensor(float(alpha)).to(dtype) for name, alpha in alphas.items()}
    hashes = {
        "sshs_model_hash": tensor_file.model_hash(tensors),
        "sshs_legacy_hash": tensor_file.legacy_hash(tensors, told),
    }
    tensor_file.write(path, tensors, {**told, **hashes})


def describe(job: TrainJob, plan: Plan, base: Base, steps: int, cuts: Sequence[Cut]) -> dict[str, str]:
    """Metadata of a LoRA: every value a text, and no date but the project's own.

    Args:
        cuts: of the pictures, as they were when the training began.
    """
    recipe, small = job.recipe, job.base == MINI
    prediction = base.noise.config.prediction_type if recipe.noise.prediction == "base" else recipe.noise.prediction
    about = metadata.About(
        name=job.scene,
        title=job.title,
        comment=f"{job.title}; trigger: {job.trigger}",
        base=Path(job.base).name,
        family="bglora_mini" if small else "sdxl_base_v1-0",
        architecture="bglora-mini" if small else "stable-diffusion-xl-v1-base",
        prediction="v" if prediction == "v_prediction" else "epsilon",
        precision="no" if base.device == "cpu" else "bf16",
        folders={f"{job.repeats}_{job.trigger}": metadata.Folder(job.repeats, tuple(p.caption for p in job.pictures))},
        cuts=cuts,
        held_out=len(job.held_out),
        keep_tokens=job.keep_tokens,
        steps=steps,
        created=job.created,
    )
    return {
        **metadata.describe(recipe, plan, about),
        "modelspec.trigger_phrase": job.trigger,
        "modelspec.usage_hint": f"Put {job.trigger} at the start of the prompt.",
    }


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a LoRA file, also a foreign one.

    Raises:
        UserError: it is not there, or not a LoRA in .safetensors.
    """
    return dict(read_header(path).metadata)
