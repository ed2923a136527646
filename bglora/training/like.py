"""Hyper-parameters of a LoRA that sd-scripts trained, taken from its ss_* metadata as settings of ours."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bglora.errors import UserError
from bglora.training.job import Recipe
from bglora.training.kohya_recipe import options_of, recipe_of
from bglora.training.lora_header import Header

SAME = {
    "dim": "ss_network_dim",
    "alpha": "ss_network_alpha",
    "scale_weight_norms": "ss_scale_weight_norms",
    "learning_rate": "ss_learning_rate",
    "unet_lr": "ss_unet_lr",
    "text_encoder_lr": "ss_text_encoder_lr",
    "lr_scheduler": "ss_lr_scheduler",
    "max_grad_norm": "ss_max_grad_norm",
    "min_bucket": "ss_min_bucket_reso",
    "max_bucket": "ss_max_bucket_reso",
    "bucket_no_upscale": "ss_bucket_no_upscale",
    "optimizer": "ss_optimizer",
    "optimizer_args": "ss_optimizer",
    "weight_decay": "ss_optimizer",
    **dict.fromkeys(("conv_dim", "conv_alpha", "loraplus_lr_ratio", "block_lr_weights", "dora"), "ss_network_module"),
}
"""Settings to the key that tells them; a recipe has them under the same names."""
PARTS = {
    "noise": (
        "noise_offset",
        "noise_offset_random_strength",
        "adaptive_noise_scale",
        "multires_noise_iterations",
        "multires_noise_discount",
        "ip_noise_gamma",
        "ip_noise_gamma_random_strength",
        "zero_terminal_snr",
    ),
    "loss": ("min_snr_gamma", "debiased_estimation_loss", "loss_type", "huber_schedule", "huber_c", "huber_scale"),
    "dropout": ("network_dropout", "rank_dropout", "module_dropout"),
}
RENAMED = {
    "debiased_estimation_loss": "ss_debiased_estimation",
    **dict.fromkeys(("rank_dropout", "module_dropout"), "ss_network_module"),
}
NOT_TAKEN = {
    "base": "ss_sd_model_name",
    "epochs": "ss_num_epochs",
    "batch_size": "ss_batch_size_per_device",
    "accumulation": "ss_gradient_accumulation_steps",
}
"""What belongs to one training, or to a machine."""
BELONGS = {
    "alpha": "dim",
    "conv_alpha": "conv_dim",
    "min_bucket": "resolution",
    "max_bucket": "resolution",
    "optimizer_args": "optimizer",
    "weight_decay": "optimizer",
}
"""Settings that mean something beside another one alone: where that is not taken, they aren't either."""
NETWORKS = {"networks.lora": ("",), "lycoris.kohya": ("lora", "locon")}
"""Kinds of network whose hyper-parameters mean the same here, with LyCORIS' names of them."""


@dataclass(frozen=True)
class Likeness:
    """What a file tells.

    Attributes:
        values: settings of [train] to JSON values.
        left: settings that it tells as well and that are not taken, to their texts.
    """

    values: Mapping[str, Any]
    left: Mapping[str, str]


def likeness(header: Header, where: str, without: Collection[str] = ()) -> Likeness:
    """The settings that a LoRA was trained with; only those that its metadata names.

    Args:
        where: the file as errors name it.
        without: settings that nobody wants from it; what it says of them may be unknown here.

    Raises:
        UserError: it says nothing of its training, or something that native cannot do.
    """
    without = {*without, *(name for name, other in BELONGS.items() if other in without)}
    told = {key: text for key, text in header.metadata.items() if key not in _unwanted(without)}
    if "ss_network_dim" not in header.metadata:
        raise UserError(
            "The LoRA's metadata says nothing of how it was trained.",
            where=where,
            cure="Name a LoRA of sd-scripts whose metadata was kept, or: bglora set train.like ''",
        )
    _check_network(header, where)
    try:
        recipe = recipe_of(options_of(told))
        values = _values(recipe, told, header)
    except UserError as error:
        raise UserError(error.what, where=f"{where}, {error.where}", cure=_cure("optimizer")) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"The LoRA's metadata has a value that is not known here: {error}", where=where, cure=_cure("KEY")
        ) from error
    left = {name: header.metadata[key] for name, key in NOT_TAKEN.items() if header.metadata.get(key, "None") != "None"}
    return Likeness({name: value for name, value in values.items() if name not in without}, left)


def _unwanted(without: Collection[str]) -> set[str]:
    """Keys of the metadata that only unwanted settings are told by."""
    keys: dict[str, set[str]] = {}
    for name, key in _sources().items():
        keys.setdefault(key, set()).add(name)
    return {key for key, names in keys.items() if names <= set(without)} - {"ss_network_module"}


def _sources() -> dict[str, str]:
    """Every setting that is taken, to the key that tells it."""
    parts = {name: RENAMED.get(name, f"ss_{name}") for names in PARTS.values() for name in names}
    return {
        **SAME,
        **parts,
        "lr_warmup_steps": "ss_lr_warmup_steps",
        "resolution": "ss_resolution",
        "bucket_step": "ss_enable_bucket",
    }


def _check_network(header: Header, where: str) -> None:
    module = header.metadata.get("ss_network_module", "networks.lora")
    arguments = options_of(header.metadata).get("network_args", [])
    algorithm = next((one.partition("=")[2] for one in arguments if one.startswith("algo=")), "")
    if algorithm not in NETWORKS.get(module, ()):
        raise UserError(
            f"The file is no LoRA of the kind that is trained here: its network is {module} {algorithm}".rstrip() + ".",
            where=f"{where}, ss_network_module",
            cure="Name a LoRA that was trained with network_module = networks.lora.",
        )


def _values(recipe: Recipe, told: Mapping[str, str], header: Header) -> dict[str, Any]:
    sources = {name: key for name, key in _sources().items() if key in told}
    values = {name: getattr(recipe, name) for name in SAME if name in sources}
    for part, names in PARTS.items():
        values |= {name: getattr(getattr(recipe, part), name) for name in names if name in sources}
    if "lr_warmup_steps" in sources:
        values["lr_warmup_steps"] = _share(recipe.warmup_steps, told.get("ss_max_train_steps", ""))
    if told.get("ss_resolution", "None") != "None":
        height, width = recipe.bucketing.area
        values["resolution"] = round(math.sqrt(height * width))
    if told.get("ss_enable_bucket") == "False":
        values["bucket_step"] = 0
    if told.get("ss_enable_bucket") != "True" or recipe.bucket_no_upscale:
        values = {name: value for name, value in values.items() if name not in ("min_bucket", "max_bucket")}
    values["text_encoders"] = any(name.startswith("lora_te") for name in header.shapes)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _share(warmup: int | float, steps: str) -> int | float:
    """A warm-up as a share of all steps, for this training has another length."""
    if isinstance(warmup, float) or not warmup or not steps.isdigit():
        return warmup
    return round(min(1.0, warmup / max(1, int(steps))), 4)


def _cure(key: str) -> str:
    return f"Let that setting stay as it is in project.toml: bglora set train.like_except {key}"
