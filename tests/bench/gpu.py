"""The studio's networks at full size, with random weights: pictures a second, memory, and how much of the card is used.

    python -m tests.bench.gpu [--only lama,brushnet,sam2,openclip] [--short]
    python -m tests.bench.gpu --memory
    python -m tests.bench.gpu --training [--short]

On a card figures stand beside a plain way of doing the same in the same run, and beside the card's own matrix peak,
which is measured first. Each network has a process to itself. Without a card, or with `--short`, a short form runs
where it is: small pictures, few steps, one thread; only LaMa's comparison means something there. `--memory` counts
what every stage takes, on shapes alone. `--training` times the trainer's step (`tests.bench.gpu_training`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bglora.nets.device import device
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.gpu"
NETWORKS = ("lama", "brushnet_sd15", "brushnet_sdxl", "sam2", "openclip")
HEAD = ["what", "per second", "seconds each", "× the plain way", "of the matrix peak", "peak memory GB"]
NOTE = """\
Networks at their published sizes with random weights, each in a process of its own. Work is counted as convolutions,
matrix products and attention of the plain network; Fourier transforms are not counted, and filtering that saves
products counts as what it saves. The plain ways: LaMa as a TorchScript file picture by picture, as
simple-lama-inpainting does it; BrushNet and its UNet each run twice a step, with the prompt and without."""
TARGETS = """\
On an H200 LaMa shall reach 200 pictures a second at batch 16, BrushNet on Stable Diffusion 1.5 3 at 8 steps and 1 at
50, SAM 2 large 60 frames."""


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is.

    Attributes:
        lama, brushnet: height and width of the pictures.
        batches: of LaMa. pictures: how many each of them fills.
        painted: batches of BrushNet. steps: of denoising.
        frames: for SAM 2. looks: pictures that OpenCLIP looks at together.
        rounds: how often each is timed, after one that is not.
    """

    lama: tuple[int, int]
    brushnet: tuple[int, int]
    batches: tuple[int, ...]
    pictures: int
    painted: tuple[int, ...]
    steps: tuple[int, ...]
    frames: int
    looks: int
    rounds: int


FULL = Scale((576, 1024), (576, 1024), (1, 8, 16), 64, (1, 4), (50, 8), 64, 64, 3)
SHORT = Scale((288, 512), (128, 128), (1, 2), 2, (1,), (1,), 2, 2, 1)


@dataclass(frozen=True)
class Measured:
    """One line of the table.

    Attributes:
        what: is measured, for people.
        each: seconds per picture; 0: it was left out, and `what` says why.
        memory_gb: at the peak.
        flop: work per picture, if it was counted.
        plain: seconds per picture of the plain way, if there is one.
    """

    what: str
    each: float
    memory_gb: float = 0.0
    flop: float = 0.0
    plain: float = 0.0

    def row(self, peak: float) -> list[str]:
        """Cells of the table; `peak` in FLOP/s."""
        if not self.each:
            return [self.what, *["–"] * 5]
        share = f"{self.flop / self.each / peak:.0%}" if self.flop else ""
        ratio = f"{self.plain / self.each:.2f}" if self.plain else ""
        return [self.what, f"{1 / self.each:.2f}", f"{self.each:.4f}", ratio, share, f"{self.memory_gb:.2f}"]


def clock(where: torch.device) -> float:
    """Seconds: of the wall, once a card has done what it was told; of this process on a CPU that others use, too."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
        return time.perf_counter()
    return time.process_time()


def timed(
    what: str, run: Callable[[], object], pictures: int, rounds: int, *, flop: float = 0.0, plain: float = 0.0
) -> Measured:
    """Best of some rounds, after one for warming up."""
    where = device()
    run()
    forget_peak(where)
    best = float("inf")
    for _ in range(rounds):
        start = clock(where)
        run()
        best = min(best, clock(where) - start)
    return Measured(what, best / pictures, memory_gb(where), flop, plain)


def forget_peak(where: torch.device) -> None:
    """The peak of memory is measured from now on."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def memory_gb(where: torch.device) -> float:
    """Peak of the card, or of this process on a CPU, since `forget_peak`."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where) / 2**30
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**30


def flop_of(run: Callable[[], object]) -> float:
    """Floating point operations of a call, multiplications and additions apart; convolutions, matrices, attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def matrix_peak(where: torch.device, kind: torch.dtype) -> float:
    """FLOP/s of a large matrix product: what the device can do at best."""
    side = 8192 if where.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=where, dtype=kind) for _ in range(2))
    return 2 * side**3 / timed("", lambda: a @ b, 1, 10).each


def alone(network: str, short: bool) -> Iterator[Measured]:
    """The lines of one network, measured in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "tests.bench.gpu", "--one", network, *(["--short"] if short else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                yield Measured(**json.loads(line))
    if child.returncode:
        raise SystemExit(f"{network} failed")


def one(network: str, scale: Scale) -> None:
    """Prints the lines of one network as JSON."""
    from tests.bench import gpu_networks

    for measured in gpu_networks.MEASURES[network](scale):
        print(json.dumps(asdict(measured)), flush=True)


def everything(short: bool, only: Sequence[str]) -> None:
    """Measures network after network and writes the table."""
    where = device()
    kind = torch.bfloat16 if where.type == "cuda" else torch.float32
    peak = matrix_peak(where, kind)
    rows = []
    for network in NETWORKS:
        if only and not any(network.startswith(name) for name in only):
            continue
        for measured in alone(network, short):
            rows.append(measured.row(peak))
            print(*rows[-1], sep=" | ", flush=True)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else "the processor, one thread, CPU seconds"
    number = str(kind).removeprefix("torch.")
    note = f"On {card}; matrix peak measured first: {peak / 1e12:.2f} TFLOP/s in {number}. {NOTE}"
    title = "Networks of the studio" + (" (short form)" if short else "")
    flags = (f" --only {','.join(only)}" if only else "") + (" --short" if short else "")
    write_section(title, COMMAND + flags, table(HEAD, rows), note if short else f"{note} {TARGETS}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"networks, by comma, of {', '.join(NETWORKS)}")
    parser.add_argument("--short", action="store_true", help="small pictures, few steps")
    parser.add_argument("--memory", action="store_true", help="count the memory of every stage instead")
    parser.add_argument("--training", action="store_true", help="time the trainer's step instead")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    short = options.short or device().type != "cuda"
    if device().type != "cuda":
        torch.set_num_threads(1)
    if options.memory:
        from tests.bench import gpu_memory

        gpu_memory.main()
    elif options.training or options.case is not None:
        from tests.bench import gpu_training

        if options.training:
            gpu_training.everything(short)
        else:
            gpu_training.print_case(options.case, short)
    elif options.one:
        # On a card the short form is for trying the benchmark itself.
        one(options.one, SHORT if short else FULL)
    else:
        everything(short, [name for name in options.only.split(",") if name])


if __name__ == "__main__":
    main()
