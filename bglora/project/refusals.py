"""Verdicts on LoRAs that a project's settings refuse."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from bglora.engine.runner import Refusal
from bglora.engine.stage import View
from bglora.errors import Refused


def found(view: View, stages: Collection[str]) -> Iterator[Refusal]:
    """Faults that `test` found and `test.fail_on` names, if `test` is among the stages of the run."""
    refused = view.settings.test.fail_on
    if not refused or "test" not in stages:
        return
    for row in view.rows("test"):
        for fault in row.record.get("verdict", ()):
            if fault["word"] in refused:
                yield Refusal("test", row.item, fault["word"], fault["cure"])


def as_error(refused: Sequence[Refusal]) -> Refused:
    """All of them as one error in three lines."""
    words = ", ".join(dict.fromkeys(one.words for one in refused))
    first = refused[0]
    more = f" The cures of the other {len(refused) - 1}: bglora report." if len(refused) > 1 else ""
    return Refused(
        f"Everything is done, but test.fail_on refuses what was found: {words}.",
        where=", ".join(f"{one.item} ({one.words})" for one in refused),
        cure=f"{first.item}: {first.cure}{more}",
    )
