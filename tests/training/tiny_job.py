"""A small training: six pictures of 128 x 72 on the tiny base, eight optimizer steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bglora.training.job import Recipe, TrainJob, TrainPicture
from tests.training.tiny_base import tiny_base

RECIPE = Recipe(
    resolution=64,
    bucket_step=32,
    dim=4,
    alpha=3.0,
    learning_rate=1e-2,
    batch_size=1,
    accumulation=2,
    epochs=2,
    checkpoint_every=2,
    validate_every=3,
    samples=1,
    sample_steps=2,
    threads=1,
)


def write_pictures(folder: Path, count: int = 7) -> tuple[TrainPicture, ...]:
    """Smooth random pictures with captions; the right half of each was filled by a guess."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 255, (9, 16, 3), dtype=np.uint8))
        small.resize((128, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        provenance = np.zeros((72, 128), np.uint8)
        provenance[:, 64:] = 2
        Image.fromarray(provenance).save(folder / f"{number}-provenance.png")
        caption = f"trig, background, view {number % 3}, no characters"
        name = f"film-s000/{number:06d}"
        found.append(TrainPicture(name, folder / f"{number}.png", caption, folder / f"{number}-provenance.png"))
    return tuple(found)


def tiny_job(folder: Path, base: Path | None = None, **changes: Any) -> TrainJob:
    pictures = write_pictures(folder)
    return TrainJob(
        scene="scene-00",
        title="Old town",
        trigger="trig",
        base=str(base or tiny_base()),
        pictures=pictures[:5],
        held_out=pictures[5:],
        dataset=folder,
        repeats=1,
        flip=True,
        keep_tokens=2,
        created="2026-01-02",
        recipe=replace(RECIPE, **changes),
    )


class Watcher:
    """Stands for the engine's tools: scratch, and a chance to stop or die at a step."""

    def __init__(self, scratch: Path, at: int = -1, act: Callable[[], bool] = lambda: True) -> None:
        self.scratch, self.root, self.at, self.act = scratch, scratch / "project", at, act
        self.steps = 0

    def progress(self, done: float, total: float, text: str = "") -> None:
        if text.startswith("step"):
            self.steps = int(done)

    def stopping(self) -> bool:
        return self.steps == self.at and self.act()

    def once(self, key: str, load: Callable[[], Any]) -> Any:
        return load()


def train(job: TrainJob, watcher: Watcher) -> Any:
    from bglora.backends.train import native

    return native.create(None).train(job, watcher)


def main() -> None:
    """Kills its own training at a step: python -m tests.training.tiny_job PICTURES BASE OUT STEP."""
    import os
    import signal

    pictures, base, out, step = sys.argv[1:]

    def die() -> bool:
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        return True

    train(tiny_job(Path(pictures), Path(base)), Watcher(Path(out), int(step), die))


if __name__ == "__main__":
    main()
