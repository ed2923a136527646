"""Workers: actors that make items, and the driver's side of them. None is detached, so all end with the driver."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bglora.engine.executors.pool import ONE_THREAD
from bglora.engine.executors.ray.connecting import on_node
from bglora.engine.executors.ray.nodes import Claim, Node
from bglora.engine.tools import Result, StageJob, Task, make_item

EAR = "ear"
"""The thread of a worker that hears the driver while another makes an item."""


class Sign(NamedTuple):
    """What a worker tells while it works: the item, and how far it is. `number` grows with each sign of life."""

    number: int
    item: str = ""
    done: float = 0.0
    total: float = 0.0
    text: str = ""


class Hands:
    """The worker's side: one process with what it has loaded, which makes one item after the other.

    Args:
        environment: variables that have to be there before anything heavy is imported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._job: StageJob | None = None
        self._cache: dict[str, Any] = {}
        self._stop = threading.Event()
        self._sign = Sign(0)

    def begin(self, job: StageJob) -> int:
        """Takes up a stage; what was loaded for the last one is let go. Returns its process."""
        self._job, self._cache = job, {}
        self._stop.clear()
        return os.getpid()

    def make(self, task: Task) -> Result:
        """Makes an item; one whose turn comes when the run has to stop is left."""
        assert self._job is not None
        if self._stop.is_set():
            return Result(task.item.name, stopped=True)
        self._tell(task.item.name, 0.0, 0.0, "")
        return make_item(self._job, task, self._tell, self._stop.is_set, self._cache)

    def hear(self, stop: bool) -> Sign:
        """How far the item at hand is. `stop`: the run has to stop."""
        if stop:
            self._stop.set()
        return self._sign

    def _tell(self, item: str, done: float, total: float, text: str) -> None:
        self._sign = Sign(self._sign.number + 1, item, done, total, text)


@dataclass
class Attempt:
    """A task on its way.

    Attributes:
        lost: why the workers died that had it, one reason each.
        nodes: where they were.
    """

    task: Task
    lost: list[str] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Worker:
    """A worker as the driver sees it.

    Attributes:
        name: for people: its node and a number.
        handed: what it was given; the first is at work.
        ready: it has taken up the stage.
        since: when the last sign of life came, or its item. signs: how many there were.
        shown: what was last told of it: what it does, and on which item.
        asked: it was asked for a sign and has not answered yet. asked_at: when that was.
    """

    name: str
    node: Node
    claim: Claim
    handle: Any
    handed: deque[Attempt] = field(default_factory=deque)
    ready: bool = False
    since: float = field(default_factory=time.monotonic)
    signs: int = 0
    asked: bool = False
    asked_at: float = 0.0
    told_to_stop: bool = False
    shown: tuple[str, str] = ("", "")


class Message(NamedTuple):
    """What came back: `kind` is `begun`, `made`, `sign` or `looked` (of a `Question`)."""

    kind: str
    of: Any
    value: Any
    error: BaseException | None


class Workforce:
    """All workers of a run, and the one place where their answers arrive."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.workers: list[Worker] = []
        self._mail: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._hands = ray.remote(concurrency_groups={EAR: 1})(Hands)
        self._names: Counter[str] = Counter()

    def start(self, node: Node, claim: Claim, job: Any) -> Worker:
        """Starts a worker on a node; a message `begun` tells when it has taken up the job."""
        placed = self._hands.options(
            **claim.options(), max_restarts=0, max_task_retries=0, scheduling_strategy=on_node(node.id)
        )
        self._names[node.name] += 1
        handle = placed.remote(_environment(one_thread=not claim.alone))
        worker = Worker(f"{node.name} {self._names[node.name]}", node, claim, handle)
        self.workers.append(worker)
        self.begin(worker, job)
        return worker

    def begin(self, worker: Worker, job: Any) -> None:
        """Has it take up another stage. `job` is a reference: Ray brings it to a node once."""
        worker.ready, worker.told_to_stop, worker.asked, worker.since = False, False, False, time.monotonic()
        self.expect("begun", worker, worker.handle.begin.remote(job))

    def hand(self, worker: Worker, attempt: Attempt) -> None:
        """Gives it a task."""
        if not worker.handed:
            worker.since = time.monotonic()
        worker.handed.append(attempt)
        self.expect("made", worker, worker.handle.make.remote(attempt.task))

    def ask(self, worker: Worker, stop: bool) -> None:
        """Asks it for a sign of life."""
        worker.asked, worker.asked_at, worker.told_to_stop = True, time.monotonic(), worker.told_to_stop or stop
        self.expect("sign", worker, worker.handle.hear.options(concurrency_group=EAR).remote(stop))

    def expect(self, kind: str, of: Any, reference: Any) -> None:
        """Has the answer to a call arrive as a message."""

        def arrived(future: Future[Any]) -> None:
            error = future.exception()
            self._mail.put(Message(kind, of, None if error else future.result(), error))

        reference.future().add_done_callback(arrived)

    def messages(self, patience: float) -> list[Message]:
        """What has arrived; waits at most `patience` seconds for the first."""
        found = []
        try:
            found.append(self._mail.get(timeout=patience))
            while True:
                found.append(self._mail.get_nowait())
        except queue.Empty:
            return found

    def end(self, worker: Worker) -> None:
        """Ends a worker at once; it is none of them any more."""
        if worker in self.workers:
            self.workers.remove(worker)
            self.ray.kill(worker.handle, no_restart=True)

    def end_all(self) -> None:
        """Ends all workers."""
        for worker in list(self.workers):
            self.end(worker)


def _environment(*, one_thread: bool) -> dict[str, str]:
    """This program's own variables as the driver has them; a card's number there means nothing elsewhere."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("BGLORA_")}
    if ours.get("BGLORA_DEVICE", "").startswith("cuda"):
        del ours["BGLORA_DEVICE"]
    return ours | (dict.fromkeys(ONE_THREAD, "1") if one_thread else {})
