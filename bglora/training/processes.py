"""Several processes that train one LoRA together: each takes its share of every optimizer step's micro-batches.

Gradients are added up before each update, so all processes hold the same weights, and what they learn is what one
process learns that takes all micro-batches by itself, to the rounding of a sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """One of the processes as it sees the others; alone it waits for nobody and adds nothing.

    Attributes:
        number: which one it is, from 0. The first alone validates, paints and writes files.
        count: how many there are.
        talk: torch's process group for words on the CPU, beside the default one for gradients; None: alone.
    """

    number: int = 0
    count: int = 1
    talk: Any = None

    @property
    def first(self) -> bool:
        return self.number == 0

    def share(self, values: Sequence[Value]) -> list[tuple[int, Value]]:
        """Its part of a step's micro-batches, each with its number among all; may be empty."""
        return list(enumerate(values))[self.number :: self.count]

    @torch.no_grad()
    def add(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sums over all processes into tensors of one number format: one message, however many they are."""
        if self.count == 1:
            return
        from torch import distributed

        if len(tensors) == 1:
            distributed.all_reduce(tensors[0])
            return
        joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(joined)
        parts = joined.split([tensor.numel() for tensor in tensors])
        shaped = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(list(tensors), shaped)

    def total(self, values: Tensor) -> Tensor:
        """The sum of the values over all processes, on their device."""
        self.add([values])
        return values

    def agreed(self, wish: bool) -> bool:
        """Whether any of the processes wishes it: all get the same answer, and none waits for its device."""
        if self.count == 1:
            return wish
        from torch import distributed

        vote = torch.tensor([int(wish)])
        distributed.all_reduce(vote, op=distributed.ReduceOp.MAX, group=self.talk)
        return bool(vote.item())

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes; the others wait for it, without a time limit."""
        if self.count == 1:
            return make()
        from torch import distributed

        told: list[Any] = [make() if self.first else None]
        distributed.broadcast_object_list(told, src=0, group=self.talk)
        made: Value = told[0]
        return made


ALONE = Processes()


def join(cpu: bool) -> Processes:
    """This process among those that `accelerate launch` has started: NCCL between graphics cards, gloo between CPUs.

    Every process computes on the card of its own number.
    """
    from datetime import timedelta

    from accelerate import PartialState
    from torch import distributed

    forever = timedelta(days=30)  # who waits for a process that died is ended from outside
    state = PartialState(cpu=cpu, backend="gloo" if cpu else "nccl", timeout=forever)
    return Processes(state.process_index, state.num_processes, distributed.new_group(backend="gloo", timeout=forever))
