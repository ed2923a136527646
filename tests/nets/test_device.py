"""Where networks run, and what happens when the device's memory is full."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from bglora.errors import MachineError, UserError
from bglora.nets.device import device, dtype, in_halves, moved, wide_dtype


class Card:
    """A device with room for so many items at once."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        self.room, self.asked = room, list[int]()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def double(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.room:
            raise self.error
        return [2 * item for item in items]


@pytest.mark.parametrize(
    "error",
    [
        None,
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(error: Exception | None) -> None:
    card = Card(3, error)
    assert in_halves(card.double, list(range(10)), 8) == [2 * k for k in range(10)]
    assert card.asked == [8, 4, 2, 2, 2, 2, 2]


def test_one_item_that_does_not_fit_is_a_clear_error() -> None:
    with pytest.raises(MachineError) as told:
        in_halves(Card(0).double, [1, 2], 2, where="a network", cure="buy a card")
    assert str(told.value).splitlines()[1:] == ["a network", "buy a card"]


def test_other_errors_come_through() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        in_halves(Card(0, RuntimeError("shape mismatch")).double, [1], 1)


def test_the_environment_names_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BGLORA_DEVICE", "cpu")
    assert device() == torch.device("cpu") and dtype(device()) == torch.float32
    for wrong in ("cuda:99", "toaster", "meta"):
        monkeypatch.setenv("BGLORA_DEVICE", wrong)
        with pytest.raises(UserError, match=wrong):
            device()


class Large(torch.nn.Linear):
    """A network that a device refuses in some words."""

    words = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"

    def _apply(self, *_: object, **__: object) -> torch.nn.Module:
        raise RuntimeError(self.words)


def test_a_network_that_the_device_can_not_hold_is_a_clear_error_and_no_other_is() -> None:
    small, told = torch.nn.Linear(2, 2), {"what": "The net", "setting": "a.b = c", "cure": "a smaller one"}
    assert moved(small, torch.device("cpu"), torch.float64, **told).weight.dtype == torch.float64
    with pytest.raises(MachineError) as caught:
        moved(Large(2, 2), torch.device("cpu"), **told)
    assert str(caught.value).splitlines() == [
        "The net doesn't fit into the device's memory.",
        "a.b = c",
        "a smaller one",
    ]
    Large.words = "shapes"
    with pytest.raises(RuntimeError, match="shapes"):
        moved(Large(2, 2), torch.device("cpu"), **told)


@pytest.mark.parametrize(
    ("capability", "usual", "wide"),
    [((7, 5), torch.float16, torch.float32), ((8, 0), torch.bfloat16, torch.bfloat16)],
)
def test_older_cards_compute_in_half_precision_but_for_networks_that_it_can_not_hold(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], usual: torch.dtype, wide: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert (dtype(torch.device("cuda")), wide_dtype(torch.device("cuda"))) == (usual, wide)
    assert wide_dtype(torch.device("cpu")) == torch.float32
