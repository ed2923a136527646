"""A long film as the stages leave it: ten thousand plates in twenty scenes, and a tested LoRA, written into the ledger.

Every picture is the same small file by another name, so that making it takes a moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
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
    with ledger.transaction():
        for number in range(SHOTS):
            shot = f"film-s{number:03d}"
            names = [f"{shot}/{number * FRAMES + frame:06d}" for frame in range(FRAMES)]
            _put(root, ledger, "ingest", shot, names, "frames", {"size": [HEIGHT, WIDTH]})
            _put(root, ledger, "segment", shot, names, "segmented/masks", {"object": 0.05})
            _put(root, ledger, "inpaint", shot, names, "plates", {"guessed": 0.01, "recovered": 0.04})
        _sort(ledger)
        _test(root, ledger)
    ledger.close()
    return root


def plate(number: int) -> str:
    """The id of a plate by its place in the film."""
    return f"film-s{number // FRAMES:03d}/{number:06d}"


def _put(root: Path, ledger: Ledger, stage: str, item: str, names: Sequence[str], folder: str, record: Any) -> None:
    source = root / ("mask.png" if folder.endswith("masks") else "picture.png")
    (root / folder / item).mkdir(parents=True, exist_ok=True)
    paths = [f"{folder}/{name}.png" for name in names]
    for path in paths:
        os.link(source, root / path)
    told = json.dumps(record)
    rows: list[PictureRow] = [(name, item, "made", "", path, told) for name, path in zip(names, paths, strict=True)]
    ledger.put_item(stage, _item(root, item, paths, len(names)), rows)


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


def _test(root: Path, ledger: Ledger) -> None:
    home = "grids/scene-00"
    (root / home).mkdir(parents=True)
    (root / "loras").mkdir(exist_ok=True)
    lora = "loras/scene-00.safetensors"
    (root / lora).write_bytes(b"no weights")
    ledger.put_item("train", _item(root, "scene-00", [lora], 1), [("scene-00", "scene-00", "made", "", lora, "{}")])
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
    ledger.put_item("test", _item(root, "scene-00", paths, 1), [row])
