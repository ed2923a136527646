"""Drawn places, and a project whose plates are pictures laid ready: everything after `inpaint` runs on it for real."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bglora.decisions import Decisions
from bglora.engine.runner import Runner, RunRequest, RunResult
from bglora.engine.stage import Item, Outcome, Stage, Tools, View
from bglora.film.png import write_png
from bglora.settings import Settings
from bglora.stages.caption import Caption
from bglora.stages.cluster import Cluster

SIZE = (144, 256)
HUES = (0, 30, 60, 85, 110, 130, 150, 165)


def place(number: int, view: int, shift: int = 0) -> np.ndarray:
    """A drawn place, uint8 RGB (144, 256, 3): its own colors and things; `view` is the camera, `shift` its travel."""
    rng = np.random.default_rng(number)
    hue = HUES[number % len(HUES)]
    wide = np.zeros((SIZE[0], SIZE[1] * 2, 3), np.uint8)
    wide[:] = (hue, 90, 200)
    wide[SIZE[0] // 2 :] = ((hue + 12) % 180, 150, 120)
    for _ in range(60):
        at, size = rng.integers(0, (wide.shape[1], wide.shape[0])), rng.integers(8, 40, 2)
        color = [int((hue + rng.integers(-8, 9)) % 180), int(rng.integers(120, 255)), int(rng.integers(40, 250))]
        cv2.rectangle(wide, at.tolist(), (at + size).tolist(), color, -1)
    rgb = cv2.cvtColor(wide, cv2.COLOR_HSV2RGB)
    left = (60 * view + shift) % SIZE[1]
    return np.ascontiguousarray(rgb[:, left : left + SIZE[1]])


class Laid(Stage):
    """Stands for `inpaint`: plates that lie in `laid/<shot>/<frame>.png`, with shares in `laid/shares.json`."""

    name, home = "inpaint", "plates"

    def items(self, view: View) -> Iterable[Item]:
        shares = json.loads((view.root / "laid/shares.json").read_text("utf-8"))
        for shot in sorted(path for path in (view.root / "laid").iterdir() if path.is_dir()):
            names = sorted(file.stem for file in shot.glob("*.png"))
            pictures = tuple(f"{shot.name}/{name}" for name in names)
            files = tuple(f"laid/{picture}.png" for picture in pictures)
            yield Item(shot.name, pictures, files, payload={"shares": {p: shares.get(p, {}) for p in pictures}})

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        for picture, file in zip(item.pictures, item.files, strict=True):
            plate, origin = f"plates/{picture}.png", f"provenance/{picture}.png"
            data = (tools.root / file).read_bytes()
            (tools.scratch / plate).parent.mkdir(parents=True, exist_ok=True)
            (tools.scratch / plate).write_bytes(data)
            share = item.payload["shares"][picture]
            size = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
            provenance = np.zeros(size, np.uint8)
            provenance[: round(share.get("guessed", 0) * size[0])] = 2
            write_png(tools.scratch / origin, provenance)
            yield Outcome(picture, outputs=(plate, origin), record={"guessed": 0.0, "untrusted": 0.0, **share})


def lay(root: Path, plates: Mapping[str, np.ndarray], shares: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Lays pictures by name (`film-s000/000000`) ready, beside those that are there."""
    for name, picture in plates.items():
        write_png(root / "laid" / f"{name}.png", picture)
    (root / "laid").mkdir(parents=True, exist_ok=True)
    (root / "laid/shares.json").write_text(json.dumps(shares or {}), "utf-8")


def film(places: int, shots: int = 2, plates: int = 3, name: str = "film") -> dict[str, np.ndarray]:
    """A film of drawn places, `shots` of each in a row."""
    return {
        f"{name}-s{at * shots + shot:03d}/{frame:06d}": place(at, shot, 4 * frame)
        for at in range(places)
        for shot in range(shots)
        for frame in range(plates)
    }


def runner(root: Path, **changes: Any) -> Runner:
    """The engine over the laid plates, `cluster` and `caption`. `changes`: table to its changed values."""
    settings = Settings()
    tables = {name: getattr(settings, name).model_copy(update=values) for name, values in changes.items()}
    stages = (Laid(), Cluster(), Caption())
    return Runner(root, stages, settings.model_copy(update=tables), Decisions.load(root), jobs=1)


def run(root: Path, *stages: str, **changes: Any) -> RunResult:
    return runner(root, **changes).run(RunRequest(stages=stages))


def scenes(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "scenes/scenes.json").read_text("utf-8"))
    return content


def records(root: Path, path: str) -> dict[str, dict[str, Any]]:
    """The rows of a records file, by picture."""
    rows = [json.loads(line) for line in (root / path).read_text("utf-8").splitlines()]
    return {row["picture"]: row for row in rows if "picture" in row}
