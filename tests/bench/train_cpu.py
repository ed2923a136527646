"""The trainer on a CPU, beside a plain loop and beside the floor, in one run.

    python -m tests.bench.train_cpu [--dims 16,128] [--batches 1,4] [--rounds N] [--threads N]

All three train on the same batches of an SDXL-shaped U-Net with random weights (32 x 32 latents) and take turns. First
ours and the plain loop go the same steps from the same weights: losses and weights must agree. Then steps are timed in
CPU seconds, and counted with the profiler.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bglora.training.base import Base, load_base
from bglora.training.job import Recipe, TrainJob, TrainPicture
from bglora.training.loop import Training, Watch
from bglora.training.loss import Batch
from tests.bench.plain_loop import Floor, PlainLoop
from tests.bench.table import table, write_section
from tests.training.tiny_base import write_tiny_base

COMMAND = "python -m tests.bench.train_cpu"
TEXT, POOLED = 176, 16
AT_RANK_16, AT_RANK_128 = 1.2, 1.1
OPERATIONS = 30
LOSSES, WEIGHTS = 1e-5, 1e-3


def sdxl_shaped_unet() -> Any:
    """SDXL's blocks at a fifth of its widths, and 1 and 3 transformer layers where it has 2 and 10."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unets: Any = UNet2DConditionModel
    unet = unets(
        sample_size=32,
        block_out_channels=(64, 128, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2, 4),
        transformer_layers_per_block=(1, 1, 3),
        cross_attention_dim=TEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=64,
        projection_class_embeddings_input_dim=6 * 64 + POOLED,
    )
    unet.requires_grad_(False)
    return unet.eval()


def base_of(unet: Any, folder: Path) -> Base:
    """The tests' tiny base (text encoders, VAE) around the U-Net."""
    base = load_base(str(write_tiny_base(folder, prediction_type="epsilon", second=TEXT - 16)))
    base.pipeline.unet = unet
    return base


def training_of(base: Base, recipe: Recipe, folder: Path) -> Training:
    """Eight random pictures, nothing held out, no sample pictures."""
    pictures = []
    for number in range(8):
        path = folder / f"{number}.png"
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(path)
        pictures.append(TrainPicture(str(number), path, f"trig, background, view {number}"))
    job = TrainJob(
        scene="scene-00",
        title="",
        trigger="trig",
        base=base.name,
        pictures=tuple(pictures),
        held_out=(),
        dataset=folder,
        repeats=40,
        flip=True,
        keep_tokens=1,
        created="",
        recipe=recipe,
    )
    watch = Watch(lambda done, total, text: None, lambda: False)
    return Training(job, base, folder / "state", folder / "samples", watch)


@dataclass
class Sides:
    """The three that are compared, on the same batches."""

    ours: Training
    plain: PlainLoop
    floor: Floor
    start: dict[str, Tensor]
    names: dict[str, str]

    def batch(self, step: int) -> Batch:
        """What ours trains on at a step."""
        return self.ours.batch(step, 0, self.ours.plan.batches(step)[0])


def sides(dim: int, batch_size: int, folder: Path) -> Sides:
    unet = sdxl_shaped_unet()
    floor, plain = copy.deepcopy(unet), copy.deepcopy(unet)
    base = base_of(unet, folder / "base")
    recipe = Recipe(
        resolution=256,
        dim=dim,
        alpha=dim / 2,
        batch_size=batch_size,
        accumulation=1,
        epochs=1,
        lr_scheduler="constant",
        samples=0,
        provenance_weights=None,
    )
    ours = training_of(base, recipe, folder)
    paths = {target.path: target.name for target in ours.adapter.targets}
    start = {name: tensor.clone() for name, tensor in ours.parameters.items()}
    downs = {path: start[f"{name}.lora_down.weight"] for path, name in paths.items()}
    return Sides(ours, PlainLoop(plain, base.noise, recipe, downs), Floor(floor, base.noise), start, paths)


def agreement(both: Sides, steps: int) -> tuple[float, float]:
    """Both go the same steps: largest relative difference of a loss, and distance of the final weights as a share of
    the distance travelled."""
    off = 0.0
    for step in range(steps):
        theirs, own = both.plain.step(both.batch(step)), float(both.ours.descend(step))
        off = max(off, abs(own - theirs) / theirs)
    apart = travelled = 0.0
    for path, name in both.names.items():
        for kind, theirs in zip(("down", "up"), both.plain.weights(path), strict=True):
            key = f"{name}.lora_{kind}.weight"
            apart += float((both.ours.parameters[key] - theirs).square().sum(dtype=torch.float64))
            travelled += float((theirs - both.start[key]).square().sum(dtype=torch.float64))
    return off, (apart / travelled) ** 0.5


def seconds(runs: dict[str, Callable[[int], object]], first: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each, in turn, in an order that changes; one round more warms up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            begun = time.process_time()
            runs[name](first + number)
            if number:
                taken[name].append(time.process_time() - begun)
    return taken


def counted(run: Callable[[], object]) -> tuple[int, int]:
    """Reads of a number out of a tensor, and leaf operations inside the range named `optimizer`, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    events = list(seen.events())
    reads = sum(event.name in ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero") for event in events)
    leaves = 0
    for event in events:
        above = event.cpu_parent
        while above is not None and above.name != "optimizer":
            above = above.cpu_parent
        is_operation = event.name.startswith("aten::") and not event.cpu_children
        leaves += above is not None and is_operation
    return reads, leaves


def products(both: Sides) -> int:
    """Floating point operations of the adapter's own products on the last batch: for each layer two products forward
    and four backward."""
    rows = both.floor.rows()
    layers = both.ours.adapter.layers
    slots = {path: layers[name].slot for path, name in both.names.items()}
    return sum(3 * 2 * rows[path] * (slot.down.numel() + slot.up.numel()) for path, slot in slots.items())


def flop_of(run: Callable[[], object]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Case:
    """One line of the table; seconds are medians, `share` those of each round's ratios."""

    dim: int
    batch: int
    floor: float
    plain: float
    ours: float
    plain_share: float
    share: float
    update: float
    floor_flop: int
    own_flop: int
    off: tuple[float, float]
    reads: tuple[int, int]
    operations: tuple[int, int]

    @property
    def allowed(self) -> float:
        """Most that a step may cost, as a share of the floor."""
        if self.dim <= 16:
            return AT_RANK_16
        return AT_RANK_128 * (1 + self.own_flop / self.floor_flop)

    def row(self) -> list[str]:
        def marked(text: str, good: bool) -> str:
            return text if good else f"**{text} ✗**"

        return [
            f"rank {self.dim}, batch {self.batch}",
            f"{self.floor * 1e3:.0f}",
            f"{self.plain * 1e3:.0f}",
            f"{self.ours * 1e3:.0f}",
            f"{self.plain_share:.2f}",
            marked(f"{self.share:.2f}", self.share <= self.allowed),
            f"{self.allowed:.2f}",
            f"{self.floor_flop / 1e9:.1f}",
            f"{self.own_flop / 1e9:.1f}",
            f"{self.update * 1e3:.0f}",
            marked(f"{self.off[0]:.0e}", self.off[0] <= LOSSES),
            marked(f"{self.off[1]:.0e}", self.off[1] <= WEIGHTS),
            f"{self.reads[1]}",
            marked(f"{self.reads[0]}", not self.reads[0]),
            f"{self.operations[1]}",
            marked(f"{self.operations[0]}", self.operations[0] <= OPERATIONS),
        ]


HEAD = ["ms of CPU time a step", "floor", "plain loop", "bglora", "plain loop / floor", "bglora / floor", "asked"]
HEAD += ["GFLOP floor", "GFLOP adapter", "of bglora's, optimizer ms", "losses differ", "weights differ"]
HEAD += ["plain loop reads", "bglora reads", "plain loop optimizer operations", "bglora optimizer operations"]


def measure(dim: int, batch: int, steps: int, rounds: int, folder: Path) -> Case:
    both = sides(dim, batch, folder)
    try:
        off = agreement(both, steps)
        runs: dict[str, Callable[[int], object]] = {
            "floor": lambda step: both.floor.step(both.batch(step)),
            "plain": lambda step: both.plain.step(both.batch(step)),
            "ours": both.ours.descend,
            "update": lambda step: both.ours.learner.update(1e-4),
        }
        taken = seconds(runs, steps, rounds)
        at = steps + rounds + 1
        ours, plain = counted(lambda: both.ours.descend(at)), counted(lambda: both.plain.step(both.batch(at)))
        floor = flop_of(lambda: both.floor.step(both.batch(at)))
        own = products(both)
    finally:
        both.ours.adapter.detach()
    middle = {name: statistics.median(values) for name, values in taken.items()}
    shares = {
        name: statistics.median(one / least for one, least in zip(taken[name], taken["floor"], strict=True))
        for name in ("plain", "ours")
    }
    return Case(
        dim,
        batch,
        middle["floor"],
        middle["plain"],
        middle["ours"],
        shares["plain"],
        shares["ours"],
        middle["update"],
        floor,
        own,
        off,
        (ours[0], plain[0]),
        (ours[1], plain[1]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", default="16,128")
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--steps", type=int, default=5, help="steps that both go from the same weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = []
    for dim in map(int, options.dims.split(",")):
        for batch in map(int, options.batches.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                cases.append(measure(dim, batch, options.steps, options.rounds, Path(folder)))
            print(*cases[-1].row(), sep=" | ", flush=True)
    write_section("Training on the CPU", COMMAND, table(HEAD, [case.row() for case in cases]), note(options))


def note(options: argparse.Namespace) -> str:
    unet = sdxl_shaped_unet()
    size = sum(parameter.numel() for parameter in unet.parameters())
    return f"""\
A U-Net of {size / 1e6:.1f} M parameters in SDXL's form (random weights, 252 adapted layers, 32 x 32 latents), fp32,
{options.threads} thread. Floor: a forward pass of the frozen U-Net and the backward pass of its activations down to the
first adapted layer, no adapter. Plain loop: diffusers, peft and accelerate, as diffusers' own SDXL LoRA example; its
batches come from ours, for nothing. Ours is the product's own step with all that belongs to it. The three take turns in
one process; times are medians of {options.rounds} rounds, ratios the medians of each round's. Asked: at rank 16
{AT_RANK_16} x the floor, at rank 128 {AT_RANK_128} x the floor and the adapter's products (two forward, four backward
for each layer) at the floor's own speed; the optimizer is given nothing for. Agreement: both go {options.steps} steps
from the same weights with the same batches; the largest relative difference of a loss (asked: {LOSSES:g}), and the
distance of the final weights as a share of the distance travelled (asked: {WEIGHTS:g}). Reads: numbers read out of
tensors in one step between log lines, and optimizer operations: leaf operations of clipping and stepping (at most
{OPERATIONS}), both counted by torch's profiler."""


if __name__ == "__main__":
    main()
