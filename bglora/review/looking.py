"""The project as it stands: looked at again when its folder changed, and kept until then."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bglora.decisions import FILE
from bglora.engine.files import digest_bytes, stamp
from bglora.engine.status import StageStatus
from bglora.project import Project
from bglora.review.state import Pictures, Plates, read_plates, read_state
from bglora.review.undo import Journal

WATCHED = (".bglora/ledger.sqlite", ".bglora/ledger.sqlite-wal", FILE, "project.toml")

MANY, JUST = 2_000, 5.0
"""Of so many plates not every file is looked at again within so many seconds."""


@dataclass(frozen=True)
class Look:
    """One look at the project.

    Attributes:
        state: what the page gets, but for what runs; `text` is the same as JSON without its last brace.
        pictures: what may be shown.
        status: how each stage stands.
        stamps: of the files that tell of changes, and the last act, as they were just before the look.
    """

    state: dict[str, Any]
    text: str
    pictures: Pictures
    status: Sequence[StageStatus]
    stamps: str


class Looks:
    """Looks at one project. Safe to use from several threads."""

    def __init__(self, project: Project) -> None:
        self.project = replace(project, watching=True)
        self.journal = Journal(project.root)
        self._lock = threading.Lock()
        self._last: Look | None = None
        self._plates: Plates | None = None
        self._looked = 0.0
        self.seconds = 0.0
        """How long the last look took."""

    def stamps(self) -> str:
        """Changes when the project does: decisions, settings, acts, and whatever a run records."""
        found = (stamp(self.project.root / name) or "" for name in WATCHED)
        return digest_bytes("\n".join((*found, self.journal.head())).encode())

    def revision(self) -> str:
        """What an act must know: changes with every decision and every act, not with what a run makes."""
        try:
            decisions = (self.project.root / FILE).read_bytes()
        except FileNotFoundError:
            decisions = b""
        return digest_bytes(decisions + b"\n" + self.journal.head().encode())

    def now(self, *, thorough: bool = False) -> Look:
        """The project as it stands.

        Args:
            thorough: look even if nothing tells of a change, unless somebody has just looked: a file that was edited by
                hand tells nobody.
        """
        with self._lock:
            stamps = self.stamps()
            many = self._plates is not None and len(self._plates.plates) > MANY
            thorough = self._last is None or (thorough and not (many and time.monotonic() - self._looked < JUST))
            if self._last is None or thorough or self._last.stamps != stamps:
                self._last = self._look(stamps, thorough)
            return self._last

    def last(self) -> Look:
        """The last look, whatever changed since; the first one if there was none."""
        return self._last or self.now()

    def _look(self, stamps: str, thorough: bool) -> Look:
        started = time.monotonic()
        revision, undo = self.revision(), self.journal.last()
        with _undisturbed():
            status = self.project.status(thorough=thorough)
            with self.project.view() as view:
                self._plates = read_plates(view, self._plates)
                state, pictures = read_state(view, status, self._plates)
        state = {"revision": revision, "undo": undo, **state}
        text = json.dumps(state, ensure_ascii=False, separators=(",", ":"), default=str)
        self._looked = time.monotonic()
        self.seconds = self._looked - started
        return Look(state, text, pictures, status, stamps)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No search for garbage in cycles while many rows are read: there are none, and it takes as long as the reading."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
