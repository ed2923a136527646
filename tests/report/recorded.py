"""A small project as the stages leave it: tiny pictures on disk, rows in memory, names that want to break the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bglora.engine.stage import Row
from bglora.engine.status import StageStatus
from bglora.settings import Settings

EVIL = "<script>alert(1)</script> 漢字 \"'&"
STAGES = ("ingest", "segment", "inpaint", "cluster", "caption", "train", "test", "compose")


def status_of(name: str, rows: list[Row]) -> StageStatus:
    """The status of a stage that made, dropped or failed these rows and has nothing more to do."""
    by = Counter(row.status for row in rows)
    why = {kind: Counter(row.reason for row in rows if row.status == kind) for kind in ("failed", "dropped")}
    return StageStatus(
        name,
        made=by["made"],
        todo=0,
        failed=by["failed"],
        dropped=by["dropped"],
        items=0,
        reasons={},
        failures=why["failed"],
        drops=why["dropped"],
        edited=(),
        orphans=(),
        seconds_spent=1.5 if rows else 0.0,
        seconds_left=None,
    )


class NoDecisions:
    def renames(self) -> dict[str, str]:
        return {}


@dataclass
class RecordedView:
    """A `View` whose rows stand in tables."""

    root: Path
    settings: Settings
    decisions: NoDecisions = field(default_factory=NoDecisions)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    remarks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def rows(self, stage: str) -> list[Row]:
        return sorted(self.tables.get(stage, []), key=lambda row: row.picture)

    def item_record(self, stage: str, item: str) -> Mapping[str, Any]:
        return self.remarks.get((stage, item), {})

    def status(self) -> list[StageStatus]:
        return [status_of(name, self.tables.get(name, [])) for name in STAGES]


def landscape(seed: int, size: tuple[int, int] = (180, 320)) -> np.ndarray:
    """A sky, hills and a sun: something to look at, (H, W, 3) uint8."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    sky = rng.uniform(90, 220, 3) * (1 - 0.5 * y / height)[..., None] + 20
    sun = np.exp(-(((x - rng.uniform(0.2, 0.8) * width) ** 2 + (y - 0.25 * height) ** 2) / 400))[..., None]
    picture = sky + sun * 120
    for layer in range(3):
        ridge = height * (0.5 + 0.15 * layer) + 14 * np.sin(x / width * rng.uniform(4, 12) + rng.uniform(0, 6))
        picture = np.where((y > ridge)[..., None], rng.uniform(20, 140, 3) * (0.9 - 0.2 * layer), picture)
    return picture.clip(0, 255).astype(np.uint8)


def full_project(root: Path) -> RecordedView:
    """Two sources, three shots, two places, one dropped plate, one failed frame, every stage done."""
    settings = Settings(project={"name": EVIL})  # type: ignore[arg-type]
    view = RecordedView(root, settings)
    shots = {"harbor-s000": 5, "harbor-s001": 6, "x-0a1b2c-s000": 4}
    for number, (shot, frames) in enumerate(shots.items()):
        for frame in range(frames):
            _frame(view, shot, frame, number)
    for source in ("harbor", "x-0a1b2c"):
        view.remarks["ingest", source] = {
            "titles": EVIL,
            "shots": [
                {
                    "name": shot,
                    "source": source,
                    "first": 0,
                    "last": 23,
                    "left_out": [{"first": 0, "last": 3, "why": "fade"}],
                }
                for shot in shots
                if shot.startswith(source)
            ],
        }
    for shot, camera in zip(shots, ("still", "pan", "unknown"), strict=True):
        view.remarks["segment", shot] = {
            "camera": camera,
            "unknown": EVIL if camera == "unknown" else "",
            "shift_px": 0.1,
        }
    view.tables["ingest"].append(
        Row("x-0a1b2c", "", "failed", f"{EVIL} ends in the middle\nx.mp4\ncopy it again", (), {})
    )
    _drop_one(view)
    _scenes(view, {"scene-00": ("Harbor town", ["harbor-s000", "harbor-s001"]), "scene-01": (EVIL, ["x-0a1b2c-s000"])})
    return view


def _save(root: Path, name: str, array: np.ndarray, palette: bool = False) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette:
        picture = Image.fromarray(array, "P")
        picture.putpalette([0, 0, 0, 0, 200, 0, 250, 160, 0, 220, 0, 80] + [0] * (768 - 12))
    picture.save(path)
    return name


def _frame(view: RecordedView, shot: str, frame: int, number: int) -> None:
    picture = f"{shot}/{frame:06d}"
    source = shot.rpartition("-")[0]
    plate = landscape(number)
    mask = np.zeros(plate.shape[:2], np.uint8)
    left = 40 + 30 * frame
    mask[150:160, left - 6 : left + 40] = 128
    mask[70:152, left : left + 28] = 255
    shown = plate.copy()
    shown[mask == 255] = (200, 60, 50)
    shown[mask == 128] //= 2
    origin = np.where(mask > 0, 1, 0).astype(np.uint8)
    origin[120:152, left : left + 14] = 2
    origin[150:156, left : left + 9] = 3
    tables = view.tables
    frame_row = {"shot": shot, "frame": frame, "time": frame / 24, "size": [180, 320], "blur": 120.0}
    outputs = (_save(view.root, f"frames/{picture}.png", shown),)
    tables.setdefault("ingest", []).append(Row(source, picture, "made", "", outputs, frame_row))
    outputs = (_save(view.root, f"segmented/masks/{picture}.png", mask),)
    record: dict[str, Any] = {"object": 0.04, "effect": 0.008, "tracks": [1]}
    tables.setdefault("segment", []).append(Row(shot, picture, "made", "", outputs, record))
    outputs = (
        _save(view.root, f"plates/{picture}.png", plate),
        _save(view.root, f"provenance/{picture}.png", origin, palette=True),
    )
    record = {
        "engine": "patch",
        "hole": 0.05,
        "recovered": 0.04,
        "guessed": 0.009,
        "untrusted": 0.001,
        "natural": False,
    }
    tables.setdefault("inpaint", []).append(Row(shot, picture, "made", "", outputs, record))


def _drop_one(view: RecordedView) -> None:
    rows = view.tables["inpaint"]
    rows[-1] = Row(
        rows[-1].item, rows[-1].picture, "dropped", f"more than half is guessed {EVIL}", (), {"guessed": 0.6}
    )


def _scenes(view: RecordedView, scenes: dict[str, tuple[str, list[str]]]) -> None:
    plates = [row for row in view.tables["inpaint"] if row.status == "made"]
    found = []
    for number, (scene, (title, shots)) in enumerate(scenes.items()):
        members = [row.picture for row in plates if row.item in shots]
        found.append({"id": scene, "title": title, "plates": members})
        for picture in members:
            view.tables.setdefault("cluster", []).append(Row("all", picture, "made", "", (), {"scene": scene}))
            caption = f"town_{number}, background, quay {picture[-1]}, {EVIL}, no characters, empty scene"
            record: dict[str, Any] = {"caption": caption, "scene": scene}
            view.tables.setdefault("caption", []).append(Row(scene, picture, "made", "", (), record))
        view.remarks["caption", scene] = {"trigger": f"town_{number}", "repeats": 5, "flip": False, "held_out": []}
        _made_of(view, scene, number)
    view.remarks["cluster", "all"] = {"scenes": found, "noise": [], "notice": f"few plates {EVIL}"}


def _made_of(view: RecordedView, scene: str, number: int) -> None:
    rng = np.random.default_rng(number)
    curve = [
        [step, 0.12 * np.exp(-step / 60) + 0.05 + 0.01 * rng.standard_normal(), 0.06 if step % 40 == 0 else None, 1e-4]
        for step in range(1, 161)
    ]
    lora = f"loras/{scene}.safetensors"
    (view.root / "loras").mkdir(exist_ok=True)
    (view.root / lora).write_bytes(b"0" * 1000)
    sample = _save(view.root, f"loras/{scene}/samples/000160.png", landscape(number, (128, 128)))
    record = {"trigger": f"town_{number}", "base": "mini", "dim": 8, "alpha": 6, "steps": 160, "pictures_seen": 320}
    record |= {"curve": curve, "validation": 0.061, "kept_step": 120}
    notes = view.root / ".bglora/logs/train" / scene / "1/steps.jsonl"
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.write_text("".join(json.dumps({"step": step, "seconds": 0.052}) + "\n" for step in (40, 80, 160)))
    view.tables.setdefault("train", []).append(Row(scene, scene, "made", "", (lora, sample), record))
    grid = _save(view.root, f"grids/{scene}/grid.png", landscape(5, (128, 1024)))
    cells = [
        _save(view.root, f"grids/{scene}/prompt{p}-scale{scale:03d}-seed{seed}.png", landscape(p + seed, (64, 64)))
        for p in range(2)
        for scale in (0, 50, 100)
        for seed in range(2)
    ]
    (view.root / f"grids/{scene}/scores.json").write_text(json.dumps({"prompts": [EVIL, "a quay"]}), encoding="utf-8")
    likeness = {"mean": 0.312, "low": 0.25, "high": 0.401}
    cure = f"bglora compose --set compose.background_scale=1.0 {EVIL}"
    verdict = {"word": "too weak" if number else "good", "cure": cure, "figures": {"likeness": likeness}}
    record = {"verdict": [verdict], "recommended_scale": 0.7, "grid": grid}
    view.tables.setdefault("test", []).append(Row(scene, scene, "made", "", (grid, *cells), record))
    picture = _save(view.root, f"compositions/{scene}-0.png", landscape(number + 9, (256, 384)))
    record = {"prompt": f"a fisherman {EVIL}", "loras": [{"file": "fisher.safetensors", "scale": 1.0}], "seed": 4}
    view.tables.setdefault("compose", []).append(Row(scene, f"{scene}-0", "made", "", (picture,), record))
