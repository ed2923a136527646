"""The training loop: a LoRA on a frozen SDXL-class base, resumable bit by bit at any step.

Order, flips, noise and timesteps are functions of (seed, step), so a state is weights, moments and the step's number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from shutil import rmtree

import torch
from torch import Tensor

from bglora.training import network, noise, state, validation
from bglora.training.base import Base
from bglora.training.cache import Example, cuts_of, encode_examples, seeded
from bglora.training.caption_book import CaptionBook
from bglora.training.captions import Moment, affixed, processed
from bglora.training.dora import refuse
from bglora.training.job import Diverged, Paused, Recipe, TrainJob
from bglora.training.learner import Learner
from bglora.training.loss import Batch, gather
from bglora.training.network_file import Start, start_from
from bglora.training.options import NoiseOptions
from bglora.training.plan import Draw, Plan
from bglora.training.processes import ALONE, Processes
from bglora.training.samples import paint_samples, spread
from bglora.training.step_log import StepClock, StepLog
from bglora.training.store import Store

CURVE_POINTS = 200
LOG_EVERY = 10
"""Optimizer steps after which losses are read, at the latest: each reading waits for the device."""


@dataclass(frozen=True)
class Watch:
    """How a training talks to the world: progress(done, total, text), stopping(), and where its logs go, if any do."""

    progress: Callable[[float, float, str], None]
    stopping: Callable[[], bool]
    logs: Path | None = None


class Training:
    """One LoRA in the making. `run` trains to the end or raises `Paused`; then `final` gives the weights.

    Files: `<folder>/state.safetensors`, `<folder>/best-<step>.safetensors`, weights along the way in
    `<folder>/kept-<step>.safetensors`, sample pictures in `samples`. The pictures are read once, at the beginning: what
    becomes of their files then changes nothing of this training.

    Attributes:
        cuts: how the pictures were scaled and cropped.
    """

    def __init__(
        self,
        job: TrainJob,
        base: Base,
        folder: Path,
        samples: Path,
        watch: Watch,
        processes: Processes = ALONE,
        store: Store | None = None,
    ) -> None:
        self.job, self.base, self.folder, self.samples, self.watch = job, base, folder, samples, watch
        self.processes, self.store = processes, store or Store()
        self.recipe: Recipe = job.recipe
        self.examples, self.held_out = self._encode()
        self.plan = Plan([example.bucket for example in self.examples], job.repeats, job.flip, self.recipe)
        recipe = self.recipe
        if recipe.dora:
            refuse(recipe)
        self.adapter = network.create(base.unet, base.encoders, recipe.network, recipe.learning_rates, recipe.seed)
        self.parameters = self.adapter.parameters()
        self.start: Start | None = None
        try:
            if job.network_weights is not None:
                self.start = start_from(self.adapter, job.network_weights, recipe.network)
            self.learner = Learner(base, self.adapter, recipe, processes)
            self.captions = self._caption_book()
        except BaseException:
            self.adapter.detach()  # the base is shared with what comes after
            raise
        self.optimizer = self.learner.optimizer
        self.progress = state.Progress()
        self.log = StepLog(None, resumed=False, events=False)
        self._clock = StepClock()
        self._origin = state.origin_of(job)
        self._unread: list[Tensor] = []
        self._shown = ""

    def run(self) -> None:
        """Trains from the last saved state, or from the start, to the last step or until it stops by itself.

        Raises:
            Paused: it was asked to stop; the state is saved.
            Diverged: loss or weights are no finite numbers; `go_back` gives the last good weights.
        """
        self._resume()
        if self.recipe.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
            self.base.unet.train()  # diffusers recomputes only then; the U-Nets of this class have no dropout
        try:
            self._clock.go_on()
            while self.progress.step < self.plan.steps and not self.ended_early:
                self._advance()
        finally:
            self.log.close()
            self.base.unet.eval()
            self.base.unet.disable_gradient_checkpointing()

    def final(self) -> dict[str, Tensor]:
        """The weights that become the LoRA: the best by validation loss where there is one and the recipe says so."""
        if self._keeps_best and self.progress.best_step > 0:
            return state.read_weights(self._best_file(self.progress.best_step))
        with self.learner.settled():
            return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    @property
    def kept_step(self) -> int:
        """The step whose weights `final` gives."""
        best = self._keeps_best and self.progress.best_step > 0
        return self.progress.best_step if best else self.progress.step

    @property
    def validation(self) -> float | None:
        """The validation loss of the weights that `final` gives."""
        return next((point[2] for point in self.progress.curve if point[0] == self.kept_step), None)

    @property
    def ended_early(self) -> bool:
        """Enough validations came without a better one."""
        return 0 < self.recipe.early_stop <= self.progress.since_best

    def remarks(self) -> list[str]:
        """What a person should know of how it ended."""
        recipe, progress = self.recipe, self.progress
        if recipe.early_stop and not self.held_out:
            return ["train.early_stop did nothing, for no plate is held out to validate on"]
        if self.ended_early and progress.step < self.plan.steps:
            looks = "1 look" if progress.since_best == 1 else f"{progress.since_best} looks"
            ended = f"stopped at step {progress.step} of {self.plan.steps}"
            return [f"{ended}: validation has not improved for {looks}"]
        return []

    @property
    def kept_along(self) -> list[int]:
        """The steps whose weights `kept` gives."""
        return [step for step in self._kept_steps() if step <= self.progress.step]

    def kept(self, step: int) -> dict[str, Tensor]:
        """Weights that were kept along the way."""
        return state.read_weights(self._kept_file(step))

    def go_back(self) -> bool:
        """After `Diverged`: makes the last good weights those that `final` gives. False if there are none."""
        saved, reached = self.folder / "state.safetensors", self.progress
        if saved.exists():
            self.progress = replace(reached, step=state.load(saved, self.learner).step)
            return True
        self.progress = replace(reached, step=max(reached.best_step, 0))
        return self._keeps_best and reached.best_step > 0

    @property
    def _keeps_best(self) -> bool:
        return self.recipe.keep == "best"

    def _encode(self) -> tuple[list[Example], list[Example]]:
        job, watch = self.job, self.watch
        chosen = spread(job.held_out, validation.PICTURES)

        def progress(done: int, total: int) -> None:
            watch.progress(0, 1, f"encoding pictures, {done} of {total}")

        self.cuts = cuts_of(job.pictures, self.recipe)
        examples = encode_examples(self.base, job.pictures, self.recipe, job.flip, progress, self.store)
        return examples, encode_examples(self.base, chosen, self.recipe, False, progress, self.store)

    def _caption_book(self) -> CaptionBook:
        """Every caption that stays the same is encoded before the first step."""
        recipe = self.recipe
        book = CaptionBook(self.base, recipe.text_encoders, recipe.captions.weighted_captions, self.store)
        known = self.held_out if recipe.captions.varies else (*self.examples, *self.held_out)
        book.prepare(affixed(example.caption, recipe.captions) for example in known)
        return book

    def _resume(self) -> None:
        saved = self.folder / "state.safetensors"
        # asked once for all: a state that counts no more is deleted right after
        resumed = self.processes.from_first(lambda: saved.exists() and state.origin_in(saved) == self._origin)
        if saved.exists() and not resumed:
            self.watch.progress(0, 1, "pictures, captions or settings are not those of the saved state: starting anew")
        logs = self.watch.logs if self.processes.first else None
        self.log = StepLog(logs, resumed=resumed, events=self.recipe.tensorboard)
        if self.log.lacking:
            self.watch.progress(0, 1, self.log.lacking)
        if resumed:
            self.progress = state.load(saved, self.learner)
            self.log.started(self.progress.step)
        else:
            if self.processes.first:
                _empty(self.folder)
                _empty(self.samples)
            self._look(0.0)

    def _advance(self) -> None:
        """One optimizer step and what is due after it. Losses are read where they are shown or saved."""
        step = self.progress.step
        self._unread.append(self.descend(step))
        self.progress.step = done = step + 1
        last, look = done == self.plan.steps, self._looks_at(done)
        keep = done in self._kept_steps()
        stopping = self.processes.agreed(self.watch.stopping()) and not last
        save = last or stopping or keep or done % self.recipe.checkpoint_every == 0
        if look or save or done % LOG_EVERY == 0:
            self._read_losses()
        if look or save:
            self._require_numbers()
        if keep and self.processes.first:
            self._keep()
        if look:
            self._look(self.plan.learning_rate(step))
        self.watch.progress(done, self.plan.steps, f"step {done} of {self.plan.steps}{self._shown}")
        if save or self.ended_early:
            self._save()
        if look or save:
            self._clock.go_on()
        if stopping and not self.ended_early:
            raise Paused(f"{self.job.scene} at step {done}")

    def descend(self, step: int) -> Tensor:
        """Takes one optimizer step. Returns the mean loss, which nobody has waited for; of several processes each has
        its share of it."""
        planned = self.plan.batches(step)
        own = self.processes.share(planned)
        batches = (self.batch(step, number, draws) for number, draws in own)
        loss = self.learner.descend(batches, self.plan.learning_rate(step))
        return loss if len(own) == len(planned) else loss * (len(own) / len(planned))

    def update(self, rate: float) -> None:
        """The optimizer's part of a step, at this learning rate."""
        self.learner.update(rate)

    def _read_losses(self) -> None:
        """Waits for the steps since the last reading and draws the curve up to here.

        Raises:
            Diverged: one of them had a loss that is no finite number; the state on disk is from before it.
        """
        if not self._unread:
            return
        losses = self.processes.total(torch.stack(self._unread)).tolist()
        self._clock.stepped(len(losses))
        first = self.progress.step - len(losses)
        self._unread = []
        for number, loss in enumerate(losses, first + 1):
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss}", number)
            self.progress.losses.append(loss)
            if number % self._note_every == 0 and not self._looks_at(number):
                self._note(number, None, self.plan.learning_rate(number - 1))
        self._shown = f", loss {losses[-1]:.3f}"
        if self._clock.steps >= self._note_every:
            self.log.point(self.progress.step, seconds=self._clock.mean())

    def _require_numbers(self) -> None:
        """A step may spoil the weights though its own loss was finite; such weights are never saved.

        Raises:
            Diverged: they hold what is no finite number.
        """
        norms = torch.stack([torch.linalg.vector_norm(weights.detach()) for weights in self.learner.weights])
        if not math.isfinite(float(norms.sum())):
            raise self._diverged("The LoRA's weights are no finite numbers", self.progress.step)

    def _diverged(self, what: str, step: int) -> Diverged:
        return Diverged(
            f"{what} at step {step} of {self.plan.steps}; training was stopped.",
            where=f"train, {self.job.scene}; its last state is from before that step",
            cure=f"Set a smaller train.learning_rate (now {self.recipe.learning_rate:g}) and run again.",
        )

    def batch(self, step: int, number: int, draws: Sequence[Draw]) -> Batch:
        """A step's micro-batch; its noise, and what dropout leaves out, depend on the seed and these numbers alone."""
        recipe, picked = self.recipe, [(self.examples[draw.picture], draw.flipped) for draw in draws]
        if recipe.dropout.any:
            torch.manual_seed(seeded("dropout", recipe.seed, step, number).initial_seed())
        shape = (len(picked), *picked[0][0].latents[0].shape)
        drawn = noise.draw(shape, recipe.noise, self.learner.schedule.steps, seeded("noise", recipe.seed, step, number))
        captions = [self._caption(example, step, number, place) for place, (example, _) in enumerate(picked)]
        return self._gather(picked, captions, drawn, recipe.noise)

    def _caption(self, example: Example, step: int, number: int, place: int) -> str:
        """A picture's caption in the form that it has at one place of one micro-batch."""
        options = self.recipe.captions
        if not options.varies:
            return affixed(example.caption, options)
        moment = Moment(step // self.plan.steps_per_epoch + 1, step, self.plan.steps)
        rng = Random(f"{self.recipe.seed}/caption/{step}/{number}/{place}")
        return processed(example.caption, options, moment, rng)

    def _gather(
        self,
        picked: Sequence[tuple[Example, bool]],
        captions: Sequence[str],
        drawn: noise.Draws,
        options: NoiseOptions,
    ) -> Batch:
        embedded = self.captions.embed(captions)
        return gather(picked, embedded, drawn, options, self.learner.schedule, self.base.device)

    def _looks_at(self, step: int) -> bool:
        """Whether it validates after this step."""
        every = self.recipe.validate_every or max(1, math.ceil(self.plan.steps / 8))
        return step == self.plan.steps or step % every == 0

    @property
    def _note_every(self) -> int:
        """Steps between two points of the curve."""
        return max(1, self.plan.steps // CURVE_POINTS)

    def _look(self, rate: float) -> None:
        """Validates, keeps the weights if they are the best so far, and paints samples: the first process for all."""
        self.progress = self.processes.from_first(lambda: self._looked(rate))

    def _looked(self, rate: float) -> state.Progress:
        step = self.progress.step
        with self.learner.settled():
            loss = validation.validation_loss(
                self.base, self.learner.schedule, self.held_out, self.captions, self.recipe.captions
            )
            self._note(step, loss, rate)
            if loss is not None and step and self.progress.validated(loss) and self._keeps_best:
                state.save_weights(self._best_file(step), self.parameters)
            paint_samples(self.base, self.job, self.examples[0].bucket, self.samples, step)
        return self.progress

    def _keep(self) -> None:
        with self.learner.settled():
            state.save_weights(self._kept_file(self.progress.step), self.parameters)

    def _note(self, step: int, validation: float | None, rate: float) -> None:
        """A point of the curve."""
        losses = self.progress.losses
        mean = sum(losses) / len(losses) if losses else None
        self.progress.curve.append((step, mean, validation, rate))
        self.log.point(step, loss=mean, validation=validation, learning_rate=rate)
        self.progress.losses = []

    def _save(self) -> None:
        if not self.processes.first:
            return
        state.save(self.folder / "state.safetensors", self.learner, self.progress, self._origin)
        for file in self.folder.glob("best-*.safetensors"):
            if file != self._best_file(self.progress.best_step):
                file.unlink()

    def _best_file(self, step: int) -> Path:
        return self.folder / f"best-{step:06d}.safetensors"

    def _kept_file(self, step: int) -> Path:
        return self.folder / f"kept-{step:06d}.safetensors"

    def _kept_steps(self) -> list[int]:
        """The steps after which weights are kept, the end left out; no two are the same."""
        count, steps = self.recipe.keep_checkpoints, self.plan.steps
        return sorted({steps * number // (count + 1) for number in range(1, count + 1)} - {0, steps})


def _empty(folder: Path) -> None:
    """An empty folder, whatever was in it."""
    if folder.exists():
        rmtree(folder)
    folder.mkdir(parents=True)
