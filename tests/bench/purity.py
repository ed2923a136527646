"""What a training learns from characters left in its pictures: one scene, five ways to hand it over.

    python -m tests.bench.purity PROJECT [--only ways,captions,ranks] [--scene scene-00] [--steps 240] [--work FOLDER]

PROJECT is a project of the sample film that has run up to `caption` on `mini`. The same pictures, captions, steps and
seeds are trained (a) on the film's frames as they are, (b) on frames whose holes Telea's method filled, (c) on frames
with the holes left out of the loss, (d) on the plates, (e) on the plates with the loss weighted by provenance. Pictures
of each LoRA, asked for an empty scene, are looked over by the small judge that comes with `mini`.

Two more experiments of the same kind: (e) with and without the words for an empty scene in its captions, and (e) with
rank 128 beside 32. `--sheet FILE` writes a picture of the five ways side by side, for README.

What is done stays in WORK, in a folder for each base, recipe and set of pictures, and isn't done again: LoRAs and
pictures by arm and training seed. On one core: five ways about 11 minutes, captions 3 more, ranks 5.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bglora.assets import asset
from bglora.backends.embed import descriptor
from bglora.backends.paint import diffusers as paint_backend
from bglora.backends.paint.diffusers import Painter
from bglora.backends.paint.sheet import contact_sheet
from bglora.backends.train import native
from bglora.nets.still_judge import StillJudge, load_judge
from bglora.settings.lora import TrainSettings
from bglora.stages.judging import plates_of
from bglora.training import figures
from bglora.training.figures import Estimate
from tests.bench.ghosts import Ghosts
from tests.bench.scene_training import (
    ARMS,
    GUIDANCE,
    LOOK,
    RECIPE,
    STEPS,
    TRUSTED,
    Arm,
    Scene,
    scene_of,
    train,
    without_empty_words,
    write_pictures,
)
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.purity PROJECT"
TITLE = "Five ways to hand a scene over"
TITLE_CAPTIONS = "Captions with and without the words for an empty scene"
TITLE_RANKS = "Rank 128 beside 32"
TRAINING_SEEDS = (1, 2, 3)
PICTURES = 40
SCALE = 1.0
HELD_OUT = 24
SOMEBODY = "with a character"
RANKS = (32, 128)
NOTE = """One scene of the sample film, the same pictures, captions (with the empty-scene words), steps and noise for
every row; three training seeds, 40 pictures each at scale 1, prompts that ask for nobody. Character's share: how much
of the difference between a plate and its frame a picture of that camera shows, 0 a plate, 1 the frame (the most of any
trained frame of the shot, so that noise alone is above 0). Somebody there: by the small judge of mini, with Wilson's
interval; likeness: cosine to the most alike of 24 plates that nobody trained on, as the product filled them.
Differences are paired by training seed and noise; the bootstrap's 95 % interval draws trainings first, then pictures:
one that includes 0 is unclear."""
NOTE_CAPTIONS = """The same scene as plates with the loss weighted by provenance, three training seeds, 40 pictures
each: trained with captions that end with "no characters, empty scene", and without these words. Both are asked for an
empty scene in these words, and, without them, for "with a character". Differences are paired by training seed and
noise."""
NOTE_RANKS = """The same, (e) with two ranks, alpha three quarters of the rank, and a learning rate that falls as the
rank grows, so that both move the weights about as far. Copies: likeness of the layout to the nearest training
picture."""


def paint(painter: Painter, lora: Path | None, prompts: Sequence[str], file: Path) -> np.ndarray:
    """uint8 (PICTURES, S, S, 3) of empty prompts, the same noise for every LoRA; None: the base alone."""
    if file.exists():
        return np.asarray(np.load(file)["pictures"])
    asked = [prompts[number % len(prompts)] for number in range(PICTURES)]
    adapters = [(lora, SCALE)] if lora else []
    size = (painter.size, painter.size)
    try:
        pictures = np.stack(painter.paint(asked, "", range(PICTURES), size, STEPS, GUIDANCE, adapters))
    finally:
        painter.close()  # the next LoRA is trained on the same base
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, pictures=pictures)
    return pictures


@dataclass(frozen=True)
class Shown:
    """What one arm's pictures show: somebody is there, likeness to plates, how much of the film's characters. One row
    a training seed, (seeds, n), and one for the base alone, (1, n).
    """

    somebody: np.ndarray
    likeness: np.ndarray
    ghosts: np.ndarray


def shown(pictures: Sequence[np.ndarray], plates: np.ndarray, judge: StillJudge, film: Ghosts) -> Shown:
    embed = descriptor.create(None)
    found, alike = [], []
    for one in pictures:
        vectors = embed.embed([*one, *plates])
        found.append(judge.judge(list(one)).character > 0.5)
        alike.append((vectors[: len(one)] @ vectors[len(one) :].T).max(axis=1))
    return Shown(np.stack(found), np.stack(alike), np.stack([film.strengths(one) for one in pictures]))


def over_trainings(values: np.ndarray) -> Estimate:
    """Mean of (seeds, n) values with a bootstrap's 95 % interval that draws trainings first, then pictures of each:
    pictures of one LoRA are no independent ones (Davison and Hinkley 1997, section 3.8).
    """
    rng, (seeds, pictures) = np.random.default_rng(0), values.shape
    drawn = rng.integers(0, seeds, (figures.DRAWS, seeds, 1))
    means = values[drawn, rng.integers(0, pictures, (figures.DRAWS, seeds, pictures))].mean(axis=(1, 2))
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high))


def lines(arms: Mapping[str, Shown], beside: str) -> list[list[str]]:
    """A table row for each arm; differences to the one `beside` are paired by training seed and noise."""
    plates, rows = arms[beside], []
    for words, one in arms.items():
        rate = figures.wilson(int(one.somebody.sum()), one.somebody.size)
        more = over_trainings(one.somebody.astype(float) - plates.somebody)
        alike, nearer = over_trainings(one.likeness), over_trainings(one.likeness - plates.likeness)
        rows.append([words, *(interval(value) for value in (rate, more, alike, nearer))])
    return rows


def interval(value: Estimate) -> str:
    """`0.123 (0.100 to 0.150)`."""
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


@dataclass(frozen=True)
class Bench:
    """What the experiments share.

    Attributes:
        plates: held-out plates, uint8 (n, S, S, 3). steps: optimizer steps of a training. name: of the base.
    """

    project: Path
    scene: Scene
    work: Path
    steps: int
    painter: Painter
    judge: StillJudge
    plates: np.ndarray
    name: str = "mini"

    @property
    def prompts(self) -> list[str]:
        return sorted(set(self.scene.captions.values()))

    def loras(self, name: str, arm: Arm, scene: Scene, **recipe: Any) -> list[Path]:
        """A LoRA for each training seed; what lies there already is taken as it is."""
        pictures = write_pictures(self.project, scene, arm, self.work / name / "pictures")
        fixed = replace(RECIPE, max_steps=self.steps, provenance_weights=TRUSTED if arm.trust else None, **recipe)
        homes = [(seed, self.work / name / f"seed-{seed}") for seed in TRAINING_SEEDS]
        return [train(pictures, scene, replace(fixed, seed=seed), home, self.name) for seed, home in homes]

    def painted(self, loras: Sequence[Path], prompts: Sequence[str], name: str = "pictures") -> list[np.ndarray]:
        """Pictures of each LoRA."""
        return [paint(self.painter, lora, prompts, lora.parent.parent / f"{name}.npz") for lora in loras]

    def base(self, prompts: Sequence[str], name: str) -> list[np.ndarray]:
        """Pictures of the base alone: the same beside every training seed, so that they are counted once."""
        return [paint(self.painter, None, prompts, self.work / f"{name}.npz")]

    def shown(self, pictures: Sequence[np.ndarray]) -> Shown:
        return shown(pictures, self.plates, self.judge, self.film)

    @cached_property
    def film(self) -> Ghosts:
        """The scene's frames and plates, as soft as the base paints."""
        names = list(self.scene.captions)
        plates, frames = (self.softened(home) for home in ("plates", "frames"))
        return Ghosts([name.split("/")[0] for name in names], plates, frames)

    def softened(self, home: str) -> np.ndarray:
        """The scene's pictures of a folder of the project, through the base's VAE, uint8 (n, S, S, 3)."""
        files = [f"{home}/{name}.png" for name in self.scene.captions]
        return plates_of(self.project, files, len(files), self.painter.size, self.painter)


def ways(bench: Bench, file: Path | None) -> None:
    """The five ways, beside the base alone."""
    grids = {arm.words: bench.painted(bench.loras(arm.name, arm, bench.scene), bench.prompts) for arm in ARMS.values()}
    grids["the base alone"] = bench.base(bench.prompts, "base")
    arms = {words: bench.shown(pictures) for words, pictures in grids.items()}
    rows, beside = [], arms["(d) plates"].ghosts
    for (words, *found), one in zip(lines(arms, "(d) plates"), arms.values(), strict=True):
        ghosts = [interval(over_trainings(values)) for values in (one.ghosts, one.ghosts - beside)]
        rows.append([words, *ghosts, *found])
    head = ["trained on", "character's share", "more than (d)", "somebody there", "more than (d)"]
    head += ["likeness", "nearer than (d)"]
    write_section(TITLE, COMMAND, table(head, rows), f"{NOTE}\n{control(bench)}")
    if file:
        sheet({words: pictures[0] for words, pictures in grids.items()}, bench, file)


def control(bench: Bench) -> str:
    """What the judge says of the pictures that were trained on, as soft as mini paints: what a rate can be at all."""
    told = []
    for home, pictures in (("frames", bench.film.frames), ("plates", bench.film.plates)):
        there = bench.judge.judge(list(pictures)).character > 0.5
        told.append(f"{there.sum()} of the {len(pictures)} {home}")
    return f"On the trained pictures themselves, through mini's VAE, the judge sees somebody on {' and '.join(told)}."


def sheet(grids: Mapping[str, np.ndarray], bench: Bench, file: Path) -> None:
    """A picture for README: eight of each row's pictures, and below them plates that nobody trained on."""
    known = [bench.plates[number * len(bench.plates) // 8] for number in range(8)]
    rows = [*([list(pictures[:8])] for pictures in grids.values()), [known]]
    labels = [*grids, "held-out plates of the place"]
    page = contact_sheet(rows, labels, [f"asked for nobody, scale {SCALE:g}"], thumb=96, across=8)
    page.save(file, quality=88)


def captions(bench: Bench) -> None:
    """(e) with and without the words for an empty scene in its captions."""
    arm = ARMS["weighted"]
    bare = replace(bench.scene, captions={k: without_empty_words(v) for k, v in bench.scene.captions.items()})
    asked = [f"{without_empty_words(prompt)}, {SOMEBODY}" for prompt in bench.prompts]
    loras = {
        "with the words": bench.loras("weighted", arm, bench.scene),
        "without them": bench.loras("weighted-bare", arm, bare),
    }
    grids = {
        words: (bench.painted(files, bench.prompts), bench.painted(files, asked, "asked"))
        for words, files in loras.items()
    }
    grids["the base alone"] = (bench.base(bench.prompts, "base"), bench.base(asked, "base-asked"))
    empty = {words: bench.shown(pair[0]) for words, pair in grids.items()}
    peopled = {words: bench.shown(pair[1]) for words, pair in grids.items()}
    rows = [
        [*one, *other[1:3]]
        for one, other in zip(lines(empty, "with the words"), lines(peopled, "with the words"), strict=True)
    ]
    head = ["captions", "somebody, asked for nobody", "more", "likeness", "nearer", "somebody, asked for", "more"]
    write_section(TITLE_CAPTIONS, f"{COMMAND} --only captions", table(head, rows), NOTE_CAPTIONS)


def ranks(bench: Bench) -> None:
    """(e) with rank 128 beside 32."""
    arm = ARMS["weighted"]
    grids, sizes = {}, []
    for rank in RANKS:
        rate = RECIPE.learning_rate * RECIPE.dim / rank
        files = bench.loras(f"rank-{rank}", arm, bench.scene, dim=rank, alpha=0.75 * rank, learning_rate=rate)
        grids[f"rank {rank}"] = bench.painted(files, bench.prompts)
        sizes.append(f"{files[0].stat().st_size / 1e6:.1f}")
    trained = [f"plates/{name}.png" for name in bench.scene.captions]
    known = plates_of(bench.project, trained, len(trained), bench.painter.size, bench.painter)
    copies = [
        interval(figures.bootstrap(np.concatenate([figures.nearest(one, known) for one in pictures])))
        for pictures in grids.values()
    ]
    arms = {words: bench.shown(pictures) for words, pictures in grids.items()}
    found = lines(arms, f"rank {RANKS[0]}")
    rows = [[*row, copy, size] for row, copy, size in zip(found, copies, sizes, strict=True)]
    head = ["trained with", "somebody there", "more", "likeness", "nearer", "nearest training picture", "MB"]
    write_section(TITLE_RANKS, f"{COMMAND} --only ranks", table(head, rows), NOTE_RANKS)


def home_of(work: Path, project: Path, scene: Scene, steps: int, base: str = "mini") -> Path:
    """A folder for what is made of this scene's pictures with this base, trainer, recipe, number of steps and look."""
    made_of = hashlib.sha256(f"{native.identity(TrainSettings(base=base))} {RECIPE} {steps} {LOOK} {scene}".encode())
    for name in scene.captions:
        for home in ("frames", "segmented/masks", "plates", "provenance"):
            made_of.update((project / home / f"{name}.png").read_bytes())
    return (work / f"{Path(base).name}-{made_of.hexdigest()[:12]}").absolute()


def opened(project: Path, name: str, work: Path, steps: int, base: str = "mini") -> Bench:
    """The scene of a project, and the base that is trained on."""
    scene, painter = scene_of(project, name), paint_backend.create(TrainSettings(base=base))
    held_out = [f"plates/{picture}.png" for picture in scene.held_out]
    plates = plates_of(project, held_out, HELD_OUT, painter.size, painter)
    judge = load_judge(asset("mini_judge.safetensors"))
    return Bench(project, scene, home_of(work, project, scene, steps, base), steps, painter, judge, plates, base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--only", default="ways,captions,ranks", help="some of: ways, captions, ranks")
    parser.add_argument("--scene", default="scene-00")
    parser.add_argument("--steps", type=int, default=RECIPE.max_steps)
    parser.add_argument("--work", type=Path, default=Path("purity-work"))
    parser.add_argument("--sheet", type=Path, help="write a picture of the five ways here")
    options = parser.parse_args()
    bench = opened(options.project, options.scene, options.work, options.steps)
    chosen = options.only.split(",")
    if "ways" in chosen:
        ways(bench, options.sheet)
    if "captions" in chosen:
        captions(bench)
    if "ranks" in chosen:
        ranks(bench)


if __name__ == "__main__":
    main()
