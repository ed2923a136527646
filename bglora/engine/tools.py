"""What a stage's `make` is handed, and the making of one item from scratch folder to result."""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bglora.engine import files
from bglora.engine.fingerprint import canonical
from bglora.engine.stage import Item, Outcome, Stage, Stopped
from bglora.errors import BgloraError, MachineError

Progress = Callable[[str, float, float, str], None]
"""Called with item, done, total, text."""


@dataclass(frozen=True)
class StageJob:
    """What all items of a stage share. Goes to worker processes by pickle.

    Attributes:
        project: name that seeds are made from.
    """

    stage: Stage
    root: Path
    settings: Any
    project: str = ""


@dataclass(frozen=True)
class Task:
    """One item to make in a scratch folder of its own."""

    item: Item
    scratch: Path


@dataclass(frozen=True)
class Output:
    """A file that was made: project-relative path, content digest, `size<TAB>mtime_ns`."""

    path: str
    digest: str
    stamp: str

    @property
    def bytes(self) -> int:
        """Its size."""
        return int(self.stamp.partition("\t")[0])


@dataclass(frozen=True)
class Result:
    """How an item ended in its worker.

    Attributes:
        remark: JSON text that `Tools.remark` was given last; empty if never.
        error: what, where, cure of a crash or a three-line error; None if `make` came to its end.
        fatal: an error that ends the whole run (the machine lacks something).
        trace: traceback of a crash, for the logs.
        stopped: the item saved its state and waits for the next run.
        scratch: where its outputs lie, if not in the task's folder: it was made once more, elsewhere.
    """

    item: str
    outcomes: tuple[Outcome, ...] = ()
    outputs: tuple[Output, ...] = ()
    remark: str = ""
    seconds: float = 0.0
    error: tuple[str, str, str] | None = None
    fatal: BgloraError | None = None
    trace: str = ""
    stopped: bool = False
    scratch: Path | None = None


@dataclass
class ItemTools:
    """The `Tools` of one item."""

    root: Path
    scratch: Path
    settings: Any
    seed: int
    item: str
    report: Progress
    stop: Callable[[], bool]
    cache: dict[str, Any]
    remarked: str = field(default="")

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Says how far this item is."""
        self.report(self.item, done, total, text)

    def remark(self, record: Mapping[str, Any]) -> None:
        """Stores JSON values about the item as a whole; the last call counts."""
        self.remarked = canonical(dict(record))

    def stopping(self) -> bool:
        """True when the user or `--max-time` asked to stop."""
        return self.stop()

    def once(self, key: str, load: Callable[[], Any]) -> Any:
        """Loads something heavy once per worker process."""
        if key not in self.cache:
            self.cache[key] = load()
        return self.cache[key]


def seed_of(project: str, stage: str, item: str) -> int:
    """32-bit seed from names alone: the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{project}\n{stage}\n{item}".encode()).digest()[:4], "big")


def make_item(job: StageJob, task: Task, report: Progress, stop: Callable[[], bool], cache: dict[str, Any]) -> Result:
    """Makes one item; whatever it raises becomes part of the result."""
    started = time.perf_counter()
    name = task.item.name
    seed = seed_of(job.project, job.stage.name, name)
    tools = ItemTools(job.root, task.scratch, job.settings, seed, name, report, stop, cache)
    where = f"{job.stage.name} {name}"
    try:
        task.scratch.mkdir(parents=True, exist_ok=True)
        outcomes = tuple(_canonical_outcome(one) for one in job.stage.make(task.item, tools))
        outputs = _outputs(outcomes, task.scratch)
    except Stopped:
        return Result(name, stopped=True)
    except MachineError as error:
        return Result(name, fatal=error)
    except BgloraError as error:
        return Result(name, seconds=time.perf_counter() - started, error=(error.what, error.where, error.cure))
    except Exception as error:
        fatal = files.translated(error, where) if isinstance(error, OSError) and _ours(error, task.scratch) else None
        if fatal is not None:
            return Result(name, fatal=fatal)
        told = _crash(error, where)
        return Result(name, seconds=time.perf_counter() - started, error=told, trace=traceback.format_exc())
    return Result(name, outcomes, outputs, tools.remarked, time.perf_counter() - started)


def _ours(error: OSError, scratch: Path) -> bool:
    """A full disk ends the run; a refusal only where we write, for an unreadable source is the item's own trouble."""
    full = isinstance(files.translated(error, scratch), MachineError)
    return full or (error.filename is not None and os.fspath(scratch) in os.fsdecode(error.filename))


def _crash(error: Exception, where: str) -> tuple[str, str, str]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error}".rstrip(": ").split("\n")[0]
    place = f"{where}, {Path(frame.filename).name}:{frame.lineno}"
    return f"Making it crashed: {text}", place, "See the traceback in .bglora/logs; `bglora retry` tries again."


def _canonical_outcome(one: Outcome) -> Outcome:
    if one.status not in ("made", "dropped", "failed"):
        raise ValueError(f"no such status: {one.status!r} of {one.picture}")
    canonical(dict(one.record))
    return one


def _outputs(outcomes: tuple[Outcome, ...], scratch: Path) -> tuple[Output, ...]:
    twice = [name for name, count in Counter(one.picture for one in outcomes).items() if count > 1]
    if twice:
        raise ValueError(f"two outcomes for {twice[0]!r}")
    found: dict[str, Output] = {}
    for one in outcomes:
        for path in one.outputs:
            files.check_output(path)
            if path in found:
                raise ValueError(f"two outcomes name the output {path!r}")
            made = scratch / path
            stamp = files.stamp(made)
            if stamp is None or made.is_dir():
                raise FileNotFoundError(f"the outcome of {one.picture} names an output that was not written: {path}")
            found[path] = Output(path, files.digest_file(made), stamp)
    return tuple(found.values())
