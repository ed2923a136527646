"""One LoRA by sd-scripts: gone on with from its last whole epoch, listened to, stopped, and its file taken in.

Files, below the item's scratch folder: `state/<scene>/out/` (what sd-scripts writes), `progress.json`, `config.toml`,
`accelerate.yaml`; the console goes to `.bglora/logs/train-<scene>-kohya.txt` of the project.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bglora.backends.train.sd_scripts import command, failures, result, states
from bglora.backends.train.sd_scripts.console import Console, Step
from bglora.backends.train.sd_scripts.process import Training, end_strays
from bglora.backends.train.sd_scripts.readiness import Ready
from bglora.errors import UserError
from bglora.training.job import Paused, TrainJob
from bglora.training.kohya_config import checked, render

CURVE_POINTS = 200
PATIENCE = 180
"""Minutes that processes wait for each other."""
SAME_NOISE = (
    "Several cards: sd-scripts gives all of them the same noise and timesteps while their pictures' shapes agree."
)
Options = Mapping[str, Any]


class LaunchedTraining:
    """A training under way.

    Args:
        text: the checked configuration; paths relative to the project.
        options: the same, flat.
        base: the base as sd-scripts can load it, absolute path or name.
        template: its name, for cures.
    """

    def __init__(
        self, job: TrainJob, tools: Any, ready: Ready, text: str, options: Options, *, base: str, template: str,
        processes: int,
    ) -> None:  # fmt: skip
        self.job, self.tools, self.ready, self.options = job, tools, ready, options
        self.template, self.text, self.base = template, text, base
        self.launch = command.Launch(processes, str(options.get("mixed_precision", "no")), job.recipe.threads)
        self.root = Path(tools.root)
        self.folder = Path(tools.scratch).resolve() / "state" / job.scene
        self.out = self.folder / "out"
        self.log = self.root / ".bglora" / "logs" / f"train-{job.scene}-kohya.txt"
        self.progress = states.Progress.load(self.folder / "progress.json")
        self.state: states.State | None = None
        self.notices: list[str] = []
        self.done = 0
        self._seen: tuple[int, float, float | None] | None = None

    @property
    def mark(self) -> str:
        """Which training the processes belong to."""
        return f"{self.root.resolve()}::{self.job.scene}"

    @property
    def before(self) -> int:
        """Optimizer steps behind the state that this run goes on from."""
        return self.state.epoch * self.progress.per_epoch if self.state else 0

    def run(self) -> Path:
        """Trains to the end and gives the LoRA, checked.

        Raises:
            Paused: stopped; the next run goes on from the last whole epoch.
            BgloraError: why sd-scripts ended without a LoRA.
        """
        if self.launch.processes > 1:
            self.notices.append(SAME_NOISE)
        if end_strays(self.mark):
            self.notices.append("A training that a killed run had left behind was ended.")
        if not self._finished_before():
            self._begin()
            self._train()
        lora = self._lora()
        result.check(lora)
        return lora

    def _finished_before(self) -> bool:
        """Whether an earlier run came to the end, and was killed before its file was taken in."""
        self.state = self._newest()
        lora = self._lora()
        if not (self.progress.total and lora.is_file() and states.tensors_whole(lora)):
            return False
        self.done = self.progress.total
        return True

    def _newest(self) -> states.State | None:
        """The state to go on from; none if it isn't known how many steps stand behind it, or none are left."""
        state = states.newest(self.out, self.job.scene)
        steps = state.epoch * self.progress.per_epoch if state else 0
        return state if 0 < steps < self.progress.total else None

    def _begin(self) -> None:
        states.clear(self.out, self.state)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.state is None:
            self.log.unlink(missing_ok=True)
            self.progress = states.Progress()
        self.done = self.before
        self.progress.curve = [point for point in self.progress.curve if (point[0] or 0) <= self.before]
        self.progress.runs += 1
        self._save()

    def _train(self) -> None:
        config, accelerate = self.folder / "config.toml", self.folder / "accelerate.yaml"
        config.write_text(self._config(), "utf-8", newline="\n")
        accelerate.write_text(command.accelerate_config(self.launch), "utf-8", newline="\n")
        words = command.launch_words(list(self.ready.python), self.ready.script, config, accelerate, self.launch)
        console = Console()
        with Training(words, self.root, self.log, command.environment(), self.mark) as process:
            while (piece := process.hear()) is not None:
                self._hear(console, console.feed(piece), process)
                if self.tools.stopping():
                    process.stop()
                    self.tools.progress(self.done, max(1, self.progress.total), f"stopped: {self._paused()}")
                    raise Paused(self._paused())
                if self._enough() and process.code is None:
                    process.stop()  # what it said till then is still heard
            self._hear(console, console.feed(b"", final=True), process)
            self._note()
            if process.log_error is not None:
                self.notices.append(f"The log is not whole: {process.log_error}")
            if self._enough():
                self.done = self.progress.total
            else:
                self._ended(process.code or 0, console)

    def _config(self) -> str:
        """The configuration with what belongs to this machine and this run.

        `save_every_n_steps` counts the steps of the run: after going on from a state sd-scripts would train to the
        epoch's end, so where all steps are no whole epochs, it saves the LoRA where the training ends.
        """
        values: dict[str, Any] = {
            "pretrained_model_name_or_path": self.base,
            "output_dir": str(self.out),
            "output_name": self.job.scene,
            "save_model_as": "safetensors",
            "console_log_simple": True,
            "save_state": True,
            "save_every_n_epochs": self._epochs_between_states(),
            "save_last_n_epochs": 1,
            "save_last_n_epochs_state": 1,
            "save_every_n_steps": self._left() if self._overshoots() else None,
            "resume": str(self.state.path) if self.state else None,
            "initial_step": self.before or None,
        }
        unwanted = ("initial_epoch", "skip_until_initial_step", "save_n_epoch_ratio", "save_last_n_steps")
        text = render(self.text, {**values, **self._several(), **dict.fromkeys(unwanted)})
        checked(text, self.template, known=self.ready.options)
        return text

    def _several(self) -> dict[str, Any]:
        """What several processes need: the schedule is stepped once for each of them, which shortens whole numbers of
        steps; and while one card caches, the others wait, by default for half an hour."""
        times = self.launch.processes
        if times == 1:
            return {}
        steps = {key: self.options.get(key) for key in ("lr_warmup_steps", "lr_decay_steps")}
        longer = {key: value * times for key, value in steps.items() if isinstance(value, int) and value}
        return {"ddp_timeout": self.options.get("ddp_timeout") or PATIENCE, **longer}

    def _epochs_between_states(self) -> int:
        """About `checkpoint_every` steps; a state within an epoch would show its first pictures twice."""
        group = int(self.options.get("train_batch_size", 1)) * int(self.options.get("gradient_accumulation_steps", 1))
        epoch = math.ceil(len(self.job.pictures) * self.job.repeats / (group * self.launch.processes))
        return max(1, round(self.job.recipe.checkpoint_every / max(1, epoch)))

    def _left(self) -> int:
        return self.progress.total - self.before

    def _overshoots(self) -> bool:
        return self.state is not None and self.progress.total % self.progress.per_epoch > 0

    def _lora(self) -> Path:
        name = self.job.scene
        if self._overshoots():
            return self.out / f"{name}-step{self._left():08d}.safetensors"
        return self.out / f"{name}.safetensors"

    def _enough(self) -> bool:
        return self._overshoots() and self._lora().is_file() and states.tensors_whole(self._lora())

    def _hear(self, console: Console, steps: list[Step], process: Training) -> None:
        """Takes in what the console told.

        Raises:
            UserError: the loss is not a number.
        """
        numbers, known = console.numbers, self.progress
        if numbers.get("total") and console.updates_per_epoch and not known.per_epoch:
            known.total, known.per_epoch = numbers["total"], console.updates_per_epoch
            known.images = numbers.get("images", 0)
            self._save()
        for step in steps:
            self._step(step)
            if step.loss is not None and not math.isfinite(step.loss):
                process.stop()
                raise failures.not_a_number(self._how(0, console))
        if self._seen is None:
            self.tools.progress(0, 1, f"sd-scripts: {console.doing}")
        elif steps:
            at, loss, seconds = self._seen
            pace = f", {seconds:.2f} s each" if seconds else ""
            self.tools.progress(at, known.total, f"step {at} of {known.total}, loss {loss:.3g}{pace}")

    def _step(self, step: Step) -> None:
        """The bar is drawn after every micro-batch; the last loss of a step counts for it."""
        self.progress.total = self.progress.total or step.total
        at = min(self.before + step.step, self.progress.total)
        if step.loss is None:
            return
        if self._seen is not None and at != self._seen[0]:
            self._note()
        self.done = at
        if math.isfinite(step.loss):
            self._seen = at, step.loss, step.seconds

    def _note(self) -> None:
        """A point of the curve, if one is due."""
        if self._seen is None or self._seen[0] <= self.before:
            return
        at, loss, _ = self._seen
        curve, every = self.progress.curve, max(1, self.progress.total // CURVE_POINTS)
        last = int(curve[-1][0] or 0) if curve else 0
        if at // every > last // every or (at == self.progress.total != last):
            curve.append([at, loss, None, self._rate(at - 1)])
            self._save()

    def _rate(self, step: int) -> float | None:
        """The learning rate of a step, from 0; None for schedules and optimizers that are not known here."""
        from bglora.training import rates
        from bglora.training.kohya_recipe import recipe_of

        if self.options.get("lr_scheduler_type"):
            return None
        try:
            recipe = recipe_of(self.options)
        except UserError:  # an optimizer of their own
            return None
        base = recipe.unet_lr or recipe.learning_rate
        return base * rates.factor(step, self.progress.total, base, recipe.rates)

    def _ended(self, code: int, console: Console) -> None:
        """Refuses an end without a LoRA; one that stumbled after the file was written is remarked."""
        lora = self._lora()
        there = lora.is_file() and states.tensors_whole(lora)
        if code == 0:
            if not lora.is_file():
                raise failures.no_file(self._how(code, console))
            if self.before < self.done < self.progress.total:
                self.notices.append(f"sd-scripts ended at step {self.done} of {self.progress.total}, without an error.")
        elif there and self.done >= self.progress.total > 0:
            said = failures.cause(console.tail) or f"exit code {code}"
            self.notices.append(f"sd-scripts failed after it had written its LoRA: {said}")
        else:
            raise failures.explain(self._how(code, console))

    def _how(self, code: int, console: Console) -> failures.Ended:
        step = f"step {self.done} of {self.progress.total}" if self.done > self.before else ""
        state = self._newest()
        epoch = state.epoch if state else 0
        return failures.Ended(code, tuple(console.tail), str(self.log), self.options, self.template, step, epoch)

    def _paused(self) -> str:
        state = states.newest(self.out, self.job.scene)
        epoch = f"the end of epoch {state.epoch}" if state else "the start"
        return f"{self.job.scene} at step {self.done}; it goes on from {epoch}"

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.progress.save(self.folder / "progress.json")

    def take(self, lora: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Puts the LoRA and its curve where outputs belong. Returns these and what there is to record."""
        home, scratch = f"loras/{self.job.scene}", Path(self.tools.scratch)
        (scratch / home).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lora, scratch / f"{home}.safetensors")
        curve = self.progress.curve
        lines = [dict(zip(("step", "loss", "validation", "learning_rate"), point, strict=True)) for point in curve]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (scratch / home / "log.jsonl").write_text(text, "utf-8", newline="\n")
        steps, epoch = self.done or self.progress.total, self.progress.per_epoch
        record = {
            "steps": steps,
            "kept_step": steps,
            "pictures_seen": round(self.progress.images * steps / epoch) if epoch else 0,
            "loss": curve[-1][1] if curve else None,
            "validation": None,
            "curve": [list(point) for point in curve],
            "checkpoints": [steps],
            "trained_by": self.ready.told(),
            "runs": self.progress.runs,
        }
        return (f"{home}.safetensors", f"{home}/log.jsonl"), record
