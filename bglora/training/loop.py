"""The training loop: a LoRA on a frozen SDXL-class base, resumable bit by bit at any step.

Order, flips, noise and timesteps are functions of (seed, step), so a state is weights, moments and the step's number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bglora.errors import UserError
from bglora.training import network, noise, painting, state
from bglora.training.base import Base
from bglora.training.cache import Example, encode_examples, seeded
from bglora.training.caption_book import CaptionBook
from bglora.training.captions import Moment, affixed, processed
from bglora.training.dora import refuse
from bglora.training.job import Paused, Recipe, TrainJob
from bglora.training.learner import Learner
from bglora.training.loss import Batch, error, gather
from bglora.training.options import LossOptions, NoiseOptions
from bglora.training.plan import Draw, Plan
from bglora.training.processes import ALONE, Processes

CURVE_POINTS = 200
VALIDATION_PICTURES = 6
VALIDATION_TIMES = 4
LOG_EVERY = 10
"""Optimizer steps after which losses are read, at the latest: each reading waits for the device."""


@dataclass(frozen=True)
class Watch:
    """How a training talks to the world: progress(done, total, text) and stopping()."""

    progress: Callable[[float, float, str], None]
    stopping: Callable[[], bool]


class Training:
    """One LoRA in the making. `run` trains to the end or raises `Paused`; then `final` gives the weights.

    Files: `<folder>/state.safetensors`, `<folder>/best-<step>.safetensors`, sample pictures in `samples`.
    """

    def __init__(
        self, job: TrainJob, base: Base, folder: Path, samples: Path, watch: Watch, processes: Processes = ALONE
    ) -> None:
        self.job, self.base, self.folder, self.samples, self.watch = job, base, folder, samples, watch
        self.processes = processes
        self.recipe: Recipe = job.recipe
        self.examples, self.held_out = self._encode()
        self.plan = Plan([example.bucket for example in self.examples], job.repeats, job.flip, self.recipe)
        recipe = self.recipe
        if recipe.dora:
            refuse(recipe.dropout, recipe.scale_weight_norms)
        self.adapter = network.create(base.unet, base.encoders, recipe.network, recipe.learning_rates, recipe.seed)
        self.parameters = self.adapter.parameters()
        try:
            self.learner = Learner(base, self.adapter, recipe, processes)
            self.captions = self._caption_book()
        except BaseException:
            self.adapter.detach()  # the base is shared with what comes after
            raise
        self.optimizer = self.learner.optimizer
        self.progress = state.Progress()
        self._unread: list[Tensor] = []
        self._shown = ""

    def run(self) -> None:
        """Trains from the last saved state, or from the start, to the last step."""
        self._resume()
        if self.recipe.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
            self.base.unet.train()  # diffusers recomputes only then; the U-Nets of this class have no dropout
        try:
            while self.progress.step < self.plan.steps:
                self._advance()
        finally:
            self.base.unet.eval()
            self.base.unet.disable_gradient_checkpointing()

    def final(self) -> dict[str, Tensor]:
        """The weights that become the LoRA: the best by validation loss where there is one and the recipe says so."""
        if self.recipe.keep == "best" and self.progress.best_step > 0:
            from safetensors.torch import load_file

            return load_file(self._best_file(self.progress.best_step))
        with self.learner.settled():
            return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    @property
    def kept_step(self) -> int:
        """The step whose weights `final` gives."""
        best = self.recipe.keep == "best" and self.progress.best_step > 0
        return self.progress.best_step if best else self.progress.step

    def _encode(self) -> tuple[list[Example], list[Example]]:
        job, watch = self.job, self.watch
        chosen = _spread(job.held_out, VALIDATION_PICTURES)

        def progress(done: int, total: int) -> None:
            watch.progress(0, 1, f"encoding pictures, {done} of {total}")

        examples = encode_examples(self.base, job.pictures, self.recipe, job.flip, progress)
        return examples, encode_examples(self.base, chosen, self.recipe, False, progress)

    def _caption_book(self) -> CaptionBook:
        """Every caption that stays the same is encoded before the first step."""
        recipe, book = self.recipe, CaptionBook(self.base, self.recipe.text_encoders)
        known = self.held_out if recipe.captions.varies else (*self.examples, *self.held_out)
        book.prepare(affixed(example.caption, recipe.captions) for example in known)
        return book

    def _resume(self) -> None:
        saved = self.folder / "state.safetensors"
        if saved.exists():
            self.progress = state.load(saved, self.optimizer)
            self.adapter.refresh()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._look(0.0)

    def _advance(self) -> None:
        """One optimizer step and what is due after it. Losses are read where they are shown, noted or saved."""
        step, recipe = self.progress.step, self.recipe
        self._unread.append(self.descend(step))
        self.progress.step = done = step + 1
        last = done == self.plan.steps
        look = last or done % self._look_every() == 0
        note = done % max(1, self.plan.steps // CURVE_POINTS) == 0
        stopping = self.processes.agreed(self.watch.stopping()) and not last
        save = last or stopping or done % recipe.checkpoint_every == 0
        if look or note or save or done % LOG_EVERY == 0:
            self._read_losses()
        rate = self.plan.learning_rate(step)
        if look:
            self._look(rate)
        elif note:
            self._note(None, rate)
        self.watch.progress(done, self.plan.steps, f"step {done} of {self.plan.steps}{self._shown}")
        if save:
            self._save()
        if stopping:
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
        """Waits for the steps since the last reading.

        Raises:
            UserError: one of them had a loss that is no finite number; the state on disk is from before it.
        """
        if not self._unread:
            return
        losses = self.processes.total(torch.stack(self._unread)).tolist()
        first = self.progress.step - len(losses)
        self._unread = []
        for number, loss in enumerate(losses, first + 1):
            if not math.isfinite(loss):
                raise UserError(
                    f"The loss is {loss} at step {number} of {self.plan.steps}; training was stopped.",
                    where=f"train, {self.job.scene}; its last state is from before that step",
                    cure=f"Set a smaller train.learning_rate (now {self.recipe.learning_rate:g}) and run again.",
                )
        self.progress.losses += losses
        self._shown = f", loss {losses[-1]:.3f}"

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

    def _look_every(self) -> int:
        return self.recipe.validate_every or max(1, math.ceil(self.plan.steps / 8))

    def _look(self, rate: float) -> None:
        """Validates, keeps the weights if they are the best so far, and paints samples: the first process for all."""
        self.progress = self.processes.from_first(lambda: self._looked(rate))

    def _looked(self, rate: float) -> state.Progress:
        step = self.progress.step
        with self.learner.settled():
            validation = self._validate()
            self._note(validation, rate)
            if validation is not None and step and validation < self.progress.best_loss:
                state.save_weights(self._best_file(step), self.parameters)
                self.progress.best_step, self.progress.best_loss = step, validation
            self._paint_samples(step)
        return self.progress

    def _note(self, validation: float | None, rate: float) -> None:
        losses = self.progress.losses
        mean = sum(losses) / len(losses) if losses else None
        self.progress.curve.append((self.progress.step, mean, validation, rate))
        self.progress.losses = []

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Mean loss over held-out pictures at fixed timesteps with fixed noise; None if nothing is held out."""
        if not self.held_out:
            return None
        schedule, total = self.learner.schedule, self.learner.schedule.steps
        times = torch.tensor([int(total * (i + 0.5) / VALIDATION_TIMES) for i in range(VALIDATION_TIMES)])
        losses = []
        for example in self.held_out:
            shape = (VALIDATION_TIMES, *example.latents[0].shape)
            plain = torch.randn(shape, generator=seeded("validation", example.name))
            picked = [(example, False)] * VALIDATION_TIMES
            captions = [affixed(example.caption, self.recipe.captions)] * VALIDATION_TIMES
            batch = self._gather(picked, captions, noise.Draws(plain, times), NoiseOptions())
            losses.append(float(error(self.base, batch, schedule, LossOptions()).mean()))
        return sum(losses) / len(losses)

    @torch.no_grad()
    def _paint_samples(self, step: int) -> None:
        recipe = self.recipe
        if recipe.dora:
            refuse(recipe.dropout, recipe.scale_weight_norms)
        if not recipe.samples:
            return
        source = self.job.held_out or self.job.pictures
        prompts = [picture.caption for picture in _spread(source, recipe.samples)]
        look = painting.Look(self.examples[0].bucket, recipe.sample_steps, recipe.sample_guidance)
        self.samples.mkdir(parents=True, exist_ok=True)
        seeds = [recipe.seed + number for number in range(len(prompts))]
        for number, picture in enumerate(painting.paint(self.base, prompts, seeds, look)):
            Image.fromarray(picture).save(self.samples / f"step-{step:06d}-{number}.png", compress_level=1)

    def _save(self) -> None:
        if not self.processes.first:
            return
        state.save(self.folder / "state.safetensors", self.optimizer, self.progress)
        for file in self.folder.glob("best-*.safetensors"):
            if file != self._best_file(self.progress.best_step):
                file.unlink()

    def _best_file(self, step: int) -> Path:
        return self.folder / f"best-{step:06d}.safetensors"


def _spread(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread."""
    if len(values) <= count:
        return list(values)
    return [values[int((i + 0.5) * len(values) / count)] for i in range(count)]
