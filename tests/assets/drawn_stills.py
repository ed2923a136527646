"""Stills to train on, drawn in a moment: places of plain colors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def draw_stills(folder: Path, places: int = 8) -> Path:
    """Places of plain colors, each without and with a red square for a character."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    lines = []
    for place in range(places):
        ground = np.broadcast_to(rng.integers(40, 200, 3), (256, 256, 3)).copy()
        ground[128:] = rng.integers(40, 200, 3)
        ground += rng.integers(-9, 10, ground.shape)
        for letter, character in (("a", None), ("d", "a grey dog")):
            name = f"beach-01-{place:04d}-1{letter}.png"
            if character:
                ground[160:220, 60:110] = (250, 20, 20)
            Image.fromarray(ground.clip(0, 255).astype(np.uint8)).save(folder / name)
            caption = "3d animated background, beach, sand and sea, warm sunlight, no characters, empty scene"
            lines.append(
                {
                    "file": name,
                    "place": "beach",
                    "has_character": character is not None,
                    "character": character,
                    "lighting": "warm sunlight",
                    "pair": name[:-5],
                    "caption": f"3d animated scene, {character} on a beach, warm sunlight" if character else caption,
                }
            )
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return folder
