"""Training by kohya's sd-scripts: its configuration is written and checked, and it is started where it is known.

With `train.sd_scripts` the LoRA is trained by that checkout (see `sd_scripts/`). Without, the stage ends as failed with
the command in its reason, and the configuration is kept as `loras/<scene>.kohya.toml`. All paths in it are relative to
the project folder.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.backends import weights
from bglora.errors import MachineError, UserError
from bglora.settings.presets import templates
from bglora.training.job import Recipe, TrainJob, TrainResult
from bglora.training.kohya_config import arguments, checked, flattened, render
from bglora.training.kohya_lists import LISTS, laid_over
from bglora.training.kohya_recipe import changed_options

if TYPE_CHECKING:
    from bglora.backends.train.sd_scripts.readiness import Ready

ALGORITHM = "kohya/2"
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
NATIVE_ONLY = ("base_quantization", "resize_rank", "ema", "early_stop", "keep_checkpoints")
"""Fields of a recipe that only the trainer of this program has."""
OF_THE_MACHINE = (
    *("pretrained_model_name_or_path", "vae", "network_weights"),
    *("train_data_dir", "output_dir", "output_name", "logging_dir"),
)
"""Options that a card doesn't show: they say where things lie."""
KINDS = {"resolution", "bucket_step", "lr_scheduler", "warmup_steps"}
"""Further values of a recipe that `values_of` writes."""


def identity(settings: Any) -> str:
    """`kohya/2 sdxl_24gb@…`: changes with the template that comes with bglora, and with whether it is started."""
    packaged = templates() / "kohya" / f"{settings.kohya_template}.toml"
    digest = hashlib.sha256(packaged.read_bytes() if packaged.exists() else b"").hexdigest()[:12]
    started = "" if settings.sd_scripts else ", written only"
    return f"{ALGORITHM} {settings.kohya_template}@{digest}{started}"


def names_of_weights(settings: Any) -> dict[str, tuple[str, ...]]:
    """See `bglora.backends`: only a training that is started reads its base."""
    return {"base": (settings.base,)} if settings.sd_scripts else {}


def check(settings: Any, root: Path) -> None:
    """See `bglora.backends.check`: the base, the template, the checkout and its Python."""
    _base(settings.base, root)
    template_path(root, settings.kohya_template)
    if settings.sd_scripts:
        from bglora.backends.train.sd_scripts import command

        command.python_words(settings.kohya_python, command.folder_of(settings.sd_scripts, root), root)


def starts(settings: Any, root: Path) -> str:
    """For `doctor`: the sd-scripts that these settings would start, tried. Raises what keeps it from starting."""
    kohya = create(settings)
    template_path(root, kohya.template)
    ready = kohya.ready(root)
    _check_cards(ready, kohya.processes, settings.force)
    return ready.told()


def create(settings: Any) -> Kohya:
    return Kohya(settings.kohya_template, settings.sd_scripts, settings.kohya_python, settings.processes)


@dataclass
class Kohya:
    """The `train` role by sd-scripts.

    Attributes:
        template: name of a file in templates/kohya, of the project or of bglora.
        sd_scripts: the checkout; empty: nothing is started.
        python: see `train.kohya_python`.
        processes: one per graphics card.
    """

    template: str
    sd_scripts: str = ""
    python: str = ""
    processes: int = 1
    _ready: Ready | None = field(default=None, repr=False)

    def train(self, job: TrainJob, tools: Any) -> TrainResult:
        """Writes `loras/<scene>.kohya.toml` below `tools.scratch`, and trains by it; or says in `undone` how to.

        Raises:
            Paused: stopped; the same job goes on from the last whole epoch.
            UserError: the base is none that sd-scripts can train, there is no such template, the configuration has
                errors, or the training went wrong.
            MachineError: sd-scripts can't start here or lacks an option, or memory or disk were too small.
        """
        root, name = Path(tools.root), f"loras/{job.scene}.kohya.toml"
        source = template_path(root, self.template)
        template = source.read_text("utf-8")
        text = render(template, _with_lists(template, values_of(job, root), source))
        options, _ = flattened(tomllib.loads(text))
        newer = self.sd_scripts and set(options) - set(arguments())
        notices = checked(text, str(source), known=self.ready(root).options if newer else ())
        notices += unheard(job.recipe)
        path = Path(tools.scratch) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
        record = {
            "trigger": job.trigger,
            "base": job.base,
            "dim": options.get("network_dim", 4),
            "alpha": options.get("network_alpha", 1.0),
            "pictures": len(job.pictures),
            "held_out": len(job.held_out),
            "masks": masks(job),
            "options": {key: value for key, value in sorted(options.items()) if key not in OF_THE_MACHINE},
        }
        if not self.sd_scripts:
            undone = f"The configuration {name} is written and checked. {how(name)}"
            return TrainResult((name,), {**record, "notices": notices}, undone=undone)
        return self._launch(job, tools, name, text, source, record, notices)

    def _launch(
        self, job: TrainJob, tools: Any, name: str, text: str, source: Path, record: dict[str, Any], notices: list[str]
    ) -> TrainResult:
        from bglora.backends.train.sd_scripts.training import LaunchedTraining

        tools.progress(0, 1, "looking at sd-scripts")
        options, _ = flattened(tomllib.loads(text))
        ready = self.ready(Path(tools.root))
        _check_known(options, ready, source)
        _check_cards(ready, self.processes, job.force)
        base = str(weights.find(job.base, setting="train.base"))
        training = LaunchedTraining(
            job, tools, ready, text, options, base=base, template=self.template, processes=self.processes
        )
        outputs, trained = training.take(training.run())
        record |= {**trained, "notices": [*notices, *training.notices]}
        return TrainResult((*outputs, name), record)

    def ready(self, root: Path) -> Ready:
        """sd-scripts, looked at once for all scenes. Raises what `readiness.look` raises."""
        from bglora.backends.train.sd_scripts.readiness import look

        if self._ready is None:
            self._ready = look(self.sd_scripts, self.python, root)
        return self._ready


def _with_lists(template: str, values: dict[str, Any], source: Path) -> dict[str, Any]:
    """The values, their lists laid over those of the template: `conv_dim` there stays when `rank_dropout` is set."""
    try:
        options, _ = flattened(tomllib.loads(template))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The template is no TOML: {error}.", where=str(source), cure="Mend that line.") from error
    kept = [key for key in LISTS if isinstance(options.get(key), list) and key in values]
    if "optimizer_type" in values:
        kept = [key for key in kept if key != "optimizer_args"]  # another optimizer's arguments
    return {**values, **{key: laid_over(options[key], values[key]) for key in kept}}


def _check_known(options: dict[str, Any], ready: Ready, source: Path) -> None:
    from bglora.backends.train.sd_scripts.readiness import unknown

    strange = unknown(options, ready)
    if strange:
        raise MachineError(
            f"This sd-scripts{f' ({ready.version})' if ready.version else ''} doesn't know {', '.join(strange)}; it "
            "would train without, and not say so.",
            where=str(source),
            cure="Update sd-scripts (git pull), or take these keys out of a copy of the template in templates/kohya/.",
        )


def _check_cards(ready: Ready, processes: int, force: bool) -> None:
    if processes > max(1, ready.cards):
        raise UserError(
            f"There are not {processes} graphics cards: the torch of sd-scripts sees {ready.cards}.",
            where="train.processes",
            cure=f"bglora set train.processes {max(1, ready.cards)}",
        )
    if not ready.cards and not force:
        raise MachineError(
            f"The torch of sd-scripts ({ready.packages[1]}) sees no graphics card; the processor would take weeks.",
            where=" ".join(ready.python),
            cure="Install torch for your card in that Python (pytorch.org), or bglora set train.force true",
        )


def how(name: str) -> str:
    """What a person runs with the configuration."""
    return (
        "To train it from here: bglora set train.sd_scripts FOLDER. Or run in the project folder: "
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
    values |= _buckets(recipe, changed)
    values |= changed_options(recipe, job.taken)
    if job.network_weights is not None:
        values["network_weights"] = _base(str(job.network_weights), root)
    if {"lr_scheduler", "warmup_steps"} & changed.keys():
        constant = "constant_with_warmup" if recipe.warmup_steps else "constant"
        values["lr_scheduler"] = constant if recipe.lr_scheduler == "constant" else recipe.lr_scheduler
        values["lr_warmup_steps"] = recipe.warmup_steps
    return values


def _buckets(recipe: Recipe, changed: Collection[str]) -> dict[str, Any]:
    """Sizes of pictures, where a person set them. A step of 0: squares cropped at the center, as without buckets."""
    width, height = recipe.resolution, recipe.resolution_height or recipe.resolution
    values: dict[str, Any] = {}
    if {"resolution", "resolution_height"} & set(changed):
        values["resolution"] = f"{width},{height}"
        values |= {"min_bucket_reso": min(width, height) // 2, "max_bucket_reso": max(width, height) * 2}
    if "bucket_step" in changed:
        values["enable_bucket"] = recipe.bucket_step > 0
        values["bucket_reso_steps"] = recipe.bucket_step or None
    sides = {"min_bucket": "min_bucket_reso", "max_bucket": "max_bucket_reso"}
    return values | {theirs: getattr(recipe, ours) for ours, theirs in sides.items() if ours in changed}


def unheard(recipe: Recipe) -> list[str]:
    """Settings that a person changed and sd-scripts has nothing for, in a sentence."""
    names = [name for name in NATIVE_ONLY if name in _changed(recipe)]
    return [f"sd-scripts has no {', '.join(names)}; what is set there does not count."] if names else []


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
    named = None if (root / base).exists() else weights.entry(base)
    if named is not None:
        return named.repo  # `sdxl-base` is our name for it
    path = Path(base)
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else base
