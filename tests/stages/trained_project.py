"""A project with two small scenes after `caption`, and a view of it, for the stages that come then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bglora.engine.stage import Item, Outcome, Row, Stage
from bglora.engine.tools import ItemTools, seed_of
from bglora.settings import Settings

FAST = {
    "project": {"name": "film", "created": "2026-01-02"},
    "train": {
        "resolution": 64,
        "bucket_step": 32,
        "dim": 4,
        "alpha": 3.0,
        "learning_rate": 1e-2,
        "batch_size": 2,
        "accumulation": 1,
        "epochs_small": 1,
        "samples": 0,
        "threads": 1,
        "save_precision": "fp32",
    },
    "test": {"scales": [0.0, 1.0], "seeds": 2, "steps": 2, "guidance_scale": 2.0},
    "compose": {"pictures": 2, "steps": 3, "guidance_scale": 2.0},
}
CAPTION = "filmtown, background, a town, wooden houses, warm light, calm, no characters, empty scene"


@dataclass
class ProjectView:
    """The rows that earlier stages left, held in memory."""

    root: Path
    settings: Settings
    stages: dict[str, list[Row]] = field(default_factory=dict)
    remarks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    decisions: Any = None
    limit: int | None = None

    def rows(self, stage: str) -> list[Row]:
        return sorted(self.stages.get(stage, []), key=lambda row: row.picture)

    def item_record(self, stage: str, item: str) -> dict[str, Any]:
        return self.remarks.get((stage, item), {})


def settings(**tables: dict[str, Any]) -> Settings:
    merged = {name: {**values, **tables.get(name, {})} for name, values in FAST.items()}
    if "base" not in merged["train"]:
        from tests.training.tiny_base import tiny_base

        merged["train"]["base"] = str(tiny_base())
    return Settings(**{**tables, **merged})


def project(root: Path, *, plates: int = 7, held_out: int = 1, **tables: dict[str, Any]) -> ProjectView:
    """Scene scene-00 with so many plates, the last ones held out; smooth pictures of 96 x 54."""
    view = ProjectView(root, settings(**tables))
    scene, rows, dataset = "scene-00", [], []
    for number in range(plates):
        name = f"film-s000/{number:06d}"
        rng = np.random.default_rng(number)
        picture = Image.fromarray(rng.integers(0, 255, (6, 10, 3), dtype=np.uint8)).resize((96, 54))
        plate, trust = f"plates/{name}.png", f"provenance/{name}.png"
        image = f"datasets/{scene}/2_filmtown/film-s000_{number:06d}.png"
        for path in (plate, trust, image):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / plate)
        Image.fromarray(np.full((54, 96), 1, np.uint8)).save(root / trust)
        rows.append(Row(f"film-s{0:03d}", name, "made", "", (plate, trust), {}))
        fields = {"lighting": "warm light"}
        if number >= plates - held_out:
            record = {"caption": CAPTION, "held_out": True, "fields": fields}
            dataset.append(Row(scene, name, "dropped", "held out for validation", (), record))
            continue
        picture.save(root / image)
        text = Path(image).with_suffix(".txt").as_posix()
        (root / text).write_text(CAPTION + "\n", "utf-8")
        dataset.append(Row(scene, name, "made", "", (image, text), {"fields": fields, "trigger": "filmtown"}))
    view.stages = {"inpaint": rows, "caption": dataset}
    view.remarks[("caption", scene)] = {"trigger": "filmtown", "repeats": 2, "flip": True, "keep_tokens": 2}
    view.remarks[("cluster", "all")] = {"scenes": [{"id": scene, "title": "Old town"}]}
    return view


def make(stage: Stage, item: Item, view: ProjectView, scratch: Path, stop: Any = lambda: False) -> list[Outcome]:
    """Makes an item as the engine does."""
    tools = ItemTools(
        view.root, scratch, view.settings, seed_of("film", stage.name, item.name), item.name, _unheard, stop, {}
    )
    scratch.mkdir(parents=True, exist_ok=True)
    return list(stage.make(item, tools))


def take_in(view: ProjectView, stage: str, outcomes: Iterable[Outcome], scratch: Path, item: str) -> None:
    """Moves outputs into the project and records them."""
    rows = []
    for outcome in outcomes:
        for path in outcome.outputs:
            target = view.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (scratch / path).replace(target)
        rows.append(Row(item, outcome.picture, outcome.status, outcome.reason, outcome.outputs, dict(outcome.record)))
    view.stages[stage] = rows


def trained(root: Path, scratch: Path, **changes: Any) -> ProjectView:
    """The project after `train`."""
    from bglora.stages.train import Train

    view = project(root, **changes)
    stage = Train()
    (item,) = stage.items(view)
    take_in(view, "train", make(stage, item, view, scratch), scratch, item.name)
    return view


def with_lora(root: Path, **changes: Any) -> ProjectView:
    """The project after `train`, with a LoRA of random weights: nothing is trained for it."""
    from tests.backends.random_lora import write_lora

    view = project(root, **changes)
    path = "loras/scene-00.safetensors"
    (root / path).parent.mkdir()
    write_lora(root / path, 3, trigger="filmtown")
    view.stages["train"] = [Row("scene-00", "scene-00", "made", "", (path,), {})]
    return view


def _unheard(item: str, done: float, total: float, text: str) -> None:
    """Progress that nobody looks at."""
