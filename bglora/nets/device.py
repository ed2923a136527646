"""Where a network runs, in which numbers, and what happens when the device's memory is full."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from bglora.errors import MachineError, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

ENVIRONMENT = "BGLORA_DEVICE"
"""Names another device than the one that `device` would take: cpu, cuda, cuda:1."""
CURE = "Take smaller pictures, close what else uses the card, or set BGLORA_DEVICE=cpu"
FULL = ("out of memory", "can't allocate memory", "CUFFT_ALLOC_FAILED", "STATUS_ALLOC_FAILED")
"""What plain errors say where memory is short: the CPU's allocator, cuFFT, cuBLAS and cuDNN have no class of error."""


def device() -> torch.device:
    """The graphics card if there is one, else the CPU; what BGLORA_DEVICE names if it is set.

    Raises:
        UserError: BGLORA_DEVICE names no device, or one that is not here.
    """
    wanted = os.environ.get(ENVIRONMENT, "").strip()
    if not wanted:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(wanted)
    except RuntimeError:
        found = torch.device("meta")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cpu" or (found.type == "cuda" and (found.index or 0) < cards):
        return found
    there = ["cpu", *(f"cuda:{number}" for number in range(cards))]
    raise UserError(
        f"There is no device {wanted!r} to compute on.",
        where=f"environment variable {ENVIRONMENT}; devices here: {', '.join(there)}",
        cure=f"unset {ENVIRONMENT}, or set it to one of these",
    )


def dtype(where: torch.device) -> torch.dtype:
    """bfloat16 on a card that computes in it, float16 on an older one, float32 on the CPU."""
    if where.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(where) >= (8, 0) else torch.float16


def is_full(error: BaseException) -> bool:
    """Whether it says that memory is short, the machine's or the card's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def too_large(what: str, where: str, cure: str) -> MachineError:
    """The error for networks that memory does not hold. `what` begins a sentence: "The base model"."""
    return MachineError(f"{what} doesn't fit into the device's memory.", where=where, cure=cure)


def moved(
    net: Any, where: torch.device, numbers: torch.dtype | None = None, *, what: str, setting: str, cure: str
) -> Any:
    """A network, or a pipeline of them, on its device and in these numbers.

    Args:
        what, setting: for the error: what it is, at the beginning of a sentence, and what names it.
        cure: what a person can do.

    Raises:
        MachineError: the device has too little memory for it.
    """
    try:
        return net.to(device=where) if numbers is None else net.to(device=where, dtype=numbers)
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
            raise
    give_back()
    raise too_large(what, setting, cure)


def give_back() -> None:
    """Has the card take back what nothing uses anymore."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(where: torch.device) -> int:
    """Memory that is free on a device: what PyTorch holds back for itself is free, too."""
    if where.type == "cuda":
        held = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(torch.cuda.mem_get_info(where)[0] + held)
    import psutil

    return int(psutil.virtual_memory().available)


def card_gb() -> float:
    """Memory of the card that `device` takes, in GB; 0 where it takes the CPU."""
    where = device()
    return float(torch.cuda.get_device_properties(where).total_memory) / 2**30 if where.type == "cuda" else 0.0


def wide_dtype(where: torch.device) -> torch.dtype:
    """As `dtype`, for networks whose values float16 can't hold: bfloat16 where a card computes in it, else float32."""
    return torch.bfloat16 if dtype(where) == torch.bfloat16 else torch.float32


def to_device(values: np.ndarray, where: torch.device | None) -> torch.Tensor:
    """An array as a tensor. A graphics card fetches it by itself, after what it was told before; nobody waits."""
    tensor = torch.from_numpy(values)
    if where is None or where.type != "cuda":
        return tensor.to(where)
    return tensor.pin_memory().to(where, non_blocking=True)


class Fetched:
    """A tensor on its way to main memory: who asks for its numbers waits for them, nobody else does."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._here = tensor.cpu()
            return
        self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._here.copy_(tensor, non_blocking=True)
        self._done = torch.cuda.current_stream(tensor.device).record_event()

    def numpy(self) -> np.ndarray:
        """The values, when they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._here.numpy()


def in_halves(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    batch: int,
    *,
    where: str = "the network",
    cure: str = CURE,
) -> list[Result]:
    """Runs a function on batches; a batch that doesn't fit into the device's memory is halved, and stays so.

    Args:
        function: takes some items, gives one result for each.
        items: all of them, in the order of the results.
        batch: items at once at most, 1 or more.
        where: what runs, for the error.
        cure: what a person can do when not even one item fits.

    Raises:
        MachineError: a single item does not fit.
    """
    results: list[Result] = []
    while len(results) < len(items):
        part = items[len(results) : len(results) + batch]
        made = _run(function, part)
        if made is not None:
            if len(made) != len(part):
                raise ValueError(f"{len(part)} items gave {len(made)} results")
            results += made
            continue
        give_back()  # outside of the handler: the frames that held the tensors are gone only now
        if len(part) == 1:
            raise MachineError("The device has too little memory for a single picture.", where=where, cure=cure)
        batch = len(part) // 2
    return results


def _run(function: Callable[[Sequence[Item]], Sequence[Result]], part: Sequence[Item]) -> Sequence[Result] | None:
    """None where memory is short."""
    try:
        return function(part)
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
            raise
        return None
