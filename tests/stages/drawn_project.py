"""Projects on drawn shots, run by the real engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bglora
from bglora.film.png import write_png
from bglora.project import Project

EVERYTHING = (
    "ingest.fps=0",
    "ingest.max_per_shot=0",
    "ingest.crop_bars=false",
    "inpaint.psnr_db=15",
    "inpaint.ssim=0.7",
)
"""All frames are kept, so that the shot's truth holds frame by frame."""


def folder_of(frames: Sequence[np.ndarray], folder: Path) -> Path:
    """Writes frames as a folder of pictures, 0000.png and so on."""
    for k, frame in enumerate(frames):
        write_png(folder / f"{k:04d}.png", frame)
    return folder


def project_of(
    tmp_path: Path, frames: Sequence[np.ndarray], *given: str, layers: Sequence[Path] = (), films: bool = True
) -> Project:
    """A project on one drawn film (and layers), not run yet."""
    sources = [folder_of(frames, tmp_path / "drawn")] if films else []
    project = bglora.init(tmp_path / "work", films=sources, layers=layers)
    return bglora.open(project.root, given=(*EVERYTHING, *given), jobs=1)


def records(project: Project, path: str) -> dict[str, dict[str, Any]]:
    """The lines of a stage's records file by picture."""
    import json

    lines = (project.root / path).read_text(encoding="utf-8").splitlines()
    return {line["picture"]: line for line in map(json.loads, lines)}
