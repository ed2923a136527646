"""Worker processes, each on its own pipe, so that a worker that dies is known by name and only its item fails.

Workers are started by spawn, ignore Ctrl-C (the driver asks them to stop), use one thread for BLAS and OpenCV, and end
when the driver dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from bglora.engine.tools import Progress, Result, StageJob, Task, make_item
from bglora.errors import MachineError

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""Environment of workers: their libraries use one thread each, as the processes share the cores."""

_PATIENCE = 0.2
"""Seconds between looks at whether the run has to stop."""


@dataclass
class Worker:
    """A worker process as the driver sees it."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    task: Task | None = None
    told_to_stop: bool = False
    ready: bool = False


class Pool:
    """A fixed number of worker processes, kept from stage to stage."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[Worker] = []
        self._context = multiprocessing.get_context("spawn")

    def run(
        self, job: StageJob, tasks: Iterable[Task], report: Progress, stopping: Callable[[], bool]
    ) -> Iterator[Result]:
        """Makes the tasks; see `Executor.run`."""
        source = iter(tasks)
        introduced: set[int | None] = set()
        more = True
        try:
            while True:
                while more and sum(one.task is not None for one in self._workers) < self.size:
                    task = next(source, None)
                    more = task is not None
                    if task is not None:
                        self._give(job, task, introduced)
                busy = [one for one in self._workers if one.task is not None]
                if not busy:
                    return
                if stopping():
                    _tell_to_stop(busy)
                for worker in _speaking(busy):
                    result = self._hear(worker, report)
                    if result is not None:
                        yield result
        except BaseException:
            self.close()
            raise

    def _give(self, job: StageJob, task: Task, introduced: set[int | None]) -> None:
        worker = next((one for one in self._workers if one.task is None), None) or self._start()
        worker.task, worker.told_to_stop = task, False
        with suppress(OSError):  # a worker that died meanwhile is noticed by its pipe
            if worker.process.pid not in introduced:
                introduced.add(worker.process.pid)
                worker.pipe.send(("job", job))
            worker.pipe.send(("task", task))

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs,), daemon=True, name="bglora-worker")
        with _environment():
            process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _hear(self, worker: Worker, report: Progress) -> Result | None:
        """Reads one message. A result frees the worker; a broken pipe means that it died."""
        try:
            kind, *values = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        worker.ready = True
        if kind == "progress":
            report(*values)
            return None
        if kind == "ready":
            return None
        worker.task = None
        result: Result = values[0]
        return result

    def _bury(self, worker: Worker) -> Result:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        task = worker.task
        assert task is not None
        death = _death(worker.process.exitcode)
        if not worker.ready:
            raise MachineError(
                f"A worker process could not start: {death}.",
                where=task.item.name,
                cure="Run with --jobs 1 to work in one process; its message stands above.",
            )
        return Result(
            task.item.name,
            error=(
                f"Its worker process died: {death}.",
                task.item.name,
                "Often the memory was too small: close other programs or use --jobs 1, then `bglora retry`.",
            ),
        )

    def close(self) -> None:
        """Ends all workers at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers = []


def _tell_to_stop(workers: Iterable[Worker]) -> None:
    for worker in workers:
        if not worker.told_to_stop:
            worker.told_to_stop = True
            with suppress(OSError):  # a worker that died meanwhile is noticed by its pipe
                worker.pipe.send(("stop",))


def _speaking(workers: list[Worker]) -> list[Worker]:
    found = wait([one.pipe for one in workers], timeout=_PATIENCE)
    return [one for one in workers if one.pipe in found]


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextmanager
def _environment() -> Iterator[None]:
    """One thread per worker: libraries read this when they are imported, so it is set around the start."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def work(pipe: Connection[Any, Any]) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    pipe.send(("ready",))
    job: StageJob | None = None
    cache: dict[str, Any] = {}
    while True:
        try:
            kind, *values = pipe.recv()
        except EOFError:
            return
        if kind == "job":
            job, cache = values[0], {}
        elif kind == "task" and job is not None:
            _send(pipe, make_item(job, values[0], _Reporter(pipe), _StopFlag(pipe), cache))


def _end_with_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _send(pipe: Connection[Any, Any], result: Result) -> None:
    try:
        pipe.send(("result", result))
    except (TypeError, AttributeError, ValueError) as error:  # pickle refuses with any of these
        told = (f"Its result can't be sent: {error}.", result.item, "This is a bug in the stage; please report it.")
        pipe.send(("result", replace(result, outcomes=(), outputs=(), error=told)))


class _Reporter:
    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe = pipe

    def __call__(self, item: str, done: float, total: float, text: str) -> None:
        self._pipe.send(("progress", item, done, total, text))


class _StopFlag:
    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._asked = pipe, False

    def __call__(self) -> bool:
        while not self._asked and self._pipe.poll():
            self._asked = self._pipe.recv()[0] == "stop"
        return self._asked
