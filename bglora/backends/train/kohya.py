"""Training by kohya's sd-scripts: writes and checks the configuration that it is to be started with.

Starting sd-scripts itself isn't part of this version: the stage ends as failed, with the command in its reason and the
configuration kept as `loras/<scene>.kohya.toml`. All paths in it are relative to the project folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bglora.errors import UserError
from bglora.settings.presets import templates
from bglora.training.job import Recipe, TrainJob, TrainResult
from bglora.training.kohya_config import check, render
from bglora.training.kohya_recipe import changed_options

ALGORITHM = "kohya/1"
FOLDER = Path("templates") / "kohya"
SCRIPT = "sdxl_train_network.py"
PRECISIONS = {"bf16": "bf16", "fp16": "fp16", "fp32": "float"}
OPTIONS = {
    "dim": "network_dim",
    "alpha": "network_alpha",
    "learning_rate": "learning_rate",
    "batch_size": "train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "max_grad_norm": "max_grad_norm",
    "gradient_checkpointing": "gradient_checkpointing",
}
"""Recipe to option, where a value means the same."""
KINDS = {"resolution", "lr_scheduler", "warmup_steps"}
"""Further values of a recipe that `values_of` writes."""


def identity(settings: Any) -> str:
    """`kohya/1 sdxl_24gb@…`: changes with the template that comes with bglora."""
    packaged = templates() / "kohya" / f"{settings.kohya_template}.toml"
    digest = hashlib.sha256(packaged.read_bytes() if packaged.exists() else b"").hexdigest()[:12]
    return f"{ALGORITHM} {settings.kohya_template}@{digest}"


def create(settings: Any) -> Kohya:
    return Kohya(settings.kohya_template)


@dataclass(frozen=True)
class Kohya:
    """The `train` role by sd-scripts.

    Attributes:
        template: name of a file in templates/kohya, of the project or of bglora.
    """

    template: str

    def train(self, job: TrainJob, tools: Any) -> TrainResult:
        """Writes `loras/<scene>.kohya.toml` below `tools.scratch`; what is left to do stands in `undone`.

        Raises:
            UserError: the base is none that sd-scripts can train, there is no such template, or the configuration has
                errors.
        """
        root, name = Path(tools.root), f"loras/{job.scene}.kohya.toml"
        source = template_path(root, self.template)
        text = render(source.read_text("utf-8"), values_of(job, root))
        problems = check(text)
        errors = [str(problem) for problem in problems if problem.grade == "error"]
        if errors:
            raise UserError(
                f"sd-scripts would not train what this configuration says. {' '.join(errors)}",
                where=str(source),
                cure="Mend these keys in a copy of the template in templates/kohya/ of the project.",
            )
        path = Path(tools.scratch) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
        notices = [str(problem) for problem in problems if problem.grade == "notice"]
        record = {"trigger": job.trigger, "pictures": len(job.pictures), "masks": masks(job), "notices": notices}
        return TrainResult((name,), record, undone=f"The configuration {name} is written and checked. {how(name)}")


def how(name: str) -> str:
    """What a person runs with the configuration."""
    return (
        "Starting sd-scripts isn't part of this version. Run in the project folder: "
        f"accelerate launch --num_cpu_threads_per_process 2 PATH_TO_SD_SCRIPTS/{SCRIPT} --config_file {name}"
    )


def template_path(root: Path, name: str) -> Path:
    """The template: the project's own before the one that comes with bglora."""
    places = [root / FOLDER / f"{name}.toml", templates() / "kohya" / f"{name}.toml"]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        there = sorted({path.stem for place in places for path in place.parent.glob("*.toml")})
        raise UserError(
            f"There is no template {name!r} for kohya.",
            where="train.kohya_template",
            cure=f"bglora set train.kohya_template {there[0] if there else 'NAME'} (there are: {', '.join(there)})",
        )
    return found


def masks(job: TrainJob) -> int:
    """How many pictures carry loss weights in their alpha channel."""
    return sum(picture.provenance is not None for picture in job.pictures) if job.recipe.provenance_weights else 0


def values_of(job: TrainJob, root: Path) -> dict[str, Any]:
    """What of the job goes into the template: what belongs to the project, and what differs from the recipe's defaults.

    A template is made for a size of memory, so rank, batch size and the like are its own unless a person set them.
    """
    recipe = job.recipe
    values: dict[str, Any] = {
        "pretrained_model_name_or_path": _base(job.base, root),
        "train_data_dir": job.dataset.relative_to(root).as_posix(),
        "output_dir": "loras",
        "output_name": job.scene,
        "caption_extension": ".txt",
        "caption_prefix": None,
        "keep_tokens": job.keep_tokens,
        "flip_aug": job.flip,
        "alpha_mask": True if masks(job) else None,
        "max_train_epochs": None if recipe.max_steps else recipe.epochs,
        "max_train_steps": recipe.max_steps or None,
        "save_precision": PRECISIONS[recipe.save_precision],
        "seed": recipe.seed,
        "metadata_title": job.title,
        "metadata_trigger_phrase": job.trigger,
    }
    changed = _changed(recipe) | {name: getattr(recipe, name) for name in job.taken if name in OPTIONS or name in KINDS}
    values |= {OPTIONS[name]: value for name, value in changed.items() if name in OPTIONS}
    if "resolution" in changed:
        values["resolution"] = f"{recipe.resolution},{recipe.resolution}"
        values |= {"min_bucket_reso": recipe.resolution // 2, "max_bucket_reso": recipe.resolution * 2}
    values |= changed_options(recipe, job.taken)
    if job.network_weights is not None:
        values["network_weights"] = _base(str(job.network_weights), root)
    if {"lr_scheduler", "warmup_steps"} & changed.keys():
        constant = "constant_with_warmup" if recipe.warmup_steps else "constant"
        values["lr_scheduler"] = constant if recipe.lr_scheduler == "constant" else recipe.lr_scheduler
        values["lr_warmup_steps"] = recipe.warmup_steps
    return values


def _changed(recipe: Recipe) -> dict[str, Any]:
    """The values of a recipe that are not its defaults."""
    values = {field.name: (getattr(recipe, field.name), field.default) for field in fields(recipe)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _base(base: str, root: Path) -> str:
    if base == "mini":
        raise UserError(
            "kohya's sd-scripts can't train on mini, the small model that comes with bglora.",
            where="train.base",
            cure="bglora set train.base PATH/sd_xl_base_1.0.safetensors",
        )
    path = Path(base)
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else base
