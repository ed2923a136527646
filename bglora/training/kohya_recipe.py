"""sd-scripts' options as a recipe of ours, from a configuration or from what a LoRA file says of its training."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from bglora.errors import UserError
from bglora.training.buckets import Bucketing
from bglora.training.job import Recipe
from bglora.training.optimizer_arguments import USUAL_DECAY
from bglora.training.options import CaptionOptions, DropoutOptions, LossOptions, NoiseOptions, Prediction

Options = Mapping[str, Any]
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "prodigy": "prodigy",
    "adamwschedulefree": "schedule_free",
}
PRECISIONS = {"float": "fp32", "fp16": "fp16", "bf16": "bf16", None: "fp32"}
SAME = {
    "network_dim": "dim",
    "train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "max_train_steps": "max_steps",
    "max_train_epochs": "epochs",
    "max_grad_norm": "max_grad_norm",
    "lr_scheduler": "lr_scheduler",
    "lr_warmup_steps": "warmup_steps",
    "lr_decay_steps": "lr_decay_steps",
    "lr_scheduler_num_cycles": "lr_scheduler_num_cycles",
    "lr_scheduler_power": "lr_scheduler_power",
    "lr_scheduler_min_lr_ratio": "lr_scheduler_min_lr_ratio",
    "gradient_checkpointing": "gradient_checkpointing",
    "scale_weight_norms": "scale_weight_norms",
    "bucket_no_upscale": "bucket_no_upscale",
    "alpha_mask": "alpha_mask",
    "seed": "seed",
}
"""Options that mean the same under both names."""
SAME_EXTRAS = {
    "unet_lr": "unet_lr",
    "text_encoder_lr": "text_encoder_lr",
    "scale_weight_norms": "scale_weight_norms",
    "lr_decay_steps": "lr_decay_steps",
    "lr_scheduler_num_cycles": "lr_scheduler_num_cycles",
    "lr_scheduler_power": "lr_scheduler_power",
    "lr_scheduler_min_lr_ratio": "lr_scheduler_min_lr_ratio",
    "bucket_no_upscale": "bucket_no_upscale",
}
"""Options that a template needn't have, beside those that a graphics card's memory decides."""
DEFAULTS = {"learning_rate": 2e-6, "network_dim": 4, "network_alpha": 1.0, "lr_scheduler": "constant"}
"""sd-scripts' own defaults that differ from ours."""
NOT_HYPER = {"max_steps", "epochs", "seed"}
"""What belongs to one training, not to how it trains."""


def recipe_of(options: Options) -> Recipe:
    """The recipe that a flat set of sd-scripts' options describes; what is absent has its default there.

    Raises:
        UserError: an optimizer that is not here.
    """
    given = {**DEFAULTS, **{key: value for key, value in options.items() if value is not None}}
    network, optimizer = _pairs(given.get("network_args")), _pairs(given.get("optimizer_args"))
    values: dict[str, Any] = {ours: given[theirs] for theirs, ours in SAME.items() if theirs in given}
    values.setdefault("max_steps", 0 if "max_train_epochs" in given else 1600)
    if "max_train_epochs" in given:
        values["max_steps"] = 0
    else:
        values["epochs"] = values["max_steps"]  # each has a step at least
    return Recipe(
        **{"batch_size": 1, "accumulation": 1, **values},
        **_rates(given, network),
        **_optimizer(given, optimizer),
        alpha=float(given["network_alpha"] or given["network_dim"]),
        conv_dim=int(network.get("conv_dim", 0)),
        conv_alpha=float(network.get("conv_alpha", 1.0)),
        text_encoders=not given.get("network_train_unet_only", False),
        resolution=bucketing_of(given).area[1],
        resolution_height=bucketing_of(given).area[0],
        bucket_step=bucketing_of(given).step,
        min_bucket=bucketing_of(given).smallest,
        max_bucket=bucketing_of(given).largest,
        save_precision=PRECISIONS[given.get("save_precision")],  # type: ignore[arg-type]
        noise=NoiseOptions(**_known(NoiseOptions, given), prediction=_prediction(given)),
        loss=LossOptions(**_known(LossOptions, given)),
        captions=CaptionOptions(**_known(CaptionOptions, given)),
        dora=network.get("dora_wd") == "True",
        dropout=DropoutOptions(
            float(given.get("network_dropout", 0.0)),
            float(network.get("rank_dropout", 0.0)),
            float(network.get("module_dropout", 0.0)),
        ),
        provenance_weights=None,
    )


def changed_options(recipe: Recipe, taken: Collection[str] = ()) -> dict[str, Any]:
    """What of a recipe's noise, loss, captions, network and optimizer is not the default, as sd-scripts' options.

    Args:
        taken: fields that are told even if they are the default; None where that is to have none of it.
    """
    found: dict[str, Any] = {}
    for part in (recipe.noise, recipe.loss, recipe.captions):
        for field in fields(part):
            value = getattr(part, field.name)
            if field.name in ("prediction", "keep_tokens"):
                continue
            if value != field.default:
                found[field.name] = value
            elif field.name in taken:
                found[field.name] = value or None
    if recipe.noise.prediction == "v_prediction":
        found["v_parameterization"] = True
    usual = Recipe()
    for theirs, ours in SAME_EXTRAS.items():
        if getattr(recipe, ours) != getattr(usual, ours):
            found[theirs] = getattr(recipe, ours)
    if recipe.text_encoders:
        found["network_train_unet_only"] = False
        found |= {name: False for name in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")}
    elif recipe.captions.varies:
        found |= {name: False for name in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")}
    return found | _changed_lists(recipe, taken)


def _changed_lists(recipe: Recipe, taken: Collection[str]) -> dict[str, Any]:
    """The options that are lists of `name=value`."""
    network: dict[str, Any] = {}
    if recipe.conv_dim:
        network |= {"conv_dim": recipe.conv_dim, "conv_alpha": f"{recipe.conv_alpha:g}"}
    if recipe.loraplus_lr_ratio != 1.0:
        network["loraplus_lr_ratio"] = f"{recipe.loraplus_lr_ratio:g}"
    for name in ("rank_dropout", "module_dropout"):
        if getattr(recipe.dropout, name):
            network[name] = f"{getattr(recipe.dropout, name):g}"
    if recipe.dora:
        network |= {"algo": "lora", "dora_wd": True, "wd_on_output": True}
    if recipe.block_lr_weights:
        ends = {"down_lr_weight": (0, 9), "mid_lr_weight": (9, 12), "up_lr_weight": (12, 21)}
        for name, (first, last) in ends.items():
            network[name] = ",".join(f"{weight:g}" for weight in recipe.block_lr_weights[first:last])
    found: dict[str, Any] = {"network_module": "lycoris.kohya"} if recipe.dora else {}
    if network:
        found["network_args"] = [f"{name}={value}" for name, value in network.items()]
    if recipe.dropout.network_dropout:
        found["network_dropout"] = recipe.dropout.network_dropout
    if recipe.optimizer != "adamw" or "optimizer" in taken:
        found["optimizer_type"] = {"adamw": "AdamW", "adamw8bit": "AdamW8bit", "prodigy": "Prodigy"}.get(
            recipe.optimizer, "AdamWScheduleFree"
        )
    if recipe.weight_decay != USUAL_DECAY[recipe.optimizer] or recipe.optimizer_args or "optimizer" in taken:
        found["optimizer_args"] = [f"weight_decay={recipe.weight_decay:g}", *recipe.optimizer_args]
    return found


def bucketing_of(options: Options) -> Bucketing:
    """How sd-scripts sorts pictures with these options; `resolution` is "width,height" or one number."""
    sides = [int(side) for side in str(options.get("resolution", "1024")).strip("()").split(",")]
    area = (sides[-1], sides[0])
    if not options.get("enable_bucket"):
        return Bucketing(area, step=0)
    smallest, largest = options.get("min_bucket_reso", 256), options.get("max_bucket_reso", 1024)
    step, no_upscale = options.get("bucket_reso_steps", 64), bool(options.get("bucket_no_upscale"))
    return Bucketing(area, smallest, largest, step, no_upscale)


def options_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The options that a LoRA's ss_* metadata tells, with their types."""
    renamed = {
        "ss_batch_size_per_device": "train_batch_size",
        "ss_debiased_estimation": "debiased_estimation_loss",
    }
    found: dict[str, Any] = {}
    for key, text in metadata.items():
        if key.startswith("ss_"):
            value = _literal(text)
            if value is not None:
                found[renamed.get(key, key.removeprefix("ss_"))] = value
    if "network_args" in metadata or "ss_network_args" in metadata:
        pairs = json.loads(metadata.get("ss_network_args", "{}"))
        found["network_args"] = [f"{key}={value}" for key, value in pairs.items() if value is not None]
    if found.get("optimizer"):
        name, _, arguments = str(found["optimizer"]).partition("(")
        found["optimizer_type"] = name.rpartition(".")[2]
        found["optimizer_args"] = _split(arguments.removesuffix(")"))
    return found


def _rates(given: Options, network: Mapping[str, str]) -> dict[str, Any]:
    text = given.get("text_encoder_lr")
    text = text[0] if isinstance(text, list) and text else text
    blocks = [network.get(key) for key in ("down_lr_weight", "mid_lr_weight", "up_lr_weight")]
    return {
        "learning_rate": float(given["learning_rate"]),
        "unet_lr": float(given.get("unet_lr") or 0.0),
        "text_encoder_lr": float(text or 0.0),
        "loraplus_lr_ratio": float(network.get("loraplus_lr_ratio", 1.0)),
        "block_lr_weights": _weights(blocks) if any(blocks) else (),
    }


def _weights(blocks: list[str | None]) -> tuple[float, ...]:
    found: list[float] = []
    for text, count in zip(blocks, (9, 3, 9), strict=True):
        found += [float(one) for one in text.split(",")] if text else [1.0] * count
    return tuple(found)


def _optimizer(given: Options, arguments: Mapping[str, str]) -> dict[str, Any]:
    kind = str(given.get("optimizer_type") or "AdamW").lower()
    if kind not in OPTIMIZERS:
        raise UserError(
            f"The optimizer {given['optimizer_type']} is not among those that native trains with.",
            where="optimizer_type",
            cure='Take one of AdamW, AdamW8bit, Prodigy, AdamWScheduleFree; or train.backend = "kohya".',
        )
    ours = OPTIMIZERS[kind]
    rest = tuple(f"{name}={value}" for name, value in arguments.items() if name != "weight_decay")
    decay = float(arguments.get("weight_decay", USUAL_DECAY[ours]))
    return {"optimizer": ours, "optimizer_args": rest, "weight_decay": decay}


def _prediction(given: Options) -> Prediction:
    return "v_prediction" if given.get("v_parameterization") else "epsilon"


def _known(kind: Any, given: Options) -> dict[str, Any]:
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _pairs(entries: Any) -> dict[str, str]:
    """`["conv_dim=4"]` as a dict."""
    return dict(entry.split("=", 1) for entry in entries or () if "=" in entry)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _split(arguments: str) -> list[str]:
    """`weight_decay=0.1,betas=(0.9, 0.99)` at the commas that are in no brackets."""
    entries, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            entries.append("")
        else:
            entries[-1] += letter
    return [entry.strip() for entry in entries if entry.strip()]
