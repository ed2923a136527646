"""What a training learns from characters left in its pictures: one scene, five ways to hand it over.

    python -m tests.bench.purity PROJECT [--scene scene-02] [--steps 400] [--work FOLDER]

PROJECT is a project of the sample film that has run up to `caption` on `mini`. The same pictures, captions, steps and
seeds are trained (a) on the film's frames as they are, (b) on frames whose holes Telea's method filled, (c) on frames
with the holes left out of the loss, (d) on the plates, (e) on the plates with the loss weighted by provenance. Pictures
of each LoRA, asked for an empty scene, are looked over by the small judge that comes with `mini`.

What is done stays in WORK and isn't done again: LoRAs and pictures by arm and training seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
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
from bglora.training.job import UNTRUSTED, Recipe, TrainJob, TrainPicture
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.purity PROJECT"
TITLE = "Five ways to hand a scene over"
TRAINING_SEEDS = (1, 2, 3)
PICTURES = 40
SCALE, STEPS, GUIDANCE = 0.7, 16, 4.0
HELD_OUT = 24
RECIPE = Recipe(
    resolution=128,
    bucket_step=32,
    dim=8,
    alpha=6.0,
    learning_rate=5e-3,
    batch_size=4,
    accumulation=1,
    epochs=1000,
    samples=0,
    keep="last",
    threads=2,
    save_precision="fp32",
)
NOTE = """One scene of the sample film, the same pictures, captions (with the empty-scene words), steps and noise for
every row; three training seeds, 40 pictures each at scale 0.7, prompts that ask for nobody. Somebody there: by the
small judge of mini, with Wilson's interval; likeness: cosine to the most alike of 24 plates that nobody trained on.
Differences are paired by training seed and noise, with the bootstrap's 95 % interval: one that includes 0 is
unclear."""
TRUSTED = (1.0, 1.0, 0.3, 0.0)
"""Loss weights by provenance, as the product sets them."""


@dataclass(frozen=True)
class Arm:
    """A way to hand a scene to the trainer.

    Attributes:
        picture: frame, mask (bool, where somebody or their shade is) and plate to what is trained, uint8 (H, W, 3).
        trust: mask and provenance to the provenance that weighs the loss; None: all pixels count.
    """

    name: str
    words: str
    picture: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    trust: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def telea(frame: np.ndarray, mask: np.ndarray, plate: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.inpaint(frame, mask.astype(np.uint8), 5, cv2.INPAINT_TELEA))


ARMS = (
    Arm("frames", "(a) frames, characters and all", lambda frame, mask, plate: frame),
    Arm("telea", "(b) holes filled by Telea", telea),
    Arm(
        "left-out",
        "(c) holes left out of the loss",
        lambda frame, mask, plate: frame,
        lambda mask, provenance: np.where(mask, UNTRUSTED, 0).astype(np.uint8),
    ),
    Arm("plates", "(d) plates", lambda frame, mask, plate: plate),
    Arm(
        "weighted",
        "(e) plates, loss by provenance",
        lambda frame, mask, plate: plate,
        lambda mask, provenance: provenance,
    ),
)


@dataclass(frozen=True)
class Scene:
    """A scene's trained pictures with their captions, and plates of it that nobody trains on."""

    name: str
    trigger: str
    captions: Mapping[str, str]
    held_out: Sequence[str]
    repeats: int


@dataclass(frozen=True)
class Tools:
    """What a training backend needs of the engine."""

    root: Path
    scratch: Path

    def progress(self, done: float, total: float, text: str) -> None:
        """Nobody looks."""

    def stopping(self) -> bool:
        return False


def scene_of(root: Path, name: str) -> Scene:
    """The scene as `caption` left it; its plates that stayed out of the dataset are the held-out ones."""
    rows = [json.loads(line) for line in (root / "datasets/caption.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["item"] == name]
    captions = {}
    for row in rows:
        for path in row["outputs"]:
            if path.endswith(".txt"):
                captions[row["picture"]] = (root / path).read_text("utf-8").strip()
    about = next(row["remark"] for row in rows if row.get("remark"))
    held_out = [row["picture"] for row in rows if row["picture"] not in captions]
    return Scene(name, about["trigger"], captions, held_out, int(about["repeats"]))


def write_pictures(root: Path, scene: Scene, arm: Arm, folder: Path) -> tuple[TrainPicture, ...]:
    """The scene's pictures as an arm hands them over."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for name, caption in scene.captions.items():
        frame, plate = (cv2.imread(str(root / home / f"{name}.png")) for home in ("frames", "plates"))
        mask = cv2.imread(str(root / "segmented/masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE) > 0
        image, trust = folder / f"{name.replace('/', '_')}.png", None
        cv2.imwrite(str(image), arm.picture(frame, mask, plate))
        if arm.trust is not None:
            provenance = cv2.imread(str(root / "provenance" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
            trust = image.with_suffix(".trust.png")
            cv2.imwrite(str(trust), arm.trust(mask, provenance))
        pictures.append(TrainPicture(name, image, caption, trust))
    return tuple(pictures)


def train(pictures: tuple[TrainPicture, ...], scene: Scene, recipe: Recipe, work: Path) -> Path:
    """The LoRA of these pictures; what lies there already is taken as it is."""
    file = work / "loras" / f"{scene.name}.safetensors"
    if not file.exists():
        job = TrainJob(
            scene=scene.name,
            title=scene.name,
            trigger=scene.trigger,
            base="mini",
            pictures=pictures,
            held_out=(),
            dataset=work,
            repeats=scene.repeats,
            flip=False,
            keep_tokens=2,
            created="",
            recipe=recipe,
        )
        native.create(None).train(job, Tools(work, work))
    return file


def paint(painter: Painter, lora: Path | None, prompts: Sequence[str], file: Path) -> np.ndarray:
    """uint8 (PICTURES, S, S, 3) of empty prompts, the same noise for every LoRA; None: the base alone."""
    if file.exists():
        return np.asarray(np.load(file)["pictures"])
    asked = [prompts[number % len(prompts)] for number in range(PICTURES)]
    adapters = [(lora, SCALE)] if lora else []
    size = (painter.size, painter.size)
    pictures = np.stack(painter.paint(asked, "", range(PICTURES), size, STEPS, GUIDANCE, adapters))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, pictures=pictures)
    return pictures


@dataclass(frozen=True)
class Shown:
    """What one arm's pictures show, one row a training seed: somebody is there, likeness to plates; (seeds, n)."""

    somebody: np.ndarray
    likeness: np.ndarray


def shown(pictures: Sequence[np.ndarray], plates: np.ndarray, judge: StillJudge) -> Shown:
    embed = descriptor.create(None)
    found, alike = [], []
    for one in pictures:
        vectors = embed.embed([*one, *plates])
        found.append(judge.judge(list(one)).character > 0.5)
        alike.append((vectors[: len(one)] @ vectors[len(one) :].T).max(axis=1))
    return Shown(np.stack(found), np.stack(alike))


def lines(arms: Mapping[str, Shown]) -> list[list[str]]:
    """A table row for each arm; differences to the plates are paired by training seed and noise."""
    plates, rows = arms["(d) plates"], []
    for words, one in arms.items():
        rate = figures.wilson(int(one.somebody.sum()), one.somebody.size)
        more = figures.bootstrap(one.somebody.astype(float).ravel() - plates.somebody.ravel())
        alike, nearer = figures.bootstrap(one.likeness), figures.bootstrap((one.likeness - plates.likeness).ravel())
        rows.append([words, *(_interval(value) for value in (rate, more, alike, nearer))])
    return rows


def _interval(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--scene", default="scene-02")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("purity-work"))
    options = parser.parse_args()
    scene, judge = scene_of(options.project, options.scene), load_judge(asset("mini_judge.safetensors"))
    loras: dict[str, list[Path]] = {}
    for arm in ARMS:
        pictures = write_pictures(options.project, scene, arm, options.work / arm.name / "pictures")
        weights = TRUSTED if arm.trust else None
        for seed in TRAINING_SEEDS:
            recipe = replace(RECIPE, max_steps=options.steps, seed=seed, provenance_weights=weights)
            home = options.work / arm.name / f"seed-{seed}"
            loras.setdefault(arm.words, []).append(train(pictures, scene, recipe, home))
    painter = paint_backend.create(TrainSettings())
    plates = plates_of(
        options.project, [f"plates/{name}.png" for name in scene.held_out], HELD_OUT, painter.size, painter
    )
    prompts = sorted(set(scene.captions.values()))
    grids = {
        words: [paint(painter, file, prompts, file.parent.parent / "pictures.npz") for file in files]
        for words, files in loras.items()
    }
    base = paint(painter, None, prompts, options.work / "base.npz")
    arms = {words: shown(pictures, plates, judge) for words, pictures in grids.items()}
    arms["the base alone"] = shown([base] * len(TRAINING_SEEDS), plates, judge)
    head = ["trained on", "somebody there", "more than (d)", "likeness", "nearer than (d)"]
    write_section(TITLE, COMMAND, table(head, lines(arms)), NOTE)
    rows = [[list(pictures[0][:8])] for pictures in grids.values()]
    contact_sheet(rows, list(grids), [f"scale {SCALE}"], thumb=128).save(options.work / "purity.webp", quality=90)


if __name__ == "__main__":
    main()
