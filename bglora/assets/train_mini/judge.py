"""Trains the judge of `mini` on rendered stills that `mini` never saw.

    python -m bglora.assets.train_mini.judge --stills FOLDER [FOLDER ...] --test FOLDER [FOLDER ...] --out FILE

A folder of `--test` that has the stills `mini` is trained on counts with its held-out places only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bglora.assets import asset
from bglora.assets.train_mini import stills
from bglora.nets.still_judge import CELL, PLACES, SIDE, StillJudge, load_judge

STEPS, BATCH, PEAK_RATE, SEED = 1500, 32, 2e-3, 5
NEAREST = 2.2
PASTED = 0.5
"""Share of the examples with a character that are an empty still with a character pasted in from another one."""
VISIBLE = 0.006
"""Share of the picture from which a character counts as there; with less, but not nothing, it is left out."""


@dataclass(frozen=True)
class Example:
    """A still (256, 256, 3), uint8, the number of its place, and where its character is (256, 256), None: unknown."""

    picture: NDArray[np.uint8]
    place: int
    character: bool
    mask: NDArray[np.float32] | None


def read_examples(folders: list[Path]) -> list[Example]:
    """All stills of the folders; of a folder that `mini` is trained on (it has held-out places), only these places."""
    examples = []
    for folder in folders:
        lines = [json.loads(line) for file in sorted(folder.glob("captions*.jsonl")) for line in file.open()]
        if (folder / "captions.jsonl").exists():
            held = {still.path.name for still in stills.read_stills(folder) if still.held_out}
            lines = [line for line in lines if line["file"] in held]
        lines = [line for line in lines if (folder / line["file"]).exists()]
        pictures = {line["file"]: np.asarray(Image.open(folder / line["file"]).convert("RGB")) for line in lines}
        for line in lines:
            stem, empty = Path(line["file"]).stem, f"{line['pair']}a.jpg"
            mask = None
            if not line["has_character"]:
                mask = np.zeros((256, 256), np.float32)
            elif stem[-1] in "de" and empty in pictures:
                mask = difference(pictures[line["file"]], pictures[empty])
            examples.append(Example(pictures[line["file"]], PLACES.index(line["place"]), line["has_character"], mask))
    return examples


def difference(seen: NDArray[np.uint8], empty: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where two pictures of one camera differ, (h, w) of 0 and 1; specks of JPEG removed."""
    apart = np.abs(seen.astype(np.int16) - empty).max(axis=2)
    return np.asarray(cv2.medianBlur(((apart > 28) * 255).astype(np.uint8), 5) > 0, np.float32)


def cutouts(examples: list[Example]) -> dict[bool, list[tuple[NDArray[np.uint8], NDArray[np.float32]]]]:
    """Characters cut from their stills: pixels (h, w, 3) and mask (h, w), by whether they live under water."""
    found: dict[bool, list[tuple[NDArray[np.uint8], NDArray[np.float32]]]] = {True: [], False: []}
    for example in examples:
        if not example.character or example.mask is None or example.mask.mean() < VISIBLE:
            continue
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(example.mask.astype(np.uint8))
        largest = 1 + int(np.argmax(boxes[1:, cv2.CC_STAT_AREA]))
        left, top, width, height, area = boxes[largest]
        if area < VISIBLE * example.mask.size or width > 2.5 * height:  # a shadow rather than somebody
            continue
        part = (slice(top, top + height), slice(left, left + width))
        mask = cv2.morphologyEx((labels[part] == largest).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        found[PLACES[example.place] == "sea floor"].append((example.picture[part], mask.astype(np.float32)))
    return found


def paste(empty: Example, cut: tuple[NDArray[np.uint8], NDArray[np.float32]], rng: np.random.Generator) -> Example:
    """An empty still with a character in it (copy-paste augmentation, Ghiasi et al. 2021), soft at its edge."""
    pixels, mask = cut
    wanted = float(rng.uniform(0.02, 0.16))
    scale = float(np.clip(np.sqrt(wanted * 256 * 256 / mask.sum()), 0.6, 2.5))
    size = tuple(min(256, max(6, round(side * scale))) for side in mask.shape[::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels, mask = (cv2.resize(values, size, interpolation=method) for values in (pixels, mask))
    if rng.random() < 0.5:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    left, top = int(rng.integers(0, 257 - size[0])), int(rng.integers(0, 257 - size[1]))
    part = (slice(top, top + size[1]), slice(left, left + size[0]))
    light = float(np.clip(empty.picture.mean() / 128, 0.6, 1.3))
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
    picture, where = empty.picture.astype(np.float32), np.zeros((256, 256), np.float32)
    picture[part] += alpha * (pixels.astype(np.float32) * light - picture[part])
    where[part] = mask
    return Example(picture.clip(0, 255).astype(np.uint8), empty.place, True, where)


def draw(example: Example, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
    """A random part of a still at SIDE x SIDE: pixels in -1..1, cells (-1: unknown), the label and its weight."""
    zoom = 1.0 if rng.random() < 0.35 else float(rng.uniform(1.0, NEAREST))
    if example.mask is None:
        zoom = min(zoom, 1.25)
    side = int(256 / zoom)
    left, top = (int(rng.integers(0, 257 - side)) for _ in range(2))
    if example.mask is not None and example.mask.any() and rng.random() < 0.7:
        rows, columns = np.nonzero(example.mask)
        at = rng.integers(len(rows))
        left, top = (int(np.clip(c - rng.uniform(0.2, 0.8) * side, 0, 256 - side)) for c in (columns[at], rows[at]))
    part = (slice(top, top + side), slice(left, left + side))
    pixels = cv2.resize(
        example.picture[part], (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    )
    cells = np.full((SIDE // CELL,) * 2, -1.0, np.float32)
    label, weight = float(example.character), 1.0
    if example.mask is not None:
        seen = example.mask[part]
        cells = cv2.resize(seen, cells.shape, interpolation=cv2.INTER_AREA)
        label = float(seen.mean() >= VISIBLE)
        weight = float(label == 1.0 or not seen.any())
    if rng.random() < 0.5:
        pixels, cells = pixels[:, ::-1], cells[:, ::-1]
    return disturb(pixels.astype(np.float32) / 127.5 - 1.0, rng), np.ascontiguousarray(cells), label, weight


def disturb(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Other light and colors, and blur: what a small model paints is softer than a still."""
    light = 0.5 + 0.5 * pixels
    light = np.clip(light, 0, 1) ** float(np.exp(rng.normal(0, 0.2))) * np.exp(rng.normal(0, 0.08, 3))
    if rng.random() < 0.6:
        blur = float(rng.uniform(0.4, 2.0))
        light = cv2.GaussianBlur(light, (0, 0), blur)
    return np.asarray(np.clip(light, 0, 1) * 2 - 1 + rng.normal(0, 0.03, pixels.shape), np.float32)


def recoded(examples: list[Example], vae: Any) -> list[Example]:
    """The examples as the decoder of `mini` paints them at SIDE x SIDE, enlarged again."""
    found = []
    for example in examples:
        small = cv2.resize(example.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        with torch.inference_mode():
            painted = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0].permute(1, 2, 0).numpy()
        picture = (np.clip(painted * 0.5 + 0.5, 0, 1) * 255).round().astype(np.uint8)
        large = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)
        found.append(Example(np.asarray(large, np.uint8), example.place, example.character, example.mask))
    return found


def train(examples: list[Example], steps: int = STEPS, start: Path | None = None) -> StillJudge:
    """Cross-entropy of the place, of the character, and of every cell where it is known; goes on from `start`."""
    torch.manual_seed(SEED)
    net = load_judge(start).train() if start else StillJudge()
    layout: Any = {"memory_format": torch.channels_last}  # the fastest on a CPU; the stubs do not know it
    net.to(**layout)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    kinds = [[k for k, e in enumerate(examples) if (e.place, e.character) == (p, c)] for p in range(4) for c in (0, 1)]
    cuts = cutouts(examples)
    first = STEPS if start else 0  # other draws than those of the training before
    for step in range(first, first + steps):
        rng = np.random.default_rng([SEED, step])
        rows = [int(rng.choice(kinds[number % len(kinds)])) for number in range(BATCH)]
        chosen = [examples[row] for row in rows]
        for number, row in enumerate(rows):
            if examples[row].character and rng.random() < PASTED:
                empty = examples[int(rng.choice(kinds[2 * examples[row].place]))]
                here = cuts[PLACES[empty.place] == "sea floor"]
                chosen[number] = paste(empty, here[int(rng.integers(len(here)))], rng)
        drawn = [draw(example, rng) for example in chosen]
        pixels, masks, labels, weights = (torch.tensor(np.array(values)) for values in zip(*drawn, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            places, cells = net(pixels.permute(0, 3, 1, 2))
        places, cells = places.float(), cells.float()
        known = (masks >= 0).float()
        loss = torch.nn.functional.cross_entropy(places, torch.tensor([examples[r].place for r in rows]))
        loss = loss + (binary(net.character(cells), labels.float(), reduction="none") * weights).mean()
        weighted = known * (1 + 4 * masks.clamp(min=0))
        loss = loss + 2 * (binary(cells, masks.clamp(0, 1), reduction="none") * weighted).sum() / weighted.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rates.step()
        if step % 50 == 49:
            print(f"step {step + 1 - first}: loss {float(loss.detach()):.3f}", flush=True)
    return net.eval()


def measure(net: StillJudge, examples: list[Example]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which places, and which answers about a character, are right (n,) each, on whole stills."""
    found = net.judge([example.picture for example in examples])
    place = found.places.argmax(axis=1) == np.array([example.place for example in examples])
    return place, (found.character > 0.5) == np.array([example.character for example in examples])


def save(net: StillJudge, path: Path) -> None:
    """Weights as fp16."""
    from safetensors.torch import save_file

    kept = {name: value.half() for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file({name: value.contiguous() for name, value in kept.items()}, path, metadata={"license": "CC0-1.0"})
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--mini", type=Path, default=asset("mini"), help="whose decoder makes the stills soft")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--start", type=Path, help="a judge to go on from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from diffusers import AutoencoderKL

    torch.set_num_threads(1)
    examples = read_examples(options.stills)
    vae = AutoencoderKL.from_pretrained(options.mini / "vae").float()
    save(train(examples + recoded(examples, vae), options.steps, options.start), options.out)
    test = read_examples(options.test)
    place, character = measure(load_judge(options.out), test)
    print(
        f"{len(examples)} stills; {len(test)} others: place right {place.mean():.1%}, character {character.mean():.1%}"
    )


if __name__ == "__main__":
    main()
