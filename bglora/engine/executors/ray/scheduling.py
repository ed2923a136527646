"""One stage's items on their way through a cluster: who gets which, what becomes of those whose worker is lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from bglora.engine.events import Listener, Notice, WorkerChanged, WorkerState
from bglora.engine.executors.ray.fleet import Fleet
from bglora.engine.executors.ray.nodes import Room, WorkerNeeds, no_room, rooms
from bglora.engine.executors.ray.workers import Attempt, Message, Sign, Worker
from bglora.engine.tools import Progress, Result, StageJob, Task
from bglora.errors import MachineError

QUICK = 10.0
"""Seconds that items may take on average for a worker to be handed its next one before it has ended the last."""
_WAIT = 0.2
_ASK = 1.0
"""Seconds that an item may take before its worker is asked how far it is, and between two such questions."""
_STARTS = 3
"""Workers that may die on a node before they have begun, until it gets no more."""
_ALONE = 60.0
"""Seconds without any node to work on, after which the run ends; without any worker, after which it is told."""


@dataclass(frozen=True)
class Limits:
    """What a run allows.

    Attributes:
        jobs: workers at most; 0: as many as there is room for.
        retries: how often an item is made again whose worker was lost.
        silence: seconds that a worker may work on an item without a sign of progress.
    """

    jobs: int = 0
    retries: int = 2
    silence: float = 1800.0


class Shift:
    """Makes the tasks of one stage; see `Executor.run`."""

    def __init__(
        self,
        fleet: Fleet,
        job: StageJob,
        needs: WorkerNeeds,
        limits: Limits,
        tell: Listener,
        report: Progress,
        stopping: Callable[[], bool],
    ) -> None:
        self.fleet, self.force, self.job, self.needs, self.limits = fleet, fleet.force, job, needs, limits
        self.tell, self.report, self.stopping = tell, report, stopping
        self._stage = job.stage.name
        self.shared = self.force.ray.put(job)
        self.backlog: deque[Attempt] = deque()
        self._rooms: Mapping[str, Room] = {}
        self._starts: Counter[str] = Counter()
        self._ended, self._seconds = 0, 0.0
        self._alone_since: float | None = None
        self._told_to_wait = False
        self._began = time.monotonic()

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Hands out the tasks and gives the results as they come."""
        self._measure()
        if not self._rooms:
            raise no_room(self._stage, self.fleet.nodes.values(), self.needs)
        self._keep()
        source = iter(tasks)
        more = True
        while True:
            if self.stopping():
                self.backlog.clear()
                more = False
            else:
                more = more and self._pull(source)
                self._start()
                self._hand_out()
            self._show()
            if not more and not self.backlog and not self._busy():
                break
            for message in self.force.messages(_WAIT):
                yield from self._take(message)
            yield from self._look_after()
        if any(room.claim.gpus for room in self._rooms.values()):
            self.force.end_all()  # their models leave the cards

    # Handing out

    def _measure(self) -> None:
        self._rooms = rooms(self.fleet.nodes.values(), self.needs, self.job.stage.parallel)

    @property
    def _capacity(self) -> int:
        there = sum(room.workers for room in self._rooms.values())
        return min(there, self.limits.jobs) if self.limits.jobs else there

    @property
    def _depth(self) -> int:
        """Tasks that a worker has in hand: a second one where items are quick, so that none waits for the driver."""
        return 2 if self.job.stage.parallel and self._ended >= 3 and self._seconds < QUICK * self._ended else 1

    def _keep(self) -> None:
        """Workers of the stage before that claim the same go on; the others end."""
        count: Counter[str] = Counter()
        for worker in list(self.force.workers):
            room = self._rooms.get(worker.node.id)
            fits = room is not None and worker.claim == room.claim and not worker.claim.gpus
            if room is None or not fits or count[worker.node.id] >= room.workers:
                self.force.end(worker)
                continue
            count[worker.node.id] += 1
            self.force.begin(worker, self.shared)

    def _pull(self, source: Iterator[Task]) -> bool:
        """Takes as many tasks as the workers have in hand soon; False when there are no more."""
        soon = self._capacity * (self._depth if self._depth == 1 else self._depth + 1)
        room = soon - len(self.backlog) - sum(len(one.handed) for one in self.force.workers)
        for _ in range(room):
            task = next(source, None)
            if task is None:
                return False
            self.backlog.append(Attempt(task))
        return True

    def _start(self) -> None:
        """Starts workers while there are tasks for them, where there is most room."""
        wanted = min(self._capacity, len(self.backlog) + sum(len(one.handed) for one in self.force.workers))
        while len(self.force.workers) < wanted:
            there = Counter(one.node.id for one in self.force.workers)
            share = {name: there[name] / room.workers for name, room in self._rooms.items()}
            name = min(share, key=lambda one: share[one])
            if share[name] >= 1:  # workers of a node that is gone are not buried yet
                return
            self.force.start(self.fleet.nodes[name], self._rooms[name].claim, self.shared)

    def _hand_out(self) -> None:
        """Gives tasks to workers without any, and a second one as long as there is still one for each at the end."""
        for attempt in list(self.backlog):
            depth = self._depth if len(self.backlog) > self._capacity else 1
            free = [one for one in self.force.workers if one.ready and len(one.handed) < depth]
            if not free:
                return
            worker = min(free, key=lambda one: (one.node.id in attempt.nodes, len(one.handed)))
            elsewhere = any(one.ready and one.node.id not in attempt.nodes for one in self.force.workers)
            if worker.node.id in attempt.nodes and elsewhere:
                continue  # it waits for one of those
            self.backlog.remove(attempt)
            self.force.hand(worker, attempt)

    # Hearing

    def _take(self, message: Message) -> Iterator[Result]:
        if message.kind == "looked":
            if self.fleet.hear(message):
                self._measure()
            return
        worker: Worker = message.of
        if worker not in self.force.workers:  # lost by a message that came together with this one
            return
        if message.error is not None and not self._own_fault(message.error):
            yield from self._lose(worker, _reason(message.error, worker))
        elif message.kind == "begun":
            if message.error is not None:
                raise _no_start(worker, message.error)
            worker.ready = True
        elif message.kind == "sign":
            worker.asked = False
            if message.error is None:
                self._sign(worker, message.value)
        else:
            yield self._made(worker, message)

    def _sign(self, worker: Worker, sign: Sign) -> None:
        at_work = worker.handed[0].task.item.name if worker.handed else ""
        if sign.number == worker.signs or sign.item != at_work:
            return
        worker.signs, worker.since = sign.number, time.monotonic()
        if sign.total or sign.text:
            self.report(sign.item, sign.done, sign.total, sign.text)

    def _made(self, worker: Worker, message: Message) -> Result:
        attempt = worker.handed.popleft()
        worker.since = time.monotonic()
        if message.error is not None:
            return Result(attempt.task.item.name, error=_unsent(attempt, message.error), trace=str(message.error))
        result: Result = message.value
        self._ended, self._seconds = self._ended + 1, self._seconds + result.seconds
        if isinstance(result.fatal, MachineError):
            told = result.fatal
            return replace(result, fatal=type(told)(told.what, where=f"{told.where}, on {worker.name}", cure=told.cure))
        return replace(result, scratch=attempt.task.scratch) if attempt.lost else result

    def _show(self) -> None:
        """Tells of each worker what it does, if that has changed."""
        for worker in self.force.workers:
            item = worker.handed[0].task.item.name if worker.handed else ""
            state: WorkerState = "working" if item else "idle" if worker.ready else "starting"
            if (state, item) != worker.shown:
                worker.shown = state, item
                self.tell(WorkerChanged(self._stage, worker.name, state, item))

    # Trouble

    def _own_fault(self, error: BaseException) -> bool:
        """True for what our code raised in a worker that lives on, or in one that could not begin."""
        raised: type[BaseException] = self.force.ray.exceptions.RayTaskError
        return isinstance(error, raised) or bool(getattr(error, "_actor_init_failed", False))

    def _look_after(self) -> Iterator[Result]:
        """Asks workers how far they are, ends those that hang, and looks which nodes there are."""
        now, stop = time.monotonic(), self.stopping()
        for worker in list(self.force.workers):
            if not worker.handed or not worker.ready:
                continue
            if now - worker.since > self.limits.silence:
                yield from self._lose(worker, f"it gave no sign of progress for {self.limits.silence:g} s")
            elif not worker.asked and (
                (stop and not worker.told_to_stop) or now - max(worker.since, worker.asked_at) > _ASK
            ):
                self.force.ask(worker, stop)
        if self.fleet.look():
            self._measure()
        self._check_alone(now)

    def _lose(self, worker: Worker, reason: str) -> Iterator[Result]:
        """A worker is gone: what it had at hand is made elsewhere, or has failed if that happened too often."""
        self.force.end(worker)
        handed = list(worker.handed)
        name = handed[0].task.item.name if handed else ""
        self.tell(WorkerChanged(self._stage, worker.name, "lost", name, reason))
        if not worker.ready:
            self._starts[worker.node.id] += 1
            if self._starts[worker.node.id] >= _STARTS and worker.node.id in self.fleet.nodes:
                self.fleet.give_up(worker.node, f"its workers end before they begin: {reason}")
                self._measure()
        for attempt in reversed(handed[1:]):
            self.backlog.appendleft(attempt)
        if not handed:
            return
        attempt = handed[0]
        attempt.lost.append(reason)
        attempt.nodes.add(worker.node.id)
        if len(attempt.lost) > self.limits.retries:
            yield Result(name, error=_lost(attempt))
            return
        self.tell(Notice(f"A worker on {worker.node.name} was lost: {reason}; {name} is made once more.", self._stage))
        if not self.job.stage.keeps_scratch:  # what the lost one left, or still writes, is another folder's matter
            folder = attempt.task.scratch.name.partition("~")[0]
            again = attempt.task.scratch.with_name(f"{folder}~{len(attempt.lost)}")
            attempt.task = replace(attempt.task, scratch=again)
        self.backlog.appendleft(attempt)

    def _busy(self) -> bool:
        return any(one.handed for one in self.force.workers)

    def _check_alone(self, now: float) -> None:
        """Tells when no worker starts; ends the run when no node is left."""
        if self._rooms:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
            self.tell(Notice("No node of the cluster is left to work on; waiting for one to join.", self._stage))
        elif now - self._alone_since > _ALONE:
            raise MachineError(
                "No node of the cluster is left to work on; everything done so far is kept.",
                where=self._stage,
                cure="Bring nodes back, then run the same command to go on.",
            )
        if self._told_to_wait or now - self._began < _ALONE or any(one.ready for one in self.force.workers):
            return
        self._told_to_wait = True
        self.tell(Notice("Still waiting for a worker to start: others may be using the cluster.", self._stage))


def _reason(error: BaseException, worker: Worker) -> str:
    """Why a worker is gone, in a few words."""
    text = str(error)
    if "node has died" in text or "node was terminated" in text:
        return "its node went away"
    if "running low on memory" in text:
        return "its node was short of memory"
    return "its process died" if worker.ready else "its process died before it began"


def _lost(attempt: Attempt) -> tuple[str, str, str]:
    many = len(attempt.lost)
    return (
        f"{many} workers that had it were lost; of the last one, {attempt.lost[-1]}."
        if many > 1
        else f"The worker that had it was lost: {attempt.lost[-1]}.",
        attempt.task.item.name,
        "Short of memory: fewer workers by --jobs. Too slow: a longer --worker-timeout. Then `bglora retry`.",
    )


def _unsent(attempt: Attempt, error: BaseException) -> tuple[str, str, str]:
    told = f"Its result can't be sent: {_last_line(error)}."
    return told, attempt.task.item.name, "This is a bug in the stage; please report it."


def _no_start(worker: Worker, error: BaseException) -> MachineError:
    return MachineError(
        f"A worker can't begin: {_last_line(error)}.",
        where=f"node {worker.node.name}",
        cure="Install the same bglora, with the same extras, on every node.",
    )


def _last_line(error: BaseException) -> str:
    """Ray tells a worker's error with its traceback; what happened stands last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
