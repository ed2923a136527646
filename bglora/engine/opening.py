"""Opening a project's ledger: rebuilt from the records files when it is new, set aside first when it is damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bglora.engine.files import LedgerDamaged, unlink_quietly
from bglora.engine.ledger import Ledger
from bglora.engine.records import adopt
from bglora.engine.stage import Stage

STATE = ".bglora"
NAME = "ledger.sqlite"
SUSPECT = "ledger.suspect"
"""Lies beside a ledger that was found damaged in the middle of a run."""
_ALWAYS_CHECKED = 16 << 20
"""Bytes up to which a ledger is checked at every start; larger ones only after a run that did not end well."""


def open_ledger(root: Path, stages: Sequence[Stage], notice: Callable[[str], None], *, write: bool) -> Ledger:
    """Opens the ledger of a project.

    Args:
        notice: called with a sentence when the ledger was set aside or rebuilt.
        write: False opens without changing anything; a missing ledger is then rebuilt in memory.

    Raises:
        UserError: it was written by a newer bglora, or the folder can't be written.
    """
    path = root / STATE / NAME
    if not write:
        return _reading(root, path, stages)
    if path.exists() and not _sound(path):
        notice(f"The ledger was damaged; it is set aside as {_set_aside(path)} and rebuilt by content.")
    ledger = Ledger(path)
    found = adopt(stages, root, ledger)
    if found:
        listed = ", ".join(f"{stage} {count}" for stage, count in found.items())
        notice(f"The ledger did not know of earlier work; it was found by its records: {listed} items.")
    return ledger


def _reading(root: Path, path: Path, stages: Sequence[Stage]) -> Ledger:
    if path.exists():
        with suppress(sqlite3.DatabaseError):
            ledger = Ledger(path, readonly=True)
            if ledger.readable():
                return ledger
            ledger.close()
    ledger = Ledger(None)
    adopt(stages, root, ledger)
    return ledger


def _sound(path: Path) -> bool:
    unclean = path.with_name(path.name + "-wal")
    suspect = path.with_name(SUSPECT)
    thorough = path.stat().st_size <= _ALWAYS_CHECKED or unclean.exists() or suspect.exists()
    unlink_quietly(suspect)
    try:
        ledger = Ledger(path)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise
        return False
    except LedgerDamaged:
        return False
    try:
        return ledger.readable() and (not thorough or ledger.sound())
    finally:
        ledger.close()


def _set_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"ledger.damaged-{number}")).exists():
        number += 1
    os.replace(path, aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).unlink()
    return aside.name
