"""Who makes the items: in this process, in processes of this machine, on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from bglora.engine.tools import Progress, Result, StageJob, Task

CONTEXT_GB = 0.5
"""What a process takes on a graphics card beside its models."""


class Executor(Protocol):
    """Makes items. The driver alone writes the ledger."""

    def run(
        self, job: StageJob, tasks: Iterable[Task], report: Progress, stopping: Callable[[], bool]
    ) -> Iterator[Result]:
        """Makes the tasks and gives each result as it comes, in any order.

        `tasks` is read as workers become free, and ends early when the run stops. `report` is called in this thread.
        """
        ...

    def close(self) -> None:
        """Ends all workers."""
        ...
