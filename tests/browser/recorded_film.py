"""What stages leave, written into the ledger: a long film of ten thousand plates in twenty scenes, and a tested LoRA.

Every picture is the same small file by another name, so that making it takes a moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bglora
from bglora.engine.ledger import ItemRow, Ledger, PictureRow
from bglora.film.png import write_png

SHOTS, FRAMES, SCENES = 100, 100, 20
HEIGHT, WIDTH = 36, 64
SCALES = (0, 50, 70, 100)


def long_film(root: Path) -> Path:
    """Writes the project and returns its folder."""
    bglora.init(root, films=())
    picture = np.random.default_rng(1).integers(60, 200, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.uint8)
    write_png(root / "picture.png", picture.repeat(4, axis=0).repeat(4, axis=1))
    write_png(root / "mask.png", np.pad(np.full((16, 8), 255, np.uint8), ((10, 10), (20, 36))))
    ledger = Ledger(root / ".bglora" / "ledger.sqlite")
    shots = {
        f"film-s{number:03d}": [plate(number * FRAMES + frame) for frame in range(FRAMES)] for number in range(SHOTS)
    }
    with ledger.transaction():
        _ingest(root, ledger, shots)
        for shot, names in shots.items():
            _put(root, ledger, "segment", shot, "segmented/masks", {name: {"object": 0.05} for name in names})
            _put(
                root, ledger, "inpaint", shot, "plates", {name: {"guessed": 0.01, "recovered": 0.04} for name in names}
            )
        _sort(ledger)
    ledger.close()
    return root


def record_lora(root: Path) -> None:
    """Adds a trained and tested LoRA of scene-00 to a project: a grid of two prompts, four scales and two seeds."""
    write_png(root / "picture.png", np.random.default_rng(1).integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    home = "grids/scene-00"
    (root / home).mkdir(parents=True)
    (root / "loras").mkdir(exist_ok=True)
    lora = "loras/scene-00.safetensors"
    (root / lora).write_bytes(b"no weights")
    ledger = Ledger(root / ".bglora" / "ledger.sqlite")
    train_row: PictureRow = ("scene-00", "scene-00", "made", "", lora, "{}")
    paths = [f"{home}/prompt{p}-scale{scale}-seed{seed}.png" for p in (0, 1) for scale in SCALES for seed in (0, 1)]
    for path in paths:
        os.link(root / "picture.png", root / path)
    told = {"prompts": ["the place, at night", "the place, in snow"]}
    (root / home / "scores.json").write_text(json.dumps(told), encoding="utf-8")
    record = {
        "recommended_scale": 0.7,
        "recommended_lora": lora,
        "verdict": [{"word": "good", "cure": "Use it at scale 0.7."}],
        "grid": paths[0],
    }
    row: PictureRow = ("scene-00", "scene-00", "made", "", "\n".join(paths), json.dumps(record))
    with ledger.transaction():
        ledger.put_item("train", _item(root, "scene-00", [lora], 1), [train_row])
        ledger.put_item("test", _item(root, "scene-00", paths, 1), [row])
    ledger.close()


def plate(number: int) -> str:
    """The id of a plate by its place in the film."""
    return f"film-s{number // FRAMES:03d}/{number:06d}"


def _ingest(root: Path, ledger: Ledger, shots: Mapping[str, Sequence[str]]) -> None:
    records = {
        name: {"shot": shot, "frame": int(name[-6:]), "time": int(name[-6:]) / 24, "size": [HEIGHT, WIDTH]}
        for shot, names in shots.items()
        for name in names
    }
    told = [
        {"name": shot, "first": int(names[0][-6:]), "last": int(names[-1][-6:]), "left_out": []}
        for shot, names in shots.items()
    ]
    _put(root, ledger, "ingest", "film", "frames", records, json.dumps({"shots": told}))


def _put(
    root: Path, ledger: Ledger, stage: str, item: str, folder: str, records: Mapping[str, Any], remark: str = ""
) -> None:
    source = root / ("mask.png" if folder.endswith("masks") else "picture.png")
    paths = [f"{folder}/{name}.png" for name in records]
    for home in {(root / path).parent for path in paths}:
        home.mkdir(parents=True, exist_ok=True)
    for path in paths:
        os.link(source, root / path)
    rows: list[PictureRow] = [
        (name, item, "made", "", path, json.dumps(record))
        for (name, record), path in zip(records.items(), paths, strict=True)
    ]
    ledger.put_item(stage, _item(root, item, paths, len(rows), remark), rows)


def _item(root: Path, item: str, paths: Sequence[str], made: int, remark: str = "") -> ItemRow:
    lines = []
    for path in paths:
        found = (root / path).stat()
        lines.append(f"{path}\t{0:032x}\t{found.st_size}\t{found.st_mtime_ns}")
    return ItemRow(item, "", "", "", "\n".join(lines), remark, "", 1.0, 0, made, 0, 0)


def _scenes() -> Iterator[dict[str, Any]]:
    each = SHOTS // SCENES * FRAMES
    for number in range(SCENES):
        plates = [plate(index) for index in range(number * each, (number + 1) * each)]
        yield {"id": f"scene-{number:02d}", "title": f"film {number + 1}", "plates": plates}


def _sort(ledger: Ledger) -> None:
    scenes = list(_scenes())
    rows: list[PictureRow] = [
        (name, "all", "made", "", "", json.dumps({"scene": scene["id"]}))
        for scene in scenes
        for name in scene["plates"]
    ]
    remark = json.dumps({"next": SCENES, "noise": [], "scenes": scenes})
    ledger.put_item("cluster", _item(Path(), "all", (), len(rows), remark), rows)
