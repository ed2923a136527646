"""The studio's networks at full size, with random weights: pictures a second, memory, and how much of the card is used.

    python -m tests.bench.gpu [--only lama,brushnet,sam2,openclip] [--short]

On a card every figure stands beside a plain way of doing the same in the same run, and beside the card's own matrix
peak, which is measured first. Without a card, or with `--short`, a short form runs where it is: small pictures, few
steps; only LaMa's comparison means something there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bglora.nets.device import device
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.gpu"
HEAD = ["what", "per second", "seconds each", "of the matrix peak", "peak memory GB"]


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is.

    Attributes:
        size: height and width of the pictures.
        lama: batches. brushnet: batches. steps: denoising steps.
        frames: for SAM 2. pictures: for OpenCLIP, at once.
        rounds: how often each is timed, after one that is not.
    """

    size: tuple[int, int]
    lama: tuple[int, ...]
    brushnet: tuple[int, ...]
    steps: tuple[int, ...]
    frames: int
    pictures: int
    rounds: int


FULL = Scale((576, 1024), (1, 8, 16), (1, 4), (50, 8), 64, 64, 3)
SHORT = Scale((288, 512), (1, 2), (1,), (1,), 2, 2, 1)


@dataclass(frozen=True)
class Measured:
    """One line of the table: `each` is seconds per picture, `flop` the work per picture if it was counted."""

    what: str
    each: float
    memory_gb: float
    flop: float = 0.0

    def row(self, peak: float) -> list[str]:
        """Cells of the table; `peak` in FLOP/s."""
        share = f"{self.flop / self.each / peak:.0%}" if self.flop else ""
        return [self.what, f"{1 / self.each:.2f}", f"{self.each:.4f}", share, f"{self.memory_gb:.2f}"]


def timed(what: str, run: Callable[[], object], pictures: int, rounds: int, flop: float = 0.0) -> Measured:
    """Best of some rounds, after one for warming up; waits for the card."""
    where = device()
    run()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    best = float("inf")
    for _ in range(rounds):
        settle(where)
        start = time.perf_counter()
        run()
        settle(where)
        best = min(best, time.perf_counter() - start)
    return Measured(what, best / pictures, memory_gb(where), flop)


def settle(where: torch.device) -> None:
    """Waits until the device has done what it was told."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def memory_gb(where: torch.device) -> float:
    """Peak of the card since it was last reset; of the process on a CPU."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


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


def sections(scale: Scale, wanted: Sequence[str]) -> Iterator[Measured]:
    """All lines of the table, network by network; each lets go of its memory before the next begins."""
    from tests.bench import gpu_networks as networks

    for name, measure in networks.MEASURES.items():
        if not wanted or name in wanted:
            yield from measure(scale)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks, by comma")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    where = device()
    short = options.short or where.type != "cuda"
    kind = torch.float32 if where.type == "cpu" else torch.bfloat16
    peak = matrix_peak(where, kind)
    rows = []
    for one in sections(SHORT if short else FULL, [name for name in options.only.split(",") if name]):
        rows.append(one.row(peak))
        print(*rows[-1], sep=" | ", flush=True)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else "the processor"
    note = (
        f"On {card}; matrix peak measured: {peak / 1e12:.2f} TFLOP/s in {str(kind).removeprefix('torch.')}. Networks "
        "at their published sizes with random weights. Peak memory: of the card; without one, of the process so far."
    )
    title = "Networks of the studio" + (" (short form)" if short else "")
    flags = (f" --only {options.only}" if options.only else "") + (" --short" if options.short else "")
    write_section(title, COMMAND + flags, table(HEAD, rows), note)


if __name__ == "__main__":
    main()
