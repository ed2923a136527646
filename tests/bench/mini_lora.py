"""Whether `mini` can be told a place by a LoRA: trained as the demo trains it on a scene's plates, three times.

    python -m tests.bench.mini_lora PROJECT [--scene scene-00] [--steps N] [--mini FOLDER] [--work FOLDER]

PROJECT is a project of the sample film that has run up to `caption`; it is read, not touched. scene-00 is its town.
Each LoRA and the base alone paint the captions of the scene from the same noise. What is done stays in WORK, in a
folder for each base, recipe and set of pictures, and isn't done again. About 4 minutes on one core. `--sheet FILE`
writes a picture of base, LoRAs and plates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from bglora.stages.judging import plates_of
from tests.bench.purity import PICTURES, SCALE, TRAINING_SEEDS, Bench, interval, opened, over_trainings, sheet
from tests.bench.scene_training import ARMS, GUIDANCE, RECIPE, STEPS, scene_of, seconds
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.mini_lora PROJECT"
TITLE = "mini, told a place by a LoRA"
ARM = ARMS["weighted"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--scene", default="scene-00")
    parser.add_argument("--steps", type=int, default=RECIPE.max_steps)
    parser.add_argument("--mini", default="mini", help="another folder to train on in place of the one in the package")
    parser.add_argument("--work", type=Path, default=Path("mini-lora-work"))
    parser.add_argument("--sheet", type=Path, help="write a picture of base, LoRAs and plates here")
    parser.add_argument("--dry", action="store_true", help="print, and leave README.md alone")
    options = parser.parse_args()
    bench = opened(options.project, options.scene, options.work, options.steps, options.mini)
    loras = bench.loras(f"{ARM.name}-{options.steps}", ARM, bench.scene)
    pictures, alone = bench.painted(loras, bench.prompts), bench.base(bench.prompts, "base")
    base, told = bench.shown(alone), bench.shown(pictures)
    gains = told.likeness - base.likeness
    rows = [["base alone", interval(over_trainings(base.likeness)), ""]]
    for number, seed in enumerate(TRAINING_SEEDS):
        one = slice(number, number + 1)
        likeness, gain = over_trainings(told.likeness[one]), over_trainings(gains[one])
        rows.append([f"training seed {seed}", interval(likeness), interval(gain)])
    rows.append(["all three", interval(over_trainings(told.likeness)), interval(over_trainings(gains))])
    others = bench.shown([other_places(bench)])
    rows.append(["plates of the film's other places", interval(over_trainings(others.likeness)), ""])
    found = table([options.scene, "likeness to held-out plates", "more than the base"], rows)
    if options.sheet:
        sheet({"the base alone": alone[0], **dict(zip(_labels(), pictures, strict=True))}, bench, options.sheet)
    note = _note(options.steps, [seconds(lora) for lora in loras], len(bench.scene.captions), len(bench.plates))
    if options.dry:
        print(found, note, sep="\n\n")
    else:
        write_section(TITLE, COMMAND, found, note)


def other_places(bench: Bench) -> np.ndarray:
    """Plates of all other scenes, as soft as mini paints, uint8 (n, S, S, 3): how like a place may be by chance."""
    rows = (bench.project / "datasets/caption.jsonl").read_text("utf-8").splitlines()
    scenes = sorted({json.loads(row)["item"] for row in rows} - {bench.scene.name})
    files = [f"plates/{name}.png" for scene in scenes for name in scene_of(bench.project, scene).captions]
    return plates_of(bench.project, files, len(files), bench.painter.size, bench.painter)


def _labels() -> list[str]:
    return [f"LoRA, training seed {seed}" for seed in TRAINING_SEEDS]


def _note(steps: int, cpu: list[float], trained: int, plates: int) -> str:
    spent = ", ".join(f"{one:.0f}" for one in cpu)
    return f"""{trained} plates, {steps} steps a LoRA, trained as the preset cpu does: {spent} s of CPU (five minutes of
two cores: 600). {PICTURES} pictures each, the scene's own captions, scale {SCALE:g}, {STEPS} steps, guidance
{GUIDANCE:g}. Likeness is the cosine to the most similar of {plates} plates that nobody trained on, by the descriptor.
Most of them stayed out of the dataset as near copies, so a camera close by was seen: what a place looks like from where
no camera stood, a LoRA cannot know. Differences are paired by noise; the bootstrap's 95 % interval draws trainings
first, then pictures of each."""


if __name__ == "__main__":
    main()
