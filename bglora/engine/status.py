"""The state of a stage in numbers, for the table that `status` shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bglora.engine.ledger import Ledger
from bglora.engine.plan import StagePlan

NAMES_AND_FIGURES = re.compile(r"[^\s,;:()]*\d[^\s,;:()]*")


def by_kind(reasons: Mapping[str, int]) -> dict[str, int]:
    """Reasons that differ in names and figures only as one, most frequent first.

    `{"near copy of a-s000/000027": 29, "near copy of a-s002/000062": 23}` is
    `{"near copy of a-s000/000027, and the like": 52}`.
    """
    kinds: dict[str, list[str]] = {}
    for reason in sorted(reasons, key=lambda one: -reasons[one]):
        kinds.setdefault(NAMES_AND_FIGURES.sub("", reason), []).append(reason)
    found = {}
    for first, *others in kinds.values():
        found[first + (", and the like" if others else "")] = sum(reasons[one] for one in (first, *others))
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


@dataclass(frozen=True)
class StageStatus:
    """How a stage stands.

    Attributes:
        made, dropped, failed: pictures that need nothing more, by how they ended.
        todo: pictures to make (an item whose pictures are not known yet counts as one); items: the items they are in.
        reasons: why they have to be made, with the number of items.
        failures: reason to number of failed pictures. drops: likewise for dropped ones.
        edited: outputs that a person edited. orphans: items that no longer exist.
        seconds_spent: time that the present results took to make. seconds_left: estimate; None if unknown.
        waits_for: earlier stages that have to run first. note: why its work can't be listed yet.
        counts: what is counted, in plural: `plates`.
    """

    stage: str
    made: int
    todo: int
    failed: int
    dropped: int
    items: int
    reasons: Mapping[str, int]
    failures: Mapping[str, int]
    drops: Mapping[str, int]
    edited: tuple[str, ...]
    orphans: tuple[str, ...]
    seconds_spent: float
    seconds_left: float | None
    waits_for: tuple[str, ...] = ()
    note: str = ""
    counts: str = "pictures"

    def to_json(self) -> dict[str, Any]:
        """The status as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def status_of(ledger: Ledger, plan: StagePlan, counts: str) -> StageStatus:
    """The status that belongs to a stage's plan; `counts`: what the stage's rows are."""
    failures: dict[str, int] = {}
    for _, reason in plan.failures:
        failures[reason] = failures.get(reason, 0) + 1
    return StageStatus(
        stage=plan.stage, made=plan.made, todo=plan.pictures, failed=plan.failed, dropped=plan.dropped,
        items=len(plan.todo), reasons=plan.reasons(), failures=failures, drops=plan.drops,
        edited=plan.edited, orphans=plan.orphans,
        seconds_spent=ledger.history(plan.stage)[0], seconds_left=plan.seconds,
        waits_for=plan.waits_for, note=plan.note, counts=counts,
    )  # fmt: skip
