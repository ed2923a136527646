"""What a stage is: it says *what* there is to make; the engine decides whether, where, in what order and how it ends.

A stage lists its items from what earlier stages recorded (`View`), and makes one item at a time in a scratch folder
(`Tools`). It never asks if something exists, never catches a crash, never writes outside its scratch folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

Status = Literal["made", "dropped", "failed"]


@dataclass(frozen=True)
class Item:
    """One piece of work: a source, a shot, a scene, or the whole set.

    Everything that its result depends on is in here, and is what the fingerprint is made of.

    Attributes:
        name: unique within the stage: `harbor`, `harbor-s003`, `scene-00`, `all`.
        pictures: names of the pictures that it is expected to give an outcome for; may be empty when not known yet.
        files: files whose content matters: POSIX paths relative to the project, or absolute for sources outside it.
        settings: dotted key to value, only those that this item reads: `{"inpaint.engine": "patch"}`. JSON values.
        decisions: what a person decided about it. JSON values.
        payload: anything else that `make` needs and the result depends on. JSON values.
        backend: identity of the model or algorithm with its revision: `motion/1`, `lama@sha256:…`.
        hints: what `make` needs but the result does not depend on (say, where a source lies). Not fingerprinted.
    """

    name: str
    pictures: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    hints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How one picture of an item ended.

    Attributes:
        picture: `harbor-s003/000060`, or the item's own name where an item is not made of pictures.
        status: `made`, `dropped` (a result, with its reason) or `failed` (tried again by `retry` or when an input
            changes).
        reason: why it was dropped or failed; for a made picture empty or a remark.
        outputs: files written below `tools.scratch` at these project-relative POSIX paths.
        record: JSON values that later stages, the report and the stage's records file get to see. No times, no hosts.
    """

    picture: str
    status: Status = "made"
    reason: str = ""
    outputs: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """An outcome as it stands in the ledger."""

    item: str
    picture: str
    status: Status
    reason: str
    outputs: tuple[str, ...]
    record: Mapping[str, Any]


class View(Protocol):
    """What a stage may look at when it lists its items. Cheap: no picture is opened."""

    root: Path
    settings: Any
    """The typed settings: `view.settings.inpaint.engine`."""
    decisions: Any
    """The project's `Decisions`."""
    limit: int | None
    """How many pictures to try on; None for all."""

    def chosen(self, pictures: Iterable[str]) -> set[str]:
        """The pictures to try on under `limit`, evenly spread over the shots; all of them without a limit."""
        ...

    def rows(self, stage: str) -> list[Row]:
        """Outcomes of an earlier stage, sorted by picture; of items that still exist."""
        ...

    def item_record(self, stage: str, item: str) -> Mapping[str, Any]:
        """What `Tools.remark` stored for an item; empty if nothing."""
        ...


class Tools(Protocol):
    """What `make` is handed."""

    root: Path
    """The project folder, for reading inputs."""
    scratch: Path
    """An empty folder; outputs go to `scratch / "plates/harbor-s003/000060.png"`. Kept till done if `keeps_scratch`."""
    settings: Any
    seed: int
    """Derived from project, stage and item names: the same on every machine."""

    def progress(self, done: float, total: float, text: str = "") -> None:
        """Says how far this item is."""
        ...

    def remark(self, record: Mapping[str, Any]) -> None:
        """Stores JSON values about the item as a whole (camera kind of a shot, loss curve of a training)."""
        ...

    def stopping(self) -> bool:
        """True when the user or `--max-time` asked to stop: long items save their state and raise `Stopped`."""
        ...

    def once(self, key: str, load: Callable[[], Any]) -> Any:
        """Loads something heavy (a model) once per worker process."""
        ...


class Stopped(Exception):
    """Raised by a long item that saved its state in scratch because `Tools.stopping()` said so."""


class Stage(ABC):
    """One step of the pipeline.

    Class attributes:
        name: the command's name.
        counts: what its rows are, in plural: `plates`.
        version: raised when the stage's results change for the same inputs.
        reads: names of the stages whose rows it lists its items from.
        heeds: names of further stages whose rows count where there are some; it can work without them.
        home: project folder that holds the stage's records file.
        records: the records file's name; by default `<name>.jsonl`.
        parallel: items may be made in several processes at once (CPU work).
        keeps_scratch: a stopped or killed item finds its scratch folder as it left it, if its fingerprint is the same.
        keeps_earlier: when making an item again fails, what it made before stays in place (a night's training).
    """

    name: ClassVar[str]
    counts: ClassVar[str] = "pictures"
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    heeds: ClassVar[tuple[str, ...]] = ()
    home: ClassVar[str]
    records: ClassVar[str] = ""
    parallel: ClassVar[bool] = True
    keeps_scratch: ClassVar[bool] = False
    keeps_earlier: ClassVar[bool] = False

    @abstractmethod
    def items(self, view: View) -> Iterable[Item]:
        """Lists the work. Raises `UserError` when there can be none (no source, no plates)."""

    @abstractmethod
    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Makes one item. May raise `BgloraError` (item failed with its three lines); any other exception is a bug."""

    def shared_files(self, view: View) -> Mapping[str, bytes]:
        """Files that sum up the whole stage (`frames/shots.json`), from the rows alone; path to content."""
        return {}

    def surroundings(self, view: View) -> str:
        """What `items` looks at besides settings, decisions, earlier rows and this package's code.

        For instance the revision of a backend from another package. While it stays the same, a stage that `reads`
        others need not be listed again when those and the settings did not change. Cheap: imports nothing heavy.
        """
        return ""
