"""When a stage need not list its items again, because nothing that the list could depend on has changed.

A stage lists its items from the settings, the decisions and the rows of the stages it reads. With 100,000 pictures that
takes seconds, so the ledger remembers under which circumstances the recorded items were exactly the listed ones. A
stage that reads no other stage looks at the world outside and is always asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bglora.engine.files import digest_bytes
from bglora.engine.fingerprint import canonical
from bglora.engine.ledger import Ledger
from bglora.engine.stage import Stage
from bglora.engine.view import LedgerView


def circumstances(stage: Stage, view: LedgerView, ledger: Ledger, looked_at: Iterable[str]) -> str:
    """All that the stage's list may depend on: a hash, and the stages looked at. Empty if it is asked in any case.

    Args:
        looked_at: stages whose rows or remarks the stage looked at when it last listed its items.
    """
    names = sorted({*stage.reads, *stage.heeds, stage.name, *looked_at})
    if not stage.reads or any(view.hidden(name) for name in names):
        return ""
    about = [
        stage.version,
        _code(type(stage).__module__.partition(".")[0]),
        repr(view.settings),
        repr(view.decisions),
        view.limit,
        [ledger.revision(name) for name in names],
        stage.surroundings(view),
    ]
    return " ".join([digest_bytes(canonical(about).encode()), *names])


def unchanged(stage: Stage, view: LedgerView, ledger: Ledger) -> bool:
    """True if the recorded items are exactly those that the stage would list now."""
    before = ledger.listing(stage.name)
    return before != "" and before == circumstances(stage, view, ledger, before.split(" ")[1:])


@cache
def _code(package: str) -> str:
    """Sizes and times of a package's source files: other code may list other items."""
    file = getattr(sys.modules.get(package), "__file__", None)
    stamps: list[tuple[str, int, int]] = []
    for folder, _, names in os.walk(Path(file).parent) if file else ():
        for name in names:
            if name.endswith(".py"):
                info = os.stat(os.path.join(folder, name))
                stamps.append((name, info.st_size, info.st_mtime_ns))
    return digest_bytes(repr(sorted(stamps)).encode())
