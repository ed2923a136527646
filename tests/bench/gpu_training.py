"""The trainer on a card: `python -m tests.bench.gpu --training`, the table of `tests.bench.gpu` for the stage `train`.

Ours beside the plain loop of `tests.bench.plain_loop`, on SDXL's U-Net with random weights, each case in a process of
its own. Without a card, or with `--short`, the same lines are measured on the small U-Net of `tests.bench.train_cpu`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bglora.errors import MachineError
from bglora.nets.device import device, give_back
from bglora.training import memory, network, shapes
from bglora.training.adapter import draw_down
from bglora.training.base import Base
from bglora.training.job import Recipe
from bglora.training.learner import Learner
from bglora.training.loss import Batch
from bglora.training.modules import unet_layers
from bglora.training.quantized import quantize
from tests import full_size
from tests.bench.gpu import clock, flop_of, forget_peak, matrix_peak, memory_gb
from tests.bench.gpu_networks import on_device
from tests.bench.plain_loop import PlainLoop
from tests.bench.table import table, write_section
from tests.bench.train_cpu import sdxl_shaped_unet

COMMAND = "python -m tests.bench.gpu --training"
FLOORS = {1024: 20.6, 512: 4.7}
"""Milliseconds of a step at batch 1, rank 128, without checkpointing, at `FLOOR_PEAK`."""
FLOOR_PEAK = 790e12
TARGETS = {1024: 55.0, 512: 15.0}
"""Milliseconds that such a step shall take at most on an H200."""
GB = {"none": 12.0, "int8": 8.0, "nf4": 8.0}
"""What SDXL at 1024 shall take at most with checkpointing, by how the base is held."""
WARMING, ROUNDS, SHORT_ROUNDS = 3, 10, 1
NOTE = """\
SDXL's U-Net with random weights (in short form the small one of `tests.bench.train_cpu`), AdamW, each line in a process
of its own, both sides in it one after the other from the same weights on the same batches; times are the best of some
steps after three. Floor: forward and the way back of the frozen network at this device's peak. Of the matrix peak: that
work alone; the LoRA's own products and what checkpointing computes again are not counted. GB: of the device, or of the
whole process on a CPU; U-Net, LoRA, optimizer and step, without VAE and text encoders. Counted: what
`bglora.training.memory` expects of that. Recorded: whether the step is a CUDA graph, or why not."""

NOT_MEASURED = """\
Not measured by this form: the targets on an H200, 55 ms a step at 1024 and 15 ms at 512 (batch 1, rank 128, no
checkpointing; floors 20.6 and 4.7 ms), and 12 GB at 1024 with checkpointing, 8 GB on a quantized base. The full form
measures them on a card; what memory they take by counting stands under "Memory of the studio's stages"."""


@dataclass(frozen=True)
class Case:
    """One line: side of the pictures, and the recipe's sizes."""

    side: int
    batch: int
    dim: int
    checkpointing: bool = False
    quantization: str = "none"

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            resolution=self.side,
            dim=self.dim,
            alpha=self.dim / 2,
            batch_size=self.batch,
            accumulation=1,
            lr_scheduler="constant",
            provenance_weights=None,
            gradient_checkpointing=self.checkpointing,
            base_quantization=self.quantization,  # type: ignore[arg-type]
            samples=0,
        )

    @property
    def name(self) -> str:
        more = [", checkpointing"] if self.checkpointing else []
        more += [f", base in {self.quantization}"] if self.quantization != "none" else []
        return f"{self.side} x {self.side}, batch {self.batch}, rank {self.dim}{''.join(more)}"

    def most_ms(self, peak: float) -> float:
        """Milliseconds that are asked for; 0: none are, or not of a device like this."""
        return TARGETS.get(self.side, 0.0) if self.is_floors and peak > FLOOR_PEAK / 2 else 0.0

    @property
    def most_gb(self) -> float:
        """GB that are asked for; 0: none are."""
        return GB[self.quantization] if self.side == 1024 and self.checkpointing and self.dim <= 32 else 0.0

    @property
    def is_floors(self) -> bool:
        return (self.batch, self.dim, self.checkpointing, self.quantization) == (1, 128, False, "none")


HEAD = ["step", "bglora ms", "plain loop ms", "plain / bglora", "floor ms", "of the matrix peak", "bglora GB"]
HEAD += ["plain loop GB", "counted GB", "recorded", "first losses differ"]


def cases(short: bool) -> Iterator[Case]:
    """At full size 512 and 1024; in short 128, and 256 of the small U-Net where memory is asked for."""
    for side in (128,) if short else (512, 1024):
        for batch in (1, 4):
            for dim in (16, 128):
                for checkpointing in (False, True):
                    yield Case(side, batch, dim, checkpointing)
    largest = 256 if short else 1024
    yield Case(largest, 1, 32, True)
    for quantization in ("int8", "nf4"):
        yield Case(largest, 1, 32, True, quantization)


def unet_of(short: bool) -> Any:
    """SDXL's U-Net, or the small one, with random weights on the device: the same whenever it is made."""
    if short:
        return sdxl_shaped_unet().to(device())
    return on_device(partial(full_size.unet, "sdxl"), torch.bfloat16 if device().type == "cuda" else torch.float32)


@dataclass(frozen=True)
class UnetAlone:
    """Stands for a pipeline: a step touches neither VAE nor text encoders."""

    unet: Any


def base_of(unet: Any) -> Base:
    """A U-Net as a base, with SDXL's noise."""
    import diffusers

    schedules: Any = diffusers.DDPMScheduler
    noise = schedules(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    return Base("random", UnetAlone(unet), str(device()), noise)


def batch_of(case: Case, base: Base, seed: int) -> Batch:
    """Random latents and words, noised by the base's own schedule."""
    config, rows, cells, where = base.unet.config, case.batch, case.side // 8, base.device
    draw = torch.Generator().manual_seed(seed)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).to(where)

    latents, noise = random(rows, 4, cells, cells), random(rows, 4, cells, cells)
    times = torch.randint(0, 1000, (rows,), generator=draw).to(where)
    return Batch(
        latents=latents,
        noise=noise,
        noisy=base.noise.add_noise(latents, noise, times),
        weights=torch.ones(rows, 1, cells, cells, device=where),
        timesteps=times,
        time_ids=torch.full((rows, 6), float(case.side), device=where),
        states=random(rows, 77, config.cross_attention_dim).to(base.unet.dtype),
        pooled=random(rows, pooled).to(base.unet.dtype),
    )


@dataclass(frozen=True)
class Side:
    """One of the two: seconds of a step, GB at its peak, and its first losses. No seconds: `why`."""

    seconds: float = 0.0
    gb: float = 0.0
    losses: tuple[float, ...] = ()
    why: str = ""


def ours(case: Case, short: bool, rounds: int) -> Side:
    """The product's own step, recorded on a card where it can be."""
    recipe, unet = case.recipe, unet_of(short)
    try:
        quantize(unet, recipe.base_quantization, device())
    except MachineError as error:
        return Side(why=str(error.what))
    base = base_of(unet)
    adapter = network.create(unet, (), recipe.network, recipe.learning_rates, seed=0)
    learner = Learner(base, adapter, recipe)
    if case.checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    found = timed_side(lambda batch: learner.descend([batch], recipe.learning_rate), case, base, rounds)
    recorded = learner.graphs is not None and not learner.graphs.reason
    why = "yes" if recorded else (learner.graphs.reason if learner.graphs is not None else learner.not_recorded)
    return replace(found, why=why or "no card")


def plain(case: Case, short: bool, rounds: int) -> Side:
    """diffusers, peft and accelerate, from the same weights."""
    if case.quantization != "none":
        return Side()
    unet = unet_of(short)
    base, layers = base_of(unet), list(unet_layers(unet, convolutions=False))
    start = {layer.path: draw_down(layer.name, (case.dim, layer.module.weight.shape[1]), 0) for layer in layers}
    if case.checkpointing:
        unet.enable_gradient_checkpointing()
    loop = PlainLoop(unet, base.noise, case.recipe, start)
    return timed_side(loop.step, case, base, rounds)


def timed_side(step: Callable[[Batch], Any], case: Case, base: Base, rounds: int) -> Side:
    """The best of some rounds after three, in which a card's kernels are chosen and recorded."""
    where = device()
    losses, taken = [], []
    try:
        for number in range(WARMING + rounds):
            batch = batch_of(case, base, number)
            if number == WARMING:
                forget_peak(where)
            begun = clock(where)
            result = step(batch)
            if number >= WARMING:
                taken.append(clock(where) - begun)
            else:
                losses.append(float(result))
    except (torch.OutOfMemoryError, MemoryError):
        return Side(why="does not fit")
    return Side(min(taken), memory_gb(where), tuple(losses))


def counted_gb(case: Case, base: Base) -> float:
    """What `bglora.training.memory` counts for the U-Net, its LoRA with AdamW's state, and a step."""
    recipe, unet, cells = case.recipe, base.unet, case.side // 8
    shape = shapes.Shape(
        unet=unet.to_json_string(),
        vae="",
        encoders=(),
        dtype=unet.dtype,
        half=base.device != "cpu",
        network=recipe.network,
        latents=(case.batch, 4, cells, cells),
        checkpointing=case.checkpointing,
        quantization=recipe.base_quantization,
    )
    step = shapes.step(shape)
    return (shapes.unet_bytes(shape) + memory.adapter_bytes(step, recipe, shape.half) + step.peak) / memory.GIB


def work(case: Case, base: Base) -> float:
    """Floating point operations of the frozen network: forward, and as many on the way back of its activations."""
    batch = batch_of(replace(case, batch=1), base, 0)
    kind = base.unet.dtype
    added = {"time_ids": batch.time_ids.to(kind), "text_embeds": batch.pooled}
    with torch.no_grad():
        forward = flop_of(
            lambda: base.unet(batch.noisy.to(kind), batch.timesteps, batch.states, added_cond_kwargs=added)
        )
    return 2 * forward * case.batch


@dataclass(frozen=True)
class Line:
    """One line of the table, measured."""

    case: Case
    ours: Side
    plain: Side
    counted: float
    flop: float

    def row(self, peak: float) -> list[str]:
        """Cells of the table; `peak` in FLOP/s."""
        case, own, other = self.case, self.ours, self.plain
        off = max((abs(a - b) / b for a, b in zip(own.losses, other.losses, strict=False)), default=0.0)
        both = bool(own.seconds and other.seconds)
        return [
            case.name,
            asked(own.seconds * 1e3, case.most_ms(peak)) if own.seconds else "–",
            f"{other.seconds * 1e3:.1f}" if other.seconds else "–",
            f"{other.seconds / own.seconds:.2f}" if both else "–",
            f"{FLOORS[case.side] * FLOOR_PEAK / peak:.1f}" if case.is_floors and case.side in FLOORS else "",
            f"{self.flop / own.seconds / peak:.0%}" if own.seconds else "–",
            asked(own.gb, case.most_gb) if own.seconds else "–",
            f"{other.gb:.2f}" if other.seconds else "–",
            f"{self.counted:.2f}",
            own.why,
            f"{off:.0e}" if both else "–",
        ]


def asked(value: float, most: float) -> str:
    """A figure, with what was asked for where it is more."""
    return f"**{value:.2f} ✗ ({most:g})**" if most and value > most else f"{value:.2f}"


def one(case: Case, short: bool, rounds: int) -> Line:
    """Measures a case, the two in turn: a card has not room for both."""
    own = ours(case, short, rounds)
    give_back()
    other = plain(case, short, rounds)
    give_back()
    base = base_of(unet_of(short))
    return Line(case, own, other, counted_gb(case, base), work(case, base))


def line_of(text: str) -> Line:
    """As `one` wrote it."""
    values = json.loads(text)
    sides = {name: Side(**{**values[name], "losses": tuple(values[name]["losses"])}) for name in ("ours", "plain")}
    return Line(Case(**values["case"]), **sides, counted=values["counted"], flop=values["flop"])


def everything(short: bool) -> None:
    """Measures case after case, each in a process of its own, and writes the table."""
    where = device()
    kind = torch.bfloat16 if where.type == "cuda" else torch.float32
    peak = matrix_peak(where, kind)
    rows = []
    for number in range(len(list(cases(short)))):
        command = [sys.executable, "-m", "tests.bench.gpu", "--case", str(number), *(["--short"] if short else [])]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = line_of(next(line for line in child.stdout.splitlines() if line.startswith("{")))
        rows.append(found.row(peak))
        print(*rows[-1], sep=" | ", flush=True)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else "the processor, one thread, CPU seconds"
    numbers = str(kind).removeprefix("torch.")
    note = f"On {card}; matrix peak measured first: {peak / 1e12:.2f} TFLOP/s in {numbers}. {NOTE}"
    note += f"\n\n{NOT_MEASURED}" if short else ""
    title = "Training" + (" (short form)" if short else "")
    write_section(title, COMMAND + (" --short" if short else ""), table(HEAD, rows), note)


def print_case(number: int, short: bool) -> None:
    """Measures one case and prints it as JSON."""
    case = list(cases(short))[number]
    print(json.dumps(asdict(one(case, short, SHORT_ROUNDS if short else ROUNDS))), flush=True)
