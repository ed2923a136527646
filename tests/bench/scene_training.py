"""A scene of a project handed to the trainer in one of several ways, with the recipe of the preset cpu."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bglora.backends.train import native
from bglora.settings.lora import TestSettings, TrainSettings
from bglora.settings.presets import preset_values
from bglora.stages.hyper import recipe_of_settings, recipe_settings
from bglora.training.job import UNTRUSTED, Recipe, TrainJob, TrainPicture

SECONDS = "cpu-seconds.txt"
EMPTY_WORDS = ("no characters", "empty scene")
KEEP_TOKENS = 2


def preset_recipe() -> Recipe:
    """What the preset cpu trains with: nothing is drawn on the way, and its last weights count."""
    settings = TrainSettings(**preset_values("cpu")["train"])
    values = {f"train.{key}": value for key, value in recipe_settings(settings, 0).items()}
    fixed: dict[str, Any] = {"epochs": 1000, "samples": 0, "keep": "last", "threads": 1, "save_precision": "fp32"}
    return replace(recipe_of_settings(values, settings, KEEP_TOKENS), **fixed)


RECIPE = preset_recipe()
LOOK = TestSettings(**preset_values("cpu")["test"])
STEPS, GUIDANCE = LOOK.steps, LOOK.guidance_scale
TRUSTED = RECIPE.provenance_weights
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


ARMS = {
    arm.name: arm
    for arm in (
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
}


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


def held_out_of(root: Path, name: str) -> list[str]:
    """The plates that `caption` kept apart to check the training."""
    rows = [json.loads(line) for line in (root / "datasets/caption.jsonl").read_text("utf-8").splitlines()]
    return next(list(row["remark"]["held_out"]) for row in rows if row["item"] == name and row.get("remark"))


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
            with Image.open(root / "provenance" / f"{name}.png") as palette:  # cv2 would give its colors' brightness
                provenance = np.asarray(palette)
            trust = image.with_suffix(".trust.png")
            cv2.imwrite(str(trust), arm.trust(mask, provenance))
        pictures.append(TrainPicture(name, image, caption, trust))
    return tuple(pictures)


def without_empty_words(caption: str) -> str:
    return ", ".join(tag for tag in (part.strip() for part in caption.split(",")) if tag not in EMPTY_WORDS)


def train(pictures: tuple[TrainPicture, ...], scene: Scene, recipe: Recipe, work: Path, base: str = "mini") -> Path:
    """The LoRA of these pictures; what lies there already is taken as it is. `seconds` tells what it took."""
    file = work / "loras" / f"{scene.name}.safetensors"
    if not file.exists():
        job = TrainJob(
            scene=scene.name,
            title=scene.name,
            trigger=scene.trigger,
            base=base,
            pictures=pictures,
            held_out=(),
            dataset=work,
            repeats=scene.repeats,
            flip=False,
            keep_tokens=KEEP_TOKENS,
            created="",
            recipe=recipe,
        )
        before = time.process_time()
        native.create(None).train(job, Tools(work, work))
        (work / SECONDS).write_text(f"{time.process_time() - before:.1f}\n", "utf-8")
    return file


def seconds(lora: Path) -> float:
    """CPU seconds that `train` took for this LoRA."""
    return float((lora.parents[1] / SECONDS).read_text("utf-8"))
