"""Trains the judge of `mini` on rendered stills that `mini` never saw.

    python -m bglora.assets.train_mini.judge --stills FOLDER [FOLDER ...] --test FOLDER [FOLDER ...] --out FILE

A folder of `--test` that has the stills `mini` is trained on counts with its held-out places only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bglora.assets import asset
from bglora.assets.train_mini import stills
from bglora.nets.still_judge import CELL, PLACES, SIDE, StillJudge, load_judge

STEPS, PEAK_RATE, SEED = 2400, 1.5e-3, 5
PAINTED = 128  # the side of the pictures that are judged, as `mini` paints them
PAIRS, PASTED, SINGLES = 4, 2, 4
"""Of a batch: cameras with and without their character, empty stills with and without one pasted in, parts alone."""
MIXED = 0.25
"""Share of a batch that gets a half of another still (Yun et al. 2019, CutMix): other surroundings, same characters."""
NEAREST = 2.0
VISIBLE = 0.01
"""Share of the picture from which a character counts as there, about 13 x 13 of PAINTED x PAINTED pixels; a still
that shows less of one, but not nothing, is left out of training and measurement."""


@dataclass(frozen=True)
class Example:
    """A still (256, 256, 3), uint8, the number of its place, and where its character is (256, 256), None: unknown.

    `name` is the file's, without its ending; `soft` stills went through the decoder of `mini`.
    """

    picture: NDArray[np.uint8]
    place: int
    character: bool
    mask: NDArray[np.float32] | None
    name: str = ""
    soft: bool = False


class Drawn(NamedTuple):
    """What a batch has of a still: pixels in -1..1, cells (-1: unknown), whether somebody is there, its weight."""

    pixels: NDArray[np.float32]
    cells: NDArray[np.float32]
    label: float
    weight: float
    place: int


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
            examples.append(
                Example(pictures[line["file"]], PLACES.index(line["place"]), line["has_character"], mask, stem)
            )
    return examples


def thinned(examples: list[Example]) -> list[Example]:
    """All examples of every third camera, so that a character keeps its still without it."""
    cameras = set(sorted({example.name[:-1] for example in examples})[::3])
    return [example for example in examples if example.name[:-1] in cameras]


def examples_of(pictures: list[stills.Still]) -> list[Example]:
    """Stills that `mini` itself is trained on, with where they differ from their empty camera, for its critic."""
    empty = stills.empty_cameras(pictures)
    found = []
    for still in pictures:
        seen = np.asarray(stills.pixels(still))
        mask = None
        if still.character is None:
            mask = np.zeros(seen.shape[:2], np.float32)
        elif stills.shows_whole_picture(still) and still.pair in empty:
            mask = difference(seen, np.asarray(empty[still.pair]))
        found.append(Example(seen, PLACES.index(still.place), still.character is not None, mask, still.path.stem))
    return found


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
    return replace(empty, picture=picture.clip(0, 255).astype(np.uint8), character=True, mask=where)


def without(example: Example, empty: Example) -> tuple[Example, Example]:
    """A still with a character and the same camera without it."""
    return example, replace(empty, mask=np.zeros((256, 256), np.float32))


def draw(examples: tuple[Example, ...], rng: np.random.Generator) -> list[Drawn]:
    """The same random part of stills of one camera, the first of which says where to look, in the same light."""
    first = examples[0]
    zoom = 1.0 if rng.random() < 0.35 else float(rng.uniform(1.0, NEAREST))
    if first.mask is None:
        zoom = min(zoom, 1.25)
    side = int(256 / zoom)
    left, top = (int(rng.integers(0, 257 - side)) for _ in range(2))
    if first.mask is not None and first.mask.any() and rng.random() < 0.8:
        rows, columns = np.nonzero(first.mask)
        at = rng.integers(len(rows))
        left, top = (int(np.clip(c - rng.uniform(0.2, 0.8) * side, 0, 256 - side)) for c in (columns[at], rows[at]))
    part = (slice(top, top + side), slice(left, left + side))
    mirrored, blur = rng.random() < 0.5, float(rng.uniform(0.5, 3.0)) if rng.random() < 0.5 else 0.0
    gamma, tint = float(np.exp(rng.normal(0, 0.25))), np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    found = []
    for example in examples:
        method = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
        pixels = cv2.resize(example.picture[part], (SIDE, SIDE), interpolation=method)
        light = (np.arange(256, dtype=np.float32) / 255)[:, None] ** gamma * tint  # a table of all brightnesses
        colors = np.stack([light[:, c].clip(0, 1)[pixels[..., c]] for c in range(3)], axis=2) * 2 - 1
        if blur and not example.soft:
            colors = cv2.GaussianBlur(colors, (0, 0), blur)
        colors = colors + 0.03 * rng.standard_normal(colors.shape, dtype=np.float32)
        cells = np.full((SIDE // CELL,) * 2, -1.0, np.float32)
        label, weight = float(example.character), 1.0
        if example.mask is not None:
            seen = example.mask[part]
            cells = cv2.resize(seen, cells.shape, interpolation=cv2.INTER_AREA)
            label = float(seen.mean() >= VISIBLE)
            weight = float(label == 1.0 or not seen.any())
        if mirrored:
            colors, cells = colors[:, ::-1], cells[:, ::-1]
        found.append(Drawn(np.ascontiguousarray(colors), np.ascontiguousarray(cells), label, weight, example.place))
    return found


def recoded(examples: list[Example], vae: Any) -> list[Example]:
    """The examples as the decoder of `mini` paints them, enlarged again."""
    found = []
    for example in examples:
        small = cv2.resize(example.picture, (PAINTED, PAINTED), interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        with torch.inference_mode():
            painted = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0].permute(1, 2, 0).numpy()
        picture = (np.clip(painted * 0.5 + 0.5, 0, 1) * 255).round().astype(np.uint8)
        large = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)
        found.append(replace(example, picture=np.asarray(large, np.uint8), soft=True))
    return found


def mix(first: Drawn, second: Drawn, rng: np.random.Generator) -> Drawn:
    """The larger part of `first` beside a part of `second`; both must know their cells."""
    cells, axis = first.cells.shape[0], int(rng.integers(2))
    cut = int(rng.integers(cells // 2, cells - 2))
    seam = [slice(None), slice(None)]
    seam[axis] = slice(cut * CELL, None)
    pixels, mask = first.pixels.copy(), first.cells.copy()
    pixels[tuple(seam)] = second.pixels[tuple(seam)]
    seam[axis] = slice(cut, None)
    mask[tuple(seam)] = second.cells[tuple(seam)]
    label = float(mask.mean() >= VISIBLE)
    return Drawn(pixels, mask, label, float(label == 1.0 or not mask.any()), first.place)


class Batches:
    """Draws batches in which a still with a character stands beside the same still without it.

    So what tells them apart is the character and nothing else that happens to go with it.
    """

    def __init__(self, examples: list[Example]) -> None:
        empty = {(e.name, e.soft): e for e in examples if e.name.endswith("a")}
        twins = [(e, empty.get((e.name[:-1] + "a", e.soft))) for e in examples if e.character and e.mask is not None]
        self.pairs = [[(e, a) for e, a in twins if a is not None and e.place == place] for place in range(len(PLACES))]
        self.empty = [[e for e in examples if not e.character and e.place == place] for place in range(len(PLACES))]
        self.parts = [[e for e in examples if e.name[-1] in letters] for letters in ("fg", "bc")]
        self.cuts = cutouts(examples)

    def draw(self, rng: np.random.Generator) -> list[Drawn]:
        found: list[Drawn] = []
        for number in range(PAIRS):
            pairs = self.pairs[number % len(PLACES)]
            found += draw(without(*pairs[int(rng.integers(len(pairs)))]), rng)
        for _ in range(PASTED):
            empty = self.empty[int(rng.integers(len(PLACES)))]
            ground = empty[int(rng.integers(len(empty)))]
            cuts = self.cuts[PLACES[ground.place] == "sea floor"]
            found += draw((paste(ground, cuts[int(rng.integers(len(cuts)))], rng), ground), rng)
        for number in range(SINGLES):
            parts = self.parts[number % 2]
            found += draw((parts[int(rng.integers(len(parts)))],), rng)
        known = [number for number, drawn in enumerate(found) if drawn.cells.min() >= 0]
        for number in rng.choice(known, size=int(MIXED * len(found)), replace=False):
            found[number] = mix(found[number], found[int(rng.choice(known))], rng)
        return found


def train(examples: list[Example], steps: int = STEPS, start: Path | None = None, seed: int = SEED) -> StillJudge:
    """Cross-entropy of the place, of the character, and of every cell where it is known; goes on from `start`."""
    torch.manual_seed(seed)
    net = load_judge(start).train() if start else StillJudge()
    layout: Any = {"memory_format": torch.channels_last}  # the fastest on a CPU; the stubs do not know it
    net.to(**layout)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    batches, losses = Batches(examples), []
    for step in range(steps):
        loss = _loss(net, batches.draw(np.random.default_rng([seed, step, int(start is not None)])))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rates.step()
        losses.append(float(loss.detach()))
        if step % 100 == 99:
            print(f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}", flush=True)
    return net.eval()


def _loss(net: StillJudge, drawn: list[Drawn]) -> Tensor:
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    pixels, masks, labels, weights, kinds = (torch.tensor(np.array(values)) for values in zip(*drawn, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        places, cells = net(pixels.permute(0, 3, 1, 2))
    places, cells = places.float(), cells.float()
    known = (masks >= 0).float()
    weighted = known * (1 + 4 * masks.clamp(min=0))
    by_cell = (binary(cells, masks.clamp(0, 1), reduction="none") * weighted).sum() / weighted.sum()
    there = (binary(net.character(cells), labels.float(), reduction="none") * weights).mean()
    return 0.5 * torch.nn.functional.cross_entropy(places, kinds) + there + 2 * by_cell


def clear(examples: list[Example]) -> list[Example]:
    """Without the stills of whose character less than VISIBLE is seen: hidden behind something, or far away.

    Where it stands is known of whole stills, from the same camera without it; other stills with a character stay.
    """
    return [e for e in examples if not e.character or e.mask is None or e.mask.mean() >= VISIBLE]


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
    save(train(examples + recoded(thinned(examples), vae), options.steps, options.start), options.out)
    test = clear(read_examples(options.test))
    place, character = measure(load_judge(options.out), test)
    print(
        f"{len(examples)} stills; {len(test)} others: place right {place.mean():.1%}, character {character.mean():.1%}"
    )


if __name__ == "__main__":
    main()
