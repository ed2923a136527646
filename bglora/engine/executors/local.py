"""Items made on this machine: in this process, or in a pool of processes for stages that allow it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bglora.engine.executors.pool import Pool
from bglora.engine.tools import Progress, Result, StageJob, Task, make_item

Room = Callable[[str], int | None]


class LocalExecutor:
    """Makes items here.

    Args:
        jobs: processes for stages with `parallel`; 0 for as many as this process may use cores; 1: in this process.
        room: by a stage's name for how many processes a graphics card has room, or None if the stage uses none. Asked
            when such a stage has work; its processes end with it, so that the card is free for what follows.
    """

    def __init__(self, jobs: int = 0, room: Room = lambda stage: None) -> None:
        self.jobs, self.room = jobs or cores(), room
        self._cache: dict[str, Any] = {}
        self._cached_for = ""
        self._pool: Pool | None = None

    def run(
        self, job: StageJob, tasks: Iterable[Task], report: Progress, stopping: Callable[[], bool]
    ) -> Iterator[Result]:
        """Makes the tasks; see `Executor.run`."""
        if job.stage.parallel and self.jobs > 1:
            room = self.room(job.stage.name)
            if room is None:
                self._pool = self._pool or Pool(self.jobs)
                yield from self._pool.run(job, tasks, report, stopping)
                return
            self.close()
            if room > 1:
                self._pool = Pool(min(room, self.jobs))
                try:
                    yield from self._pool.run(job, tasks, report, stopping)
                finally:
                    self.close()
                return
        if self._cached_for != job.stage.name:
            self._cache, self._cached_for = {}, job.stage.name
        for task in tasks:
            yield make_item(job, task, report, stopping, self._cache)

    def close(self) -> None:
        """Ends the worker processes, and lets go of what is loaded in this one."""
        self._cache, self._cached_for = {}, ""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
