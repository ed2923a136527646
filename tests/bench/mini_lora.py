"""Whether `mini` can be told a place by a LoRA: trained for five minutes on a scene's plates, three times.

    python -m tests.bench.mini_lora --project FOLDER [--scene scene-00] [--steps N] [--mini FOLDER]

The project has its datasets made (`bglora run --to caption`); it is copied, not touched. Each training seed's LoRA and
the base alone paint the same prompts from the same noise; the difference of their likeness to held-out plates is
bootstrapped over all pictures of all training seeds.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bglora.assets import asset
from bglora.backends.embed import descriptor
from bglora.backends.paint.diffusers import Painter
from bglora.stages.judging import embedded
from bglora.stages.test import default_prompts
from bglora.training import figures
from bglora.training.base import load_base
from bglora.training.buckets import cut_picture
from bglora.training.pictures import cut_pixels, read_picture
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.mini_lora --project FOLDER"
TITLE = "mini, told a place by a LoRA"
TRAINING_SEEDS = (1, 2, 3)
SEEDS, STEPS, GUIDANCE = 8, 12, 3.0


def rows(project: Path, file: str, scene: str) -> list[dict[str, Any]]:
    lines = (project / file).read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if not scene or row["item"] == scene]


def held_out_plates(project: Path, scene: str, side: int, painter: Painter) -> np.ndarray:
    """uint8 (n, side, side, 3): the plates kept apart for this scene, as the base's decoder paints them."""
    kept = next(row["remark"]["held_out"] for row in rows(project, "datasets/caption.jsonl", scene) if "remark" in row)
    paths = [project / "plates" / f"{picture}.png" for picture in kept]
    squares = [cut_pixels(p, cut_picture(p.shape[:2], [(side, side)])) for p in map(read_picture, paths)]
    return np.asarray(painter.as_painted(np.stack(squares)))


def captions(project: Path, scene: str) -> list[str]:
    return [path.read_text("utf-8").splitlines()[0] for path in sorted((project / "datasets" / scene).rglob("*.txt"))]


def train(project: Path, scene: str, seed: int, steps: int, base: Path) -> tuple[Path, float]:
    """One LoRA, as `bglora train` makes it with the project's settings; its file and the CPU seconds."""
    settings = [f"train.seed={seed}", f"train.max_steps={steps}", f"train.base={base}"]
    options = [part for setting in settings for part in ("--set", setting)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "bglora", "-C", str(project), "--jobs", "1", "train", "--only", scene, *options]
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept = project / f"{scene}-{seed}.safetensors"
    shutil.copyfile(project / "loras" / f"{scene}.safetensors", kept)
    return kept, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paint(painter: Painter, prompts: Sequence[str], adapters: Sequence[tuple[Path, float]]) -> np.ndarray:
    """uint8 (prompts, seeds, H, W, 3)."""
    seeds = list(range(100, 100 + SEEDS))
    side = painter.size
    flat = painter.paint(
        [p for p in prompts for _ in seeds], "", seeds * len(prompts), (side, side), STEPS, GUIDANCE, adapters
    )
    return np.stack(flat).reshape(len(prompts), SEEDS, side, side, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--scene", default="scene-00")
    parser.add_argument("--steps", type=int, default=240, help="as many as fit into five minutes of two cores")
    parser.add_argument("--mini", type=Path, default=asset("mini"))
    parser.add_argument("--dry", action="store_true", help="print, and leave README.md alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        shutil.copytree(options.project, project)
        made = [train(project, options.scene, seed, options.steps, options.mini) for seed in TRAINING_SEEDS]
        painter = Painter(load_base(str(options.mini)))
        found = captions(project, options.scene)
        prompts = default_prompts(found, (), "no characters, empty scene", lights=("golden evening", "blue dusk"))
        prompts = [prompts[0], *prompts[2:]]
        plates = held_out_plates(project, options.scene, painter.size, painter)
        grids = [paint(painter, prompts, [])] + [paint(painter, prompts, [(path, 1.0)]) for path, _ in made]
    vectors, known = embedded(descriptor.create(None), np.stack(grids), plates)
    likeness = figures.likeness(vectors, known)
    gains = likeness[1:] - likeness[0]
    lines = [["base alone", show(figures.bootstrap(likeness[0])), ""]]
    for seed, gain, found in zip(TRAINING_SEEDS, gains, likeness[1:], strict=True):
        lines.append([f"training seed {seed}", show(figures.bootstrap(found)), show(figures.bootstrap(gain))])
    lines.append(["all three", show(figures.bootstrap(likeness[1:])), show(figures.bootstrap(gains))])
    found = table([f"{options.scene}", "likeness to held-out plates", "more than the base"], lines)
    seconds = ", ".join(f"{cpu:.0f}" for _, cpu in made)
    note = (
        f"{options.steps} steps a LoRA: {seconds} s of CPU (five minutes of two cores: 600). {len(prompts)} prompts, "
        f"{SEEDS} seeds each, scale 1, {STEPS} steps, guidance {GUIDANCE:g}; likeness is the cosine to the "
        f"most similar of {len(plates)} held-out plates, by the descriptor. Bootstrap, 95 %."
    )
    if options.dry:
        print(found, note, sep="\n\n")
    else:
        write_section(TITLE, COMMAND, found, note)


def show(estimate: figures.Estimate) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


if __name__ == "__main__":
    main()
