"""What a training learns from characters left in its pictures: one scene, five ways to hand it over.

    python -m tests.bench.purity PROJECT [--scene scene-02] [--steps 400] [--seeds 3] [--only frames,plates]

PROJECT is a project of the sample film that has run up to `caption` on `mini`. The same pictures, captions, steps and
seeds are trained (a) on the film's frames as they are, (b) on frames whose holes Telea's method filled, (c) on frames
with the holes left out of the loss, (d) on the plates, (e) on the plates with the loss weighted by provenance. Pictures
of each LoRA, asked for an empty scene, are looked over by the small judge that comes with `mini`.

What is done stays in WORK (--work) and isn't done again: LoRAs by their arm and seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bglora.backends.train import native
from bglora.training.job import UNTRUSTED, Recipe, TrainJob, TrainPicture

COMMAND = "python -m tests.bench.purity PROJECT"
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
