"""The hyper-parameters of `train`: settings, what `train.like` adds to them, and the recipe of one training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bglora.errors import UserError
from bglora.settings import Settings
from bglora.settings.lora import SMALL_SCENE, TrainSettings
from bglora.settings.presets import preset_values
from bglora.training.job import Recipe
from bglora.training.options import CaptionOptions, DropoutOptions, LossOptions, NoiseOptions

UNREAD = {
    "force",
    "checkpoint_every",
    "tensorboard",
    "cuda_graphs",
    "epochs",
    "epochs_small",
    "guessed_weight",
    "base",
    "like",
    "like_except",
    "scenes",
    "characters",
    "sd_scripts",
    "kohya_python",
}
"""Settings that change nothing in the result, or that an item reads in another form."""
RENAMED = {"lr_warmup_steps": "warmup_steps"}
"""Settings that a recipe knows by another name."""
PARTS: dict[str, Any] = {
    "noise": NoiseOptions,
    "loss": LossOptions,
    "captions": CaptionOptions,
    "dropout": DropoutOptions,
}


@dataclass(frozen=True)
class Liked:
    """The table [train] after `train.like`.

    Attributes:
        train: the settings that count.
        taken: settings that the file gave, whether they changed or not.
        told: what a person reads about it; empty without a file.
    """

    train: TrainSettings
    taken: tuple[str, ...] = ()
    told: str = ""


def liked(root: Path, settings: Settings) -> Liked:
    """Lays the hyper-parameters of `train.like` under those that a person changed from the preset's.

    Raises:
        UserError: the file is missing, damaged, no LoRA, without metadata, or says what cannot be done here.
    """
    train = settings.train
    if not train.like:
        return Liked(train)
    from bglora.training.like import likeness
    from bglora.training.lora_header import read_header

    usual = TrainSettings.model_validate(preset_values(settings.project.preset)["train"])
    own = {name for name in TrainSettings.model_fields if getattr(train, name) != getattr(usual, name)}
    where = f"train.like = {train.like}"
    found = likeness(read_header(root / train.like, "train.like"), where, own | set(train.like_except))
    values = dict(found.values)
    try:
        merged = TrainSettings.model_validate({**train.model_dump(), **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        raise UserError(
            f"The LoRA was trained with {key} = {first['input']!r}, which is not known here.",
            where=where,
            cure=f"Let that setting stay as it is in project.toml: bglora set train.like_except {key}",
        ) from error
    return Liked(merged, tuple(sorted(values)), _told(train, usual, merged, values, own, found.left))


def _told(
    train: Any, usual: Any, merged: Any, values: Mapping[str, Any], own: set[str], left: Mapping[str, str]
) -> str:
    """`like hero.safetensors: dim 32, alpha 16.0; stays as set here: resolution 512; not taken: epochs 10`."""
    changed = [
        f"{name} {_shown(getattr(merged, name))}" for name in values if getattr(merged, name) != getattr(train, name)
    ]
    kept = sorted((own | set(train.like_except)) - UNREAD - {"backend", "network_weights", "threads", "seed"})
    parts = [
        ", ".join(changed) or "nothing changes",
        f"stays as set here: {', '.join(kept)}" if kept else "",
        f"not taken: {', '.join(f'{name} {text}' for name, text in left.items())}" if left else "",
    ]
    return f"like {Path(train.like).name}: {'; '.join(part for part in parts if part)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def recipe_settings(train: TrainSettings, pictures: int) -> dict[str, Any]:
    """The settings that a training on so many pictures reads, in the form in which it reads them."""
    values = {key: value for key, value in train.model_dump(mode="json").items() if key not in UNREAD}
    if train.backend == "kohya":
        values["base"] = train.base  # its name goes into the configuration
    else:
        del values["kohya_template"]
    values["epochs"] = train.epochs_small if pictures < SMALL_SCENE else train.epochs
    if train.provenance_loss:
        values["guessed_weight"] = train.guessed_weight
    return values


def recipe_of_settings(settings: Mapping[str, Any], train: TrainSettings, keep_tokens: int) -> Recipe:
    """The recipe that an item's settings (`train.dim`, as `recipe_settings` gave them) describe."""
    values = {key.removeprefix("train."): value for key, value in settings.items()}
    guessed = values.pop("guessed_weight", None)
    values |= {name: getattr(train, name) for name in ("checkpoint_every", "tensorboard", "cuda_graphs")}
    values["keep_tokens"] = keep_tokens
    plain = {RENAMED.get(key, key): value for key, value in values.items()}
    parts = {name: kind(**_known(kind, values)) for name, kind in PARTS.items()}
    weights = None if guessed is None else (1.0, 1.0, guessed, 0.0)
    return Recipe(**{**_known(Recipe, plain), **parts, "provenance_weights": weights})


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that a dataclass has fields for; lists, as JSON has them, become tuples."""
    names = {field.name for field in fields(kind)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in names}


def check_start(root: Path, train: TrainSettings) -> None:
    """Looks at `train.network_weights` before anything is made.

    Raises:
        UserError: the file is missing, damaged, no LoRA in kohya's format, or of another rank or alpha.
    """
    if not train.network_weights:
        return
    from bglora.training.lora_header import read_header
    from bglora.training.network_file import check_extent

    where = f"train.network_weights = {train.network_weights}"
    header = read_header(root / train.network_weights, "train.network_weights")
    sizes = recipe_of_settings({f"train.{key}": value for key, value in recipe_settings(train, 0).items()}, train, 0)
    check_extent(header.stand_ins(), sizes.network, where)
