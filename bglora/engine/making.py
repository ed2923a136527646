"""Making the items of one stage: handing them out, hearing how they go, recording how they end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.engine import files
from bglora.engine.events import ItemFailed, ItemFinished, ItemProgress, ItemStarted
from bglora.engine.executors import Executor
from bglora.engine.plan import Verdict
from bglora.engine.record import Recorder
from bglora.engine.stage import Stage
from bglora.engine.stopping import Stopping
from bglora.engine.tools import Result, StageJob, Task
from bglora.errors import BgloraError

if TYPE_CHECKING:
    from bglora.engine.runner import Runner

_TOGETHER = 0.25
"""Seconds that quick results may wait to be recorded in one transaction; a lost one is quickly made again."""


class Making:
    """One stage's items on their way from plan to ledger."""

    def __init__(
        self, stage: Stage, runner: Runner, recorder: Recorder, executor: Executor, stopping: Stopping, scratch: Path
    ) -> None:
        self.stage, self.runner, self.recorder = stage, runner, recorder
        self.executor, self.stopping = executor, stopping
        self.scratch = scratch / stage.name
        self._waiting: list[tuple[Verdict, Result, Path]] = []
        self._recorded_at = time.perf_counter()
        self._started = time.perf_counter()
        self._done_pictures = 0
        self._all_pictures = 0
        self.done = 0
        """Items that ended and are recorded."""

    def all(self, todo: Iterable[Verdict]) -> None:
        """Makes the items."""
        verdicts = {one.item.name: one for one in todo}
        self._all_pictures = sum(len(one.item.pictures) or 1 for one in verdicts.values())
        self._clear(verdicts.values())
        job = StageJob(self.stage, self.runner.root, self.runner.settings, _project_name(self.runner.settings))
        fatal: BgloraError | None = None
        if verdicts:
            for result in self.executor.run(job, self._tasks(verdicts.values()), self._report, self.stopping):
                fatal = result.fatal
                if fatal is not None:
                    break
                if not result.stopped:
                    self._take(verdicts[result.item], result)
        self._flush()
        if fatal is not None:
            raise fatal

    def _clear(self, verdicts: Iterable[Verdict]) -> None:
        """Empties scratch; a stage that keeps it keeps the folders of the fingerprints that are about to be made."""
        kept = {self._folder(one).name for one in verdicts} if self.stage.keeps_scratch else set()
        if self.scratch.is_dir():
            for folder in self.scratch.iterdir():
                if folder.name not in kept:
                    files.remove_tree(folder)

    def tidy(self) -> None:
        """Empties scratch at the end; a stage that keeps it keeps the folders of items that did not end."""
        if not self.stage.keeps_scratch:
            files.remove_tree(self.scratch)
        if self.scratch.is_dir() and not any(self.scratch.iterdir()):
            self.scratch.rmdir()

    def _folder(self, verdict: Verdict) -> Path:
        return self.scratch / f"{files.safe_name(verdict.item.name)}-{verdict.fingerprint[:12]}"

    def _tasks(self, verdicts: Iterable[Verdict]) -> Iterator[Task]:
        for one in verdicts:
            if self.stopping():
                return
            if one.missing:
                self._take(one, _without_input(one))
                continue
            self.runner.listener(ItemStarted(self.stage.name, one.item.name, one.reasons, len(one.item.pictures)))
            yield Task(one.item, self._folder(one))

    def _report(self, item: str, done: float, total: float, text: str) -> None:
        self.runner.listener(ItemProgress(self.stage.name, item, done, total, text))

    def _take(self, verdict: Verdict, result: Result) -> None:
        if result.trace:
            self._log(verdict, result.trace)
        self._waiting.append((verdict, result, result.scratch or self._folder(verdict)))
        now = time.perf_counter()
        if result.seconds > _TOGETHER / 4 or now - self._recorded_at > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._recorded_at = time.perf_counter()
        if not waiting:
            return
        self.recorder.record(self.stage.name, waiting, keeps_earlier=self.stage.keeps_earlier)
        self.done += len(waiting)
        for verdict, result, _ in waiting:
            self._tell(verdict, result)

    def _tell(self, verdict: Verdict, result: Result) -> None:
        self._done_pictures += len(verdict.item.pictures) or 1
        if result.error is not None:
            self.runner.listener(ItemFailed(self.stage.name, verdict.item.name, *result.error))
        ends = [one.status for one in result.outcomes] or ["failed"] * (result.error is not None)
        counts = {status: ends.count(status) for status in ("made", "dropped", "failed")}
        elapsed = time.perf_counter() - self._started
        left = elapsed / self._done_pictures * (self._all_pictures - self._done_pictures)
        self.runner.listener(ItemFinished(self.stage.name, verdict.item.name, counts, result.seconds, left))

    def _log(self, verdict: Verdict, trace: str) -> None:
        folder = self.runner.root / ".bglora" / "logs"
        with files.told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{self.stage.name}-{files.safe_name(verdict.item.name)}.txt"
            path.write_text(trace, encoding="utf-8")


def _without_input(verdict: Verdict) -> Result:
    cure = "Put it back, or run the pipeline from the stage that makes it: bglora run --all"
    return Result(verdict.item.name, error=("An input is missing.", verdict.missing, cure))


def _project_name(settings: object) -> str:
    """The name that seeds are made from; settings without one give none."""
    return str(getattr(getattr(settings, "project", None), "name", ""))
