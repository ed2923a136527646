"""What would be made and why: each item's description is compared with the ledger, its outputs with the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from bglora.engine import listing
from bglora.engine.fingerprint import MISSING, about_text, explain, fingerprint, inputs_text
from bglora.engine.freshness import AS_RECORDED, Condition, Freshness
from bglora.engine.ledger import ItemRow, Ledger
from bglora.engine.stage import Item, Stage
from bglora.engine.view import LedgerView


@dataclass(frozen=True)
class RunRequest:
    """What is asked for.

    Attributes:
        stages: names, in any order; empty for all.
        limit: try on this many pictures, spread over the shots.
        only: fnmatch patterns on item or picture names, commas between them; other items are left as they are.
        overwrite_edits: outputs that a person edited are made again.
        max_time: seconds after which the run stops.
        retry: failed items are tried again, whatever was decided.
    """

    stages: tuple[str, ...] = ()
    limit: int | None = None
    only: str | None = None
    overwrite_edits: bool = False
    max_time: float | None = None
    retry: bool = False

    def picks(self, item: Item) -> bool:
        """True if `only` does not leave the item out."""
        if self.only is None:
            return True
        patterns = self.only.split(",")
        return any(fnmatchcase(name, one) for name in (item.name, *item.pictures) for one in patterns)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An item that has to be made, or that would be if it were picked.

    Attributes:
        item: what the stage listed.
        about, inputs, fingerprint: its present description.
        reasons: why it is made, in words.
        tries: how often a person has asked to try it again.
    """

    item: Item
    about: str
    inputs: str
    fingerprint: str
    reasons: tuple[str, ...]
    tries: int = 0

    @property
    def missing(self) -> str:
        """The first input that is not there; empty if all are."""
        lines = (line.partition(" ") for line in self.inputs.split("\n") if line)
        return next((path for digest, _, path in lines if digest == MISSING), "")


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do.

    Attributes:
        stage: its name.
        todo: items to make, with reasons.
        fresh: number of items that need nothing.
        skipped: number of items to make that `only` leaves out.
        orphans: recorded items that no longer exist; their outputs would be moved away (but not by a run on a part).
        hidden: recorded items that the stage does not list now; later stages do not see them.
        edited: outputs that a person edited and that are kept.
        made, dropped, failed: pictures by status, as recorded, of items that need nothing.
        failures: (picture, reason) of the failed ones.
        drops: reason to number of dropped pictures.
        seconds: estimate for `todo`, None without a history. bytes: likewise, what it would write.
        waits_for: earlier stages whose results may change these items before their turn comes.
        note: why nothing can be listed yet; empty if the items are listed.
    """

    stage: str
    todo: tuple[Verdict, ...] = ()
    fresh: int = 0
    skipped: int = 0
    orphans: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    made: int = 0
    dropped: int = 0
    failed: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    drops: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    bytes: int | None = None
    waits_for: tuple[str, ...] = ()
    note: str = ""

    @property
    def pictures(self) -> int:
        """Pictures to make, as far as they are known; an item without a list counts as one."""
        return sum(len(one.item.pictures) or 1 for one in self.todo)

    def reasons(self) -> dict[str, int]:
        """Reason to the number of items that are made because of it, most frequent first."""
        return dict(Counter(reason for one in self.todo for reason in one.reasons).most_common())

    def to_json(self) -> dict[str, Any]:
        """The plan of this stage as JSON values."""
        return {
            "stage": self.stage,
            "todo": [
                {"item": one.item.name, "reasons": list(one.reasons), "pictures": len(one.item.pictures)}
                for one in self.todo
            ],
            "fresh": self.fresh,
            "skipped": self.skipped,
            "orphans": list(self.orphans),
            "edited": list(self.edited),
            "pictures": {"todo": self.pictures, "made": self.made, "dropped": self.dropped, "failed": self.failed},
            "failures": [{"picture": picture, "reason": reason} for picture, reason in self.failures],
            "drops": dict(self.drops),
            "seconds": self.seconds,
            "bytes": self.bytes,
            "waits_for": list(self.waits_for),
            "note": self.note,
        }


@dataclass(frozen=True)
class Plan:
    """What a run would do, stage by stage."""

    stages: tuple[StagePlan, ...]

    @property
    def fresh(self) -> bool:
        """True if a run would make and move nothing."""
        return not any(one.todo or one.orphans or one.waits_for for one in self.stages)

    @property
    def seconds(self) -> float | None:
        """Estimate for everything; None if a stage with work has no history."""
        known = [one.seconds for one in self.stages if one.todo]
        return None if None in known else sum(value for value in known if value is not None)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {"stages": [one.to_json() for one in self.stages], "fresh": self.fresh, "seconds": self.seconds}


class Judge:
    """Compares listed items with the ledger and the disk."""

    def __init__(self, ledger: Ledger, freshness: Freshness, decisions: Any, request: RunRequest) -> None:
        self.ledger, self.freshness, self.request = ledger, freshness, request
        self.decisions = decisions

    def stage(self, stage: Stage, view: LedgerView, earlier: Iterable[str]) -> StagePlan:
        """The stage's plan.

        Args:
            earlier: names of the stages that the inputs may come from.
        """
        for name in earlier:
            self.freshness.verify(name)
        if listing.unchanged(stage, view, self.ledger):
            plan = self._unchanged(stage)
            if plan is not None:
                return plan
        view.looked_at.clear()
        plan = self._listed(stage, stage.items(view))
        if not plan.todo and not plan.hidden:
            self.settle(stage, view, plan)
        return plan

    def settle(self, stage: Stage, view: LedgerView, plan: StagePlan) -> None:
        """Remembers that the recorded items are exactly the listed ones, once the plan is carried out."""
        if plan.skipped or view.hidden(stage.name) or self.ledger.readonly:
            return
        circumstances = listing.circumstances(stage, view, self.ledger, view.looked_at)
        if circumstances != self.ledger.listing(stage.name):
            self.ledger.put_listing(stage.name, circumstances)

    def _unchanged(self, stage: Stage) -> StagePlan | None:
        """The plan of a stage whose items are the recorded ones: all fresh. None if a closer look is needed."""
        conditions = self.freshness.verify(stage.name)
        if any(one.missing for one in conditions.values()) or (conditions and self.request.overwrite_edits):
            return None
        if self.request.retry or _retries(self.decisions, stage.name):
            return None
        if not all(map(self.freshness.as_recorded, self.ledger.inputs(stage.name))):
            return None
        made, dropped, failed = self.ledger.counts(stage.name)
        ends = self.ledger.ends(stage.name, ("failed",)) if failed else ()
        drops = Counter(reason for _, _, _, reason in self.ledger.ends(stage.name, ("dropped",))) if dropped else {}
        return StagePlan(
            stage=stage.name, fresh=self.ledger.items_count(stage.name),
            edited=tuple(path for name in sorted(conditions) for path in conditions[name].edited),
            made=made, dropped=dropped, failed=failed, seconds=0.0, bytes=0,
            failures=tuple((picture, reason) for _, picture, _, reason in ends), drops=dict(drops),
        )  # fmt: skip

    def _listed(self, stage: Stage, items: Iterable[Item]) -> StagePlan:
        conditions = self.freshness.verify(stage.name)
        recorded = self.ledger.items(stage.name)
        retries = _retries(self.decisions, stage.name)
        failing = self._failing(stage.name)
        todo: list[Verdict] = []
        fresh = skipped = made = dropped = failed = 0
        seen: set[str] = set()
        relabeled: list[Verdict] = []
        for item in items:
            if item.name in seen:
                raise ValueError(f"stage {stage.name} lists the item {item.name!r} twice")
            seen.add(item.name)
            row = recorded.get(item.name)
            condition = conditions.get(item.name, AS_RECORDED)
            tries = _tries(retries, item, failing.get(item.name, ())) if retries else 0
            verdict = self._item(stage, item, row, condition, tries)
            if not verdict.reasons and row is not None:
                if row.about != verdict.about or row.inputs != verdict.inputs or (row.failed and row.tries < 0):
                    relabeled.append(verdict)
                fresh, made = fresh + 1, made + row.made
                dropped, failed = dropped + row.dropped, failed + row.failed
            elif self.request.picks(item):
                todo.append(verdict)
            else:
                skipped += 1
        self._relabel(stage.name, relabeled)
        whole = self.request.limit is None and self.request.only is None
        orphans = tuple(name for name in recorded if name not in seen)
        remade = {one.item.name for one in todo}
        kept = seen - remade
        seconds, size = self.estimate(stage.name, todo)
        return StagePlan(
            stage=stage.name, todo=tuple(todo), fresh=fresh, skipped=skipped,
            orphans=orphans if whole else (), hidden=orphans,
            edited=tuple(path for name in sorted(conditions) if name in seen for path in conditions[name].edited),
            made=made, dropped=dropped, failed=failed,
            failures=tuple(
                (picture, reason) for name, ends in failing.items() if name in kept for picture, reason in ends
            ),
            drops=self._drops(stage.name, kept) if dropped else {},
            seconds=seconds, bytes=size,
        )  # fmt: skip

    def _item(self, stage: Stage, item: Item, row: ItemRow | None, condition: Condition, tries: int) -> Verdict:
        about = about_text(stage, item)
        inputs = inputs_text(item.files, self.freshness.digest)
        if row is None:
            return Verdict(item, about, inputs, fingerprint(stage.name, about, inputs), ("new",), tries)
        mark, reasons = row.fingerprint, []
        if row.about != about or row.inputs != inputs:
            mark = fingerprint(stage.name, about, inputs)
            if mark != row.fingerprint:
                reasons += _why(stage.name, row, about, inputs)
        if row.failed and (self.request.retry or 0 <= row.tries < tries):
            reasons.append("retry")
        if condition.missing:
            more = len(condition.missing) - 1
            reasons.append(f"output missing: {condition.missing[0]}" + (f" and {more} more" if more else ""))
        if condition.edited and self.request.overwrite_edits:
            reasons.append(f"edit overwritten: {condition.edited[0]}")
        return Verdict(item, about, inputs, mark, tuple(reasons), tries)

    def _failing(self, stage: str) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for item, picture, _, reason in self.ledger.ends(stage, ("failed",)):
            found.setdefault(item, []).append((picture, reason))
        return found

    def _drops(self, stage: str, kept: set[str]) -> dict[str, int]:
        ends = self.ledger.ends(stage, ("dropped",))
        return dict(Counter(reason for item, _, _, reason in ends if item in kept).most_common())

    def _relabel(self, stage: str, verdicts: list[Verdict]) -> None:
        """Items whose fingerprint is the same though their texts differ: the ledger learns the new texts."""
        if not verdicts or self.ledger.readonly:
            return
        with self.ledger.transaction():
            for one in verdicts:
                self.ledger.put_texts(stage, one.item.name, one.about, one.inputs)
                self.ledger.put_tries(stage, one.item.name, one.tries)

    def estimate(self, stage: str, todo: Iterable[Verdict]) -> tuple[float | None, int | None]:
        """(seconds, bytes) that making these items would take, by the stage's own history; None without one."""
        seconds, pictures, items, size = self.ledger.history(stage)
        wanted = [len(one.item.pictures) for one in todo]
        if not wanted:
            return 0.0, 0
        if not items:
            return None, None
        share = sum(wanted) / pictures if pictures and all(wanted) else len(wanted) / items
        return seconds * share, int(size * share)


def _why(stage: str, row: ItemRow, about: str, inputs: str) -> list[str]:
    if not row.about:
        return ["changed since the ledger was lost"]
    return explain(stage, row.about, row.inputs, about, inputs) or ["changed"]


def _retries(decisions: Any, stage: str) -> dict[str, int]:
    return dict(decisions.retries(stage)) if decisions is not None else {}


def _tries(retries: Mapping[str, int], item: Item, failures: Iterable[tuple[str, str]]) -> int:
    names = [item.name, *item.pictures, *(picture for picture, _ in failures)]
    return sum(times for pattern, times in retries.items() if any(fnmatchcase(name, pattern) for name in names))
