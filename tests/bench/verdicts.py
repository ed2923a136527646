"""Whether the verdict of `test` is right: LoRAs made to have each fault, and the words that they get.

    python -m tests.bench.verdicts PROJECT [--scene scene-00] [--work FOLDER] [--character FILE] [--only NAMES]
                                   [--seeds N]

PROJECT is a project of the sample film that has run up to `caption` on `mini`. Each LoRA is trained, painted with and
judged by the product's own code with the settings of `test` in the preset cpu. What is done stays in WORK, in a
folder for each base, recipe and set of pictures, and isn't done again; judging is cheap and always done anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import bglora
from bglora.backends.paint import diffusers as paint_backend
from bglora.backends.paint.diffusers import Painter
from bglora.engine.stage import Item
from bglora.engine.tools import ItemTools
from bglora.settings import Settings
from bglora.settings.lora import TrainSettings
from bglora.stages import appearances, composition
from bglora.stages.grids import FINAL, Asked, Grid, paint_grids
from bglora.stages.judging import Data, Judged, Plates, judge, plates_of, views_of
from bglora.stages.test import FOR_APPEARANCES, FOR_COPIES, FOR_LIKENESS, default_prompts, elsewhere_prompts
from bglora.training.figures import Estimate
from bglora.training.job import Recipe, TrainPicture
from tests.bench.purity import home_of
from tests.bench.scene_training import (
    ARMS,
    LOOK,
    RECIPE,
    TRUSTED,
    Scene,
    held_out_of,
    scene_of,
    train,
    write_pictures,
)
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.verdicts PROJECT"
TITLE = "Verdicts on LoRAs made to have each fault"
USUAL = RECIPE.max_steps
SEED = 20
NOTE = """One scene of the sample film on mini; every LoRA is trained, painted with and judged as the product does it,
with the settings of the preset cpu (but for seeds that the command names). Gain: likeness to held-out plates above the
base's; following: how much prompts are followed, the base being 1; somebody and asked for: shares of pictures with a
character whose prompt asks for nobody, and for somebody, with those of the base behind the slash. All at the scale to
use, with 95 % intervals; overpowering is said of scale 0.7, characters of the largest scale that follows the prompt. A
row is right when every asked word is among the given ones and no other is, but for what the same fault brings along:
who trains too long also paints over characters and copies, and so may who trains on three pictures. Characters are said
of the LoRA on frames because somebody is found on these frames: the good one is taken for peopled as often, but so are
the empty plates of its place. The word for copies is never the one asked for: held-out plates of this scene are as near
to trained ones as a copy on mini is, and where they are, a copy can't be told from the place."""
EMPTY_WORDS = "no characters, empty scene"


@dataclass(frozen=True)
class Case:
    """A LoRA made to have a fault.

    Attributes:
        asked: the words that it must get. also: words that the same fault may bring; others are wrong.
        arm: what is trained, a name in `ARMS`. pictures: how many of them at most; 0: all.
        recipe: fields of the recipe that differ from the usual ones.
        held_out: whether likeness is measured on held-out plates.
    """

    name: str
    words: str
    asked: tuple[str, ...]
    also: tuple[str, ...] = ()
    arm: str = "weighted"
    pictures: int = 0
    recipe: Mapping[str, Any] | None = None
    held_out: bool = True


CASES = (
    Case("good", "as the demo trains it", ("good",)),
    Case("short", "8 steps", ("too weak",), recipe={"max_steps": 8}),
    Case(
        "long",
        "8 times as long",
        ("overpowers the prompt",),
        also=("conflicts with the character", "copies its training pictures"),
        recipe={"max_steps": 8 * USUAL},
    ),
    Case("frames", "on frames, characters left in", ("hallucinates characters",), arm="frames"),
    Case(
        "three",
        "on three pictures, rank 32, twice as long",
        ("not enough data",),
        also=("copies its training pictures", "conflicts with the character"),
        pictures=3,
        recipe={"max_steps": 2 * USUAL, "dim": 32, "alpha": 24.0},
    ),
    Case("none", "as the demo's, nothing held out", ("not enough data",), held_out=False),
)


@dataclass(frozen=True)
class Bench:
    """What all cases share."""

    project: bglora.Project
    scene: Scene
    work: Path
    painter: Painter
    character: Path | None
    seeds: int

    @property
    def settings(self) -> Settings:
        """The project's, but test's are the preset's with so many seeds."""
        return self.project.settings.model_copy(update={"test": LOOK.model_copy(update={"seeds": self.seeds})})


def lora_of(bench: Bench, case: Case) -> tuple[Path, tuple[TrainPicture, ...]]:
    """The LoRA, trained where it isn't there yet, and what it was trained on."""
    home, arm = home_of_case(bench.work, case), ARMS[case.arm]
    captions = dict(list(bench.scene.captions.items())[: case.pictures or None])
    scene = replace(bench.scene, captions=captions)
    pictures = write_pictures(bench.project.root, scene, arm, home / "pictures")
    fields = {"max_steps": USUAL, "provenance_weights": TRUSTED if arm.trust else None, **(case.recipe or {})}
    recipe: Recipe = replace(RECIPE, **fields)
    return train(pictures, scene, recipe, home), pictures


def home_of_case(work: Path, case: Case) -> Path:
    """A folder for what is trained; cases that train the same share it."""
    trained = json.dumps([case.arm, case.pictures, dict(case.recipe or {})], sort_keys=True)
    return work / f"{case.arm}-{case.pictures or 'all'}-{hashlib.sha256(trained.encode()).hexdigest()[:8]}"


def asked_of(bench: Bench) -> Asked:
    """The prompts that `test` makes for the scene, and the character who stands by."""
    captions = list(bench.scene.captions.values())
    trigger = composition.trigger_of(bench.character) if bench.character else ""
    who = composition.phrase(trigger, bench.settings.compose.character_prompt) if bench.character else ""
    elsewhere = elsewhere_prompts(EMPTY_WORDS)
    prompts = [*default_prompts(captions, (), EMPTY_WORDS, who), *elsewhere]
    cast = [(bench.character, bench.settings.compose.character_scale)] if bench.character else []
    first = len(prompts) - len(elsewhere)
    asking = appearances.asking_prompts(prompts, (), trigger)
    return Asked(prompts, bench.painter.size, asking, cast, range(first, len(prompts)))


def grid_of(bench: Bench, case: Case, tools: ItemTools, lora: Path) -> Grid:
    """The test pictures, painted where they aren't there yet."""
    asked, test = asked_of(bench), bench.settings.test
    file = lora.parent.parent / f"grid-{bench.seeds}{'-cast' if bench.character else ''}.npz"
    if file.exists():
        pictures = np.load(file)["pictures"]
        scales = sorted({0.0, *test.scales})
        return Grid(FINAL, str(lora), asked.prompts, scales, pictures, asked.asking, asked.elsewhere)
    item = Item(case.name, settings={f"test.{key}": value for key, value in test.model_dump(mode="json").items()})
    (grid,) = paint_grids(item, tools, bench.painter, {FINAL: str(lora)}, asked)
    np.savez_compressed(file, pictures=grid.pictures)
    return grid


def judged(bench: Bench, case: Case) -> Judged:
    """What the product says of the case's LoRA."""
    root = bench.project.root
    lora, pictures = lora_of(bench, case)
    tools = ItemTools(root, bench.work, bench.settings, SEED, case.name, lambda *_: None, lambda: False, {})
    grid = grid_of(bench, case, tools, lora)
    held_out = held_out_of(root, bench.scene.name) if case.held_out else []
    side, painter = bench.painter.size, bench.painter
    trained = {picture.name: str(picture.image) for picture in pictures}
    files, kept = list(trained.values()), [f"plates/{name}.png" for name in held_out]
    plates = Plates(
        plates_of(root, kept, FOR_LIKENESS, side, painter),
        plates_of(root, [] if kept else files, FOR_LIKENESS, side, painter),
        views_of(root, files, FOR_COPIES, side, painter),
        views_of(root, kept, FOR_LIKENESS, side, painter),
    )
    leaks = partial(appearances.leaking, tools, root, trained)
    empty = [f"plates/{name}.png" for name in (*bench.scene.captions, *held_out_of(root, bench.scene.name))]
    painted = partial(plates_of, root, empty, FOR_APPEARANCES, side, painter)
    data = Data(len(pictures), copies=0, limits=(), remedies={}, leaks=leaks, painted=painted)
    return judge(tools, grid, plates, data)


def line(case: Case, found: Judged) -> list[str]:
    """A row of the table."""
    base, used = found.figures[0], next(one for one in found.figures if one.scale == found.scale)
    words = [str(one["word"]) for one in found.verdict]
    right = "yes" if {*case.asked} <= {*words} <= {*case.asked, *case.also} else "no"
    return [
        f"{case.words}: {', '.join(case.asked)}",
        ", ".join(words),
        right,
        f"{found.scale:g}",
        shown(used.gain),
        shown(used.following),
        f"{shown(used.characters)} / {shown(base.characters)}",
        f"{shown(used.answered)} / {shown(base.answered)}",
        f"{shown(used.copies)} above {found.copy_limit:.3f}",
    ]


def shown(value: Estimate | None) -> str:
    return "" if value is None else f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--scene", default="scene-00")
    parser.add_argument("--work", type=Path, default=Path("verdicts-work"))
    parser.add_argument(
        "--character", type=Path, help="a character LoRA on mini that stands by where somebody is asked"
    )
    parser.add_argument("--seeds", type=int, default=LOOK.seeds, help="pictures for each prompt and scale")
    parser.add_argument("--only", default="", help="some of: " + ", ".join(case.name for case in CASES))
    parser.add_argument("--dry", action="store_true", help="print, and leave README.md alone")
    options = parser.parse_args()
    painter = paint_backend.create(TrainSettings())
    project = bglora.open(options.project)
    scene = scene_of(project.root, options.scene)
    work = home_of(options.work, project.root, scene, USUAL)
    bench = Bench(project, scene, work, painter, options.character, options.seeds)
    chosen = [case for case in CASES if not options.only or case.name in options.only.split(",")]
    rows = []
    for case in chosen:
        found = judged(bench, case)
        painter.close()
        rows.append(line(case, found))
        for figure in found.figures:
            print(case.name, figure.to_json())
    head = ["made to be: words asked", "words given", "right", "scale", "gain", "following"]
    head += ["somebody", "asked for", "copies"]
    if options.dry or options.only:
        print(table(head, rows))
    else:
        command = COMMAND + (f" --seeds {options.seeds}" if options.seeds != LOOK.seeds else "")
        write_section(TITLE, command, table(head, rows), NOTE)


if __name__ == "__main__":
    main()
