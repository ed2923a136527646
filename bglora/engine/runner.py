"""Doing only what is not done: plan, run, status of a pipeline of stages on a project folder.

Use (this is all that a command needs)::

    from bglora.engine.runner import Runner, RunRequest

    runner = Runner(root, stages, settings, decisions, listener=print)
    plan = runner.plan(RunRequest(stages=("inpaint",)))        # changes nothing
    for stage in plan.stages:
        for verdict in stage.todo:
            print(stage.stage, verdict.item.name, "; ".join(verdict.reasons))
    result = runner.run(RunRequest(limit=12))                  # empty `stages`: all of them
    raise SystemExit(result.exit_code)                         # 0 all fresh, 1 some items failed

`run` raises `Interrupted`, `TimeIsUp`, `MachineError` or `UserError` after everything that was done is recorded, so
that the same command goes on. Stages are any list of `bglora.engine.stage.Stage` in pipeline order; `settings` and
`decisions` are handed through to them (`decisions` needs `retries(stage)`, or is None).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bglora.engine import files
from bglora.engine.events import Listener, Notice, StageFinished, StageStarted, silent
from bglora.engine.executors import Executor
from bglora.engine.executors.local import LocalExecutor, Room
from bglora.engine.freshness import Freshness
from bglora.engine.ledger import Ledger
from bglora.engine.lock import ProjectLock
from bglora.engine.making import Making
from bglora.engine.opening import STATE, SUSPECT, open_ledger
from bglora.engine.plan import Judge, Plan, RunRequest, StagePlan
from bglora.engine.record import Recorder
from bglora.engine.records import publish
from bglora.engine.stage import Stage
from bglora.engine.status import StageStatus, status_of
from bglora.engine.stopping import Stopping
from bglora.engine.view import LedgerView
from bglora.errors import EXIT_ITEMS_FAILED, EXIT_OK, BgloraError, UserError

__all__ = ["Plan", "RunRequest", "RunResult", "Runner", "StagePlan", "StageResult", "StageStatus"]

MANY = 50_000
"""Pictures up to which `status` looks at every file."""


@dataclass(frozen=True)
class StageResult:
    """What a run did in a stage.

    Attributes:
        items: items made now (with a result or a failure). fresh: items that needed nothing.
        made, dropped, failed: pictures by status in the whole stage, as it stands now.
        orphans: items that were moved away. edited: outputs kept because a person edited them.
        seconds: wall time.
    """

    stage: str
    items: int
    fresh: int
    made: int
    dropped: int
    failed: int
    orphans: tuple[str, ...]
    edited: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A picture that failed, and why."""

    stage: str
    item: str
    picture: str
    reason: str


@dataclass(frozen=True)
class Refusal:
    """Something that was made and may not be by the project's own rule.

    Attributes:
        words: what it is: `copies its training pictures`. cure: what mends it.
    """

    stage: str
    item: str
    words: str
    cure: str


@dataclass(frozen=True)
class RunResult:
    """What a run did."""

    stages: tuple[StageResult, ...]
    failures: tuple[Failure, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all fresh, 1 some pictures failed or are refused and the rest is done."""
        return EXIT_ITEMS_FAILED if self.failures or self.refused else EXIT_OK

    @property
    def items(self) -> int:
        """Items made in all stages; 0 if everything was fresh."""
        return sum(one.items for one in self.stages)


class Runner:
    """The engine of one project.

    Args:
        root: the project folder.
        stages: the pipeline, in order.
        settings, decisions: handed through to the stages.
        executor: who makes the items; by default this machine with `jobs` processes.
        listener: called with each event, in this thread.
        jobs: processes for stages that allow it; 0 for as many as there are cores, 1 for none but this one.
        room: for how many processes of a stage a graphics card has room; see `LocalExecutor`.
        watching: look without taking the project's lock, so that a run may start at any moment; what a look finds out
            is then not stored.
    """

    def __init__(
        self,
        root: Path,
        stages: Sequence[Stage],
        settings: Any = None,
        decisions: Any = None,
        executor: Executor | None = None,
        listener: Listener = silent,
        jobs: int = 0,
        room: Room = lambda stage: None,
        watching: bool = False,
    ) -> None:
        self.root = Path(root).absolute()
        self.stages = tuple(stages)
        self.settings, self.decisions = settings, decisions
        self.listener, self.jobs, self.room = listener, jobs, room
        self.watching = watching
        self.executor = executor

    def plan(self, request: RunRequest | None = None) -> Plan:
        """What `run` would do, and why. Nothing is made or moved.

        Raises:
            UserError: a stage can't list its items and no earlier stage of the plan would change that.
        """
        request = request or RunRequest()
        chosen = self._chosen(request)
        with self._ledger() as ledger:
            return Plan(tuple(self._plans(ledger, request, chosen)))

    def status(self, *, thorough: bool = True) -> list[StageStatus]:
        """Per stage what is made, to do, failed and dropped, why, the time spent and left. Opens no picture.

        With more than `MANY` pictures, or if it need not be `thorough`, a file that was changed in place, in a folder
        where none came or went, is noticed by `plan` and `run` only.
        """
        with self._ledger() as ledger:
            thorough = thorough and ledger.pictures() <= MANY
            plans = self._plans(ledger, RunRequest(), self.stages, patient=True, thorough=thorough)
            return [status_of(ledger, plan, stage.counts) for stage, plan in zip(self.stages, plans, strict=True)]

    def view(self) -> LedgerView:
        """The `View` of the project as it stands, for the report. Reads only; `close` it or let it go."""
        return LedgerView(self.root, self.settings, self.decisions, self._reading())

    def _reading(self) -> Ledger:
        with self._ledger():  # completes what a killed run left
            return open_ledger(self.root, self.stages, self._notice, write=False)

    def run(self, request: RunRequest | None = None, stopping: Stopping | None = None) -> RunResult:
        """Makes what is not done, stage by stage.

        Args:
            stopping: to stop the run from outside; by default Ctrl-C and `max_time` do.

        Raises:
            Interrupted, TimeIsUp: stopped; what is done is recorded.
            MachineError: the machine lacks something. UserError: nothing can be listed, or another run is at work.
        """
        request = request or RunRequest()
        chosen = self._chosen(request)
        asked = Notice("Stopping after the items at hand; press Ctrl-C again to stop at once.")
        stopping = stopping or Stopping(request.max_time, lambda: self.listener(asked))
        executor = self.executor or LocalExecutor(self.jobs, self.room)
        with ProjectLock(self.root), stopping.listening():
            ledger = open_ledger(self.root, self.stages, self._notice, write=True)
            try:
                return _Run(self, ledger, executor, request, stopping).all(chosen)
            except KeyboardInterrupt:
                stopping.interrupted = True
                raise stopping.error(str(self.root)) from None
            except (files.LedgerDamaged, sqlite3.DatabaseError) as error:
                told = files.translated(error, self.root / STATE) or error
                if isinstance(told, files.LedgerDamaged):
                    (self.root / STATE / SUSPECT).touch()
                raise told from error
            finally:
                if self.executor is None:
                    executor.close()
                ledger.close()

    def _chosen(self, request: RunRequest) -> tuple[Stage, ...]:
        names = [one.name for one in self.stages]
        for name in request.stages:
            if name not in names:
                raise UserError(f"There is no stage {name!r}.", where=name, cure=f"The stages are: {', '.join(names)}.")
        return tuple(one for one in self.stages if not request.stages or one.name in request.stages)

    def _notice(self, text: str) -> None:
        self.listener(Notice(text))

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """The ledger for looking: with what a killed run left completed, unless another run is at work."""
        lock = ProjectLock(self.root)
        held = not self.watching and (self.root / STATE).is_dir() and _try(lock.acquire)
        try:
            ledger = open_ledger(self.root, self.stages, self._notice, write=held)
            try:
                if held:
                    Recorder(self.root, ledger, Freshness(self.root, ledger)).recover()
                yield ledger
            finally:
                ledger.close()
        finally:
            if held:
                lock.release()

    def _plans(
        self,
        ledger: Ledger,
        request: RunRequest,
        chosen: Sequence[Stage],
        *,
        patient: bool = False,
        thorough: bool = True,
    ) -> Iterator[StagePlan]:
        gone: dict[str, tuple[str, ...]] = {}
        view = LedgerView(self.root, self.settings, self.decisions, ledger, limit=request.limit, gone=gone)
        judge = Judge(ledger, Freshness(self.root, ledger, thorough=thorough), self.decisions, request)
        moving: dict[str, bool] = {}
        for stage in chosen:
            waits = tuple(name for name in (*stage.reads, *stage.heeds) if moving.get(name))
            try:
                plan = judge.stage(stage, view, self.earlier(stage))
            except BgloraError as error:
                if not waits and not patient:
                    raise
                plan = StagePlan(stage.name, note=error.what)
            gone[stage.name] = plan.hidden
            moving[stage.name] = bool(plan.todo or plan.orphans or waits)
            yield StagePlan(**{**plan.__dict__, "waits_for": waits})

    def earlier(self, stage: Stage) -> list[str]:
        """Names of the stages before this one."""
        names = [one.name for one in self.stages]
        return names[: names.index(stage.name)]


def _try(acquire: Callable[[], bool]) -> bool:
    """Takes a lock; a folder that can't be written is looked at without one."""
    try:
        return acquire()
    except UserError:
        return False


class _Run:
    """One run: its ledger, its executor, its wish to stop."""

    def __init__(
        self, runner: Runner, ledger: Ledger, executor: Executor, request: RunRequest, stopping: Stopping
    ) -> None:
        self.runner, self.ledger, self.executor = runner, ledger, executor
        self.request, self.stopping = request, stopping
        self.root, self.listener = runner.root, runner.listener
        self.freshness = Freshness(self.root, ledger)
        self.recorder = Recorder(self.root, ledger, self.freshness, overwrite_edits=request.overwrite_edits)
        self.scratch = self.root / STATE / "scratch"
        self.gone: dict[str, tuple[str, ...]] = {}
        self.view = LedgerView(
            self.root, runner.settings, runner.decisions, ledger, limit=request.limit, gone=self.gone
        )  # fmt: skip
        self.judge = Judge(ledger, self.freshness, runner.decisions, request)

    def all(self, chosen: Sequence[Stage]) -> RunResult:
        """Runs the chosen stages in order."""
        self.recorder.recover()
        results: list[StageResult] = []
        for stage in chosen:
            try:
                results.append(self._stage(stage))
            except UserError as error:  # nothing to work on: no wonder after failures, which are the news then
                if not any(one.failed for one in results):
                    raise
                self.listener(Notice(f"{error.what} It waits for what failed before.", stage.name))
                break
        failures = [
            Failure(stage.name, item, picture, reason)
            for stage in chosen
            for item, picture, _, reason in self.ledger.ends(stage.name, ("failed",))
        ]
        return RunResult(tuple(results), tuple(failures))

    def _stage(self, stage: Stage) -> StageResult:
        started = time.perf_counter()
        plan = self.judge.stage(stage, self.view, self.runner.earlier(stage))
        files.check_room(self.root, plan.bytes or 0, stage.name)
        self.listener(StageStarted(stage.name, len(plan.todo), plan.pictures, plan.fresh, plan.seconds))
        making = Making(stage, self.runner, self.recorder, self.executor, self.stopping, self.scratch)
        try:
            self.recorder.forget(stage.name, plan.orphans)
            self.gone[stage.name] = () if plan.orphans else plan.hidden
            making.all(plan.todo)
        except (Exception, KeyboardInterrupt):
            self._end(stage, making)
            raise
        edited = (*plan.edited, *self._end(stage, making))
        if (plan.todo or plan.orphans) and making.done == len(plan.todo):
            self.judge.settle(stage, self.view, plan)
        if edited:
            self.listener(Notice(f"{len(edited)} edited by you and kept", stage.name, edited[0]))
        made, dropped, failed = self.ledger.counts(stage.name)
        seconds = time.perf_counter() - started
        self.listener(StageFinished(stage.name, making.done, plan.fresh, made, dropped, failed, seconds))
        if self.stopping() and making.done < len(plan.todo):
            raise self.stopping.error(f"{stage.name}: {making.done} of {len(plan.todo)} items done")
        return StageResult(
            stage.name, making.done, plan.fresh, made, dropped, failed, plan.orphans, edited, seconds
        )  # fmt: skip

    def _end(self, stage: Stage, making: Making) -> tuple[str, ...]:
        """Leaves the stage in order: nothing in scratch, records written. Returns the shared files that were kept.

        Where files could not all be put in place, everything stays as it is for the next start to complete.
        """
        self.recorder.finish()
        if self.ledger.pending():
            return ()
        making.tidy()
        self.view.changed(stage.name)
        written = self.scratch / "written"
        files.remove_tree(written)
        kept = publish(
            stage, self.view, self.root, self.ledger, written, overwrite_edits=self.request.overwrite_edits
        )  # fmt: skip
        files.remove_tree(written)
        if self.scratch.is_dir() and not any(self.scratch.iterdir()):
            self.scratch.rmdir()
        return kept
