"""Items made on this machine: in this process, or in a pool of processes for stages that allow it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bglora.engine.executors.pool import Pool
from bglora.engine.tools import Progress, Result, StageJob, Task, make_item


class LocalExecutor:
    """Makes items here.

    Args:
        jobs: processes for stages with `parallel`; 0 for as many as this process may use cores; 1: in this process.
    """

    def __init__(self, jobs: int = 0) -> None:
        self.jobs = jobs or cores()
        self._cache: dict[str, Any] = {}
        self._cached_for = ""
        self._pool: Pool | None = None

    def run(
        self, job: StageJob, tasks: Iterable[Task], report: Progress, stopping: Callable[[], bool]
    ) -> Iterator[Result]:
        """Makes the tasks; see `Executor.run`."""
        if job.stage.parallel and self.jobs > 1:
            self._pool = self._pool or Pool(self.jobs)
            yield from self._pool.run(job, tasks, report, stopping)
            return
        if self._cached_for != job.stage.name:
            self._cache, self._cached_for = {}, job.stage.name
        for task in tasks:
            yield make_item(job, task, report, stopping, self._cache)

    def close(self) -> None:
        """Ends the worker processes."""
        self._cache = {}
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
