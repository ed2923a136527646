"""`mini`, the base model in the package, and its judge.

    python -m tests.bench.mini [--stills FOLDER] [--unseen FOLDER ...] [--mini FOLDER] [--pictures N]

The judge is measured on stills that neither it nor `mini` was trained on: the held-out places of STILLS, and UNSEEN
folders rendered with other seeds; as they are, and as soft as the decoder of `mini` makes them. Then it looks at
what `mini` paints for prompts with and without a character: by the words alone, and, where the scene shall be empty,
also with the negative prompt with which `test` paints.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bglora.assets import asset
from bglora.assets.train_mini import decoder, export, stills, unet
from bglora.assets.train_mini.judge import VISIBLE, clear, measure, read_examples, recoded
from bglora.nets.still_judge import PLACES, StillJudge, load_judge
from bglora.settings.lora import NEGATIVE
from bglora.training.figures import Estimate, wilson
from tests.bench.table import table, write_section
from tests.shared import ROOT

COMMAND = "python -m tests.bench.mini"
TITLE = "mini"
STEPS, GUIDANCE, SIDE = 20, 4.0, 128
EMPTY = {
    "harbor town": ("harbor town, colorful houses", "harbor town, quay with boats and sea"),
    "beach": ("beach, sand and sea", "beach, palm trees and beach huts"),
    "room": ("cozy room, kitchen and furniture", "cozy living room, furniture"),
    "sea floor": ("sea floor, corals and rocks, under water", "sea floor, corals and plants, under water"),
}
WHERE = {
    "harbor town": "in a harbor town",
    "beach": "on a sandy beach",
    "room": "in a cozy room",
    "sea floor": "on the sea floor, under water",
}
ON_LAND = ("a child in a red striped shirt", "a child in a blue shirt", "a brown dog", "a golden dog")
IN_WATER = ("a green sea creature", "an orange fish", "a purple sea creature", "a blue fish")
LIGHTS = ("warm sunlight", "overcast light", "golden evening", "bright noon")
WATER_LIGHTS = ("clear blue light", "turquoise light", "deep blue light", "warm shallow sunlight")


@dataclass(frozen=True)
class Prompt:
    """What is asked for: words, the place's name and whether a character belongs there."""

    text: str
    place: str
    character: bool


def prompts(count: int) -> list[Prompt]:
    """`count` prompts (a multiple of 8) in the captions' words: each place as often empty as with a character."""
    found = []
    for place in PLACES:
        water = place == "sea floor"
        who = itertools.cycle(IN_WATER if water else ON_LAND)
        words = itertools.cycle(EMPTY[place])
        for number in range(count // 8):
            light = (WATER_LIGHTS if water else LIGHTS)[number % 4]
            empty = f"3d animated background, {next(words)}, {light}, no characters, empty scene"
            found.append(Prompt(empty, place, False))
            found.append(Prompt(f"3d animated scene, {next(who)} {WHERE[place]}, {light}", place, True))
    return found


def paint(
    folder: Path, asked: list[Prompt], steps: int = STEPS, guidance: float = GUIDANCE, negative: str = ""
) -> list[np.ndarray]:
    """One picture (SIDE, SIDE, 3), uint8, a prompt; seeds count up. `negative` is used where nobody shall be."""
    from diffusers import StableDiffusionXLPipeline

    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    found: list[np.ndarray] = []
    for start in range(0, len(asked), 16):
        part = asked[start : start + 16]
        images = pipeline(
            [prompt.text for prompt in part],
            negative_prompt=["" if prompt.character else negative for prompt in part],
            height=SIDE,
            width=SIDE,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(start + number) for number in range(len(part))],
            output_type="np",
        ).images
        found.extend((images * 255).round().astype(np.uint8))
    return found


def judged(judge: StillJudge, pictures: list[np.ndarray], asked: list[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Which places, and which answers about a character, are as asked for, (n,) each."""
    found = judge.judge(pictures)
    place = found.places.argmax(axis=1) == np.array([PLACES.index(prompt.place) for prompt in asked])
    return place, (found.character > 0.5) == np.array([prompt.character for prompt in asked])


def decoder_psnr(folder: Path, source: Path) -> float:
    """Mean PSNR in dB of whole held-out stills decoded from their exact latents."""
    from diffusers import AutoencoderKL

    basis = export.load_basis(folder / "vae" / "patch_basis.safetensors")
    trainer = decoder.Trainer(stills.read_stills(source), basis, folder, 0)
    trainer.vae = AutoencoderKL.from_pretrained(folder / "vae").float()
    with torch.inference_mode():
        return float(trainer.psnr(trainer.check_batch()).split()[2])


def painter_error(folder: Path, source: Path, work: Path) -> str:
    """Mean squared error of v on held-out stills at three noise steps."""
    from bglora.assets.train_mini import restart

    restart.prepare([folder], work)
    trainer = unet.Trainer(stills.read_stills(source), export.load_basis(work / "basis.safetensors"), work, 0)
    trainer.start([folder])
    with torch.inference_mode():
        return trainer.check().split(": ")[1]


def percent(hits: np.ndarray) -> str:
    share: Estimate = wilson(int(hits.sum()), len(hits))
    return f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%}), n = {len(hits)}"


def main() -> None:
    import tempfile

    from diffusers import AutoencoderKL

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", type=Path, default=ROOT / "stills")
    parser.add_argument("--unseen", type=Path, nargs="*", default=[])
    parser.add_argument("--mini", type=Path, default=asset("mini"))
    parser.add_argument("--judge", type=Path, default=None)
    parser.add_argument("--pictures", type=int, default=384)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--grid", type=Path, help="also write the first pictures here, for the eye")
    parser.add_argument("--dry", action="store_true", help="print, and leave README.md alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    judge = load_judge(options.judge or asset("mini_judge.safetensors"))
    rows = []
    every = read_examples([options.stills, *options.unseen])
    unseen = clear(every)
    place, character = measure(judge, unseen)
    there = np.array([example.character for example in unseen])
    rows.append(["judge on stills it never saw: place", percent(place)])
    rows.append(["judge on stills it never saw: character or empty", percent(character)])
    rows.append(["... those with a character", percent(character[there])])
    rows.append(["... those without", percent(character[~there])])
    rows.append(["... the hidden ones counted too", percent(measure(judge, every)[1])])
    soft = recoded(unseen, AutoencoderKL.from_pretrained(options.mini / "vae").float())
    character = measure(judge, soft)[1]
    rows.append(["the same stills, encoded and decoded by mini: character or empty", percent(character)])
    rows.append(["... those with a character", percent(character[there])])
    rows.append(["... those without", percent(character[~there])])
    asked = prompts(options.pictures)
    there = np.array([prompt.character for prompt in asked])
    pictures, refused = (paint(options.mini, asked, guidance=options.guidance, negative=no) for no in ("", NEGATIVE))
    place, character = judged(judge, pictures, asked)
    rows.append(["pictures of mini: the place that was asked for", percent(place)])
    for name in PLACES:
        rows.append([f"... {name}", percent(place[[prompt.place == name for prompt in asked]])])
    rows.append(["pictures of mini, by words alone: empty or with a character, as asked for", percent(character)])
    rows.append(["... asked with a character", percent(character[there])])
    rows.append(["... asked empty", percent(character[~there])])
    place, character = judged(judge, refused, asked)
    rows.append(["... with a negative prompt where nobody shall be: as asked for", percent(character)])
    rows.append(["... asked empty", percent(character[~there])])
    rows.append(["... the place that was asked for", percent(place)])
    rows.append(["decoder, held-out stills", f"{decoder_psnr(options.mini, options.stills):.1f} dB"])
    with tempfile.TemporaryDirectory() as work:
        error = painter_error(options.mini, options.stills, Path(work))
    rows.append(["U-Net, error of v on held-out stills at noise steps 100, 500, 900", error])
    if options.grid:
        write_grid(pictures, options.grid)
    found = table(["", "figure (95 % interval)"], rows)
    if options.dry:
        print(found)
        return
    note = (
        f"{len(unseen)} stills of places and cameras that neither the judge nor `mini` was trained on, and "
        f"{len(every) - len(unseen)} hidden ones: of their character less than {VISIBLE:.0%} is seen. `mini` paints "
        f"{SIDE} x {SIDE}, {STEPS} steps, guidance {options.guidance:g}, one seed a prompt. With the negative "
        f"prompt: the same prompts and seeds, and where nobody shall be “{NEGATIVE}”, "
        "as `test` has it unless told otherwise. What the judge misses on stills that `mini` has only encoded and "
        "decoded, it would miss on a `mini` that painted without a fault. Wilson's intervals."
    )
    write_section(TITLE, COMMAND, found, note)


def write_grid(pictures: list[np.ndarray], path: Path, side: int = 4) -> None:
    """A square of pictures, evenly taken from all."""
    chosen = [pictures[number * len(pictures) // side**2] for number in range(side**2)]
    rows = [np.concatenate(chosen[row * side : (row + 1) * side], axis=1) for row in range(side)]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
