"""LaMa on the CPU: the full-size generator with random weights, beside a TorchScript file run picture by picture.

    python -m tests.bench.lama [--threads N] [--size 512x288] [--rounds N]

The other side does what the package simple-lama-inpainting does: a plain generator (batch norms as layers, channels
first, each convolution with its own padding) saved as TorchScript, loaded with torch.jit.load, called with one picture
at a time. Both fill the same pictures in turn, in one process.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bglora.nets import ffc, folded, lama
from bglora.nets.lama_pictures import padded
from tests.backends import tiny_lama
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.lama"
TARGET = 1.3
Pictures = Sequence[np.ndarray]
Fill = Callable[[Pictures, Pictures], list[np.ndarray]]


class Exported(nn.Module):
    """What the published TorchScript file computes: masks, generates, blends."""

    def __init__(self, generator: ffc.Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, 3, H, W) in 0..1, mask (B, 1, H, W), 1 in holes."""
        output = self.generator(torch.cat([image * (1 - mask), mask], 1))
        return mask * output + (1 - mask) * image


def one_by_one(generator: ffc.Generator, height: int, width: int, where: torch.device | None = None) -> Fill:
    """The loop of simple-lama-inpainting 0.1.2 around a TorchScript file, on a device."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = torch.rand(1, 3, height, width), torch.rand(1, 1, height, width)
        torch.jit.save(torch.jit.trace(Exported(generator), example, check_trace=False), file)
        file.seek(0)
        script = torch.jit.load(file, map_location=where or "cpu").eval()

    def fill(pictures: Pictures, holes: Pictures) -> list[np.ndarray]:
        made = []
        for picture, hole in zip(pictures, holes, strict=True):
            image = padded(picture, 8, 8).transpose(2, 0, 1).astype(np.float32) / 255
            mask = torch.from_numpy((padded(hole, 8, 8)[None, None] > 0).astype(np.float32))
            with torch.inference_mode():
                given = torch.from_numpy(image)[None].to(where), mask.to(where)
                result = script(*given)[0].permute(1, 2, 0).cpu().numpy()
            made.append(np.clip(result * 255, 0, 255).astype(np.uint8))
        return made

    return fill


def off_by(made: Pictures, other: Pictures, holes: Pictures) -> tuple[int, float]:
    """Largest difference of 8-bit values inside the holes, and the share of them that differ."""
    inside = np.stack(holes)
    off = np.abs(np.stack(made)[inside].astype(int) - np.stack(other)[inside].astype(int))
    return int(off.max()), float((off > 0).mean())


def pictures(count: int, height: int, width: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random pictures, each with a hole of a fifth of its pixels."""
    random = np.random.default_rng(1)
    holes = []
    for _ in range(count):
        hole = np.zeros((height, width), bool)
        top, left = (int(random.integers(0, length // 2)) for length in (height, width))
        hole[top : top + int(height * 0.45), left : left + int(width * 0.45)] = True
        holes.append(hole)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)], holes


def seconds(
    fills: dict[str, Fill], many: Pictures, holes: Pictures, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds a picture, the engines in turn; the first round only warms up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in fills}
    for number in range(rounds + 1):
        for name, fill in fills.items():
            cpu, wall = time.process_time(), time.perf_counter()
            fill(many, holes)
            spent = (time.process_time() - cpu) / len(many), (time.perf_counter() - wall) / len(many)
            if number:
                taken[name].append(spent)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--size", default="512x288", help="width x height")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = (int(length) for length in options.size.split("x"))
    generator = tiny_lama.generator(1, width=64, blocks=18)
    ours, cpu = lama.Lama(generator, torch.device("cpu"), torch.float32), torch.device("cpu")
    folded.WINOGRAD_FROM = 10**6
    direct = lama.Lama(generator, cpu, torch.float32)
    fills: dict[str, Fill] = {
        "TorchScript, one by one": one_by_one(generator, height, width),
        "bglora, convolutions as they stand": direct.fill,
        "bglora": ours.fill,
    }
    many, holes = pictures(2, height, width)
    made = {name: fill(many, holes) for name, fill in fills.items()}
    taken = seconds(fills, many, holes, options.rounds)
    base = "TorchScript, one by one"
    rows = []
    for name, spent in taken.items():
        ratios = [statistics.median(b[k] / s[k] for b, s in zip(taken[base], spent, strict=True)) for k in (0, 1)]
        largest, share = off_by(made[name], made[base], holes)
        figures = [f"{statistics.median(one[k] for one in spent):.2f}" for k in (0, 1)]
        rows.append([name, *figures, *(f"{ratio:.2f}" for ratio in ratios), f"{largest}", f"{share:.3%}"])
    head = [f"{width} x {height}, {options.threads} threads", "CPU s a picture", "wall s", "× as fast (CPU)"]
    head += ["× as fast (wall)", "largest difference", "of the hole's values differ"]
    note = f"""\
The full-size generator (50,975,875 weights, random; batch norms fitted, so that every layer's values spread). Times are
medians of {options.rounds} rounds in which the three take turns, ratios the medians of each round's; differences are of
8-bit values inside the holes. "As they stand": batch norms folded, convolutions of one input joined, channels last,
no copies between layers, the last convolution by blocks of 2 x 2 pixels, which turns its 3 outputs into 12. bglora does
the 3 x 3 convolutions of the residual blocks by Winograd's filtering besides: they are 70 % of the arithmetic, oneDNN
runs them near the peak of the processor's multiply-adds, and filtering needs a quarter of these. Target: {TARGET} ×."""
    command = COMMAND if options.threads == os.cpu_count() else f"{COMMAND} --threads {options.threads}"
    write_section("LaMa on the CPU", command, table(head, rows), note)
    if ratios[0] < TARGET:
        raise SystemExit(f"bglora is {ratios[0]:.2f} times as fast, {TARGET} wanted")


if __name__ == "__main__":
    main()
