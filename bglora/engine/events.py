"""What a run tells while it works: frozen records that a console shows and a script reads as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Event:
    """Base of all events. `to_json` gives JSON values with the event's kind."""

    kind: ClassVar[str] = "event"

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object: `{"event": kind, …fields}`."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage was listed and judged and is about to work.

    Attributes:
        stage: the stage's name.
        items, pictures: how many will be made now (pictures as far as they are known beforehand).
        fresh: items that need nothing.
        seconds_left: estimate from earlier runs, None without a history.
    """

    kind: ClassVar[str] = "stage-started"
    stage: str
    items: int
    pictures: int
    fresh: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class ItemStarted(Event):
    """An item was handed to a worker. `reasons` say why it is made."""

    kind: ClassVar[str] = "item-started"
    stage: str
    item: str
    reasons: tuple[str, ...] = ()
    pictures: int = 0


@dataclass(frozen=True)
class ItemProgress(Event):
    """How far an item is: `done` of `total`, in the stage's own unit."""

    kind: ClassVar[str] = "item-progress"
    stage: str
    item: str
    done: float
    total: float
    text: str = ""


@dataclass(frozen=True)
class ItemFinished(Event):
    """An item has ended and is recorded.

    Attributes:
        outcomes: pictures per status: `{"made": 3, "dropped": 1, "failed": 0}`.
        seconds: wall time of making it.
        seconds_left: estimate for the rest of the stage, None without a history.
    """

    kind: ClassVar[str] = "item-finished"
    stage: str
    item: str
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class ItemFailed(Event):
    """An item crashed or raised a three-line error; its pictures count as failed, the others go on."""

    kind: ClassVar[str] = "item-failed"
    stage: str
    item: str
    what: str
    where: str
    cure: str


WorkerState = Literal["starting", "working", "idle", "lost"]


@dataclass(frozen=True)
class WorkerChanged(Event):
    """What a worker of a cluster does now.

    Attributes:
        worker: its name: the node's, and a number.
        state: `starting`, `working` (on `item`), `idle`, or `lost`.
        item: what it works on; of a lost one: what it had.
        text: why it was lost.
    """

    kind: ClassVar[str] = "worker-changed"
    stage: str
    worker: str
    state: WorkerState
    item: str = ""
    text: str = ""


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage has ended (or stopped) and its records are written. Counts as in `StageResult`."""

    kind: ClassVar[str] = "stage-finished"
    stage: str
    items: int
    fresh: int
    made: int
    dropped: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Notice(Event):
    """Something that a person should know: an edit that was kept, a ledger that was rebuilt."""

    kind: ClassVar[str] = "notice"
    text: str
    stage: str = ""
    where: str = ""
    cure: str = ""


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that hears nothing."""
