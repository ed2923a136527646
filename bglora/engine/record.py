"""Recording a made item so that a kill at any moment loses nothing and leaves nothing half done.

    1. the outputs lie complete in the item's scratch folder
    2. one transaction stores the item, its pictures and which files have to be moved (`pending`)
    3. the files are moved into place, old ones that are no longer made are moved away
    4. the next transaction deletes the `pending` entry

A kill before 2: the item is made again. After 2: the next start does 3 and 4.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bglora.engine import files
from bglora.engine.checkpoint import reached
from bglora.engine.fingerprint import canonical
from bglora.engine.freshness import Freshness
from bglora.engine.ledger import ItemRow, Ledger, PictureRow
from bglora.engine.plan import Verdict
from bglora.engine.stage import Outcome
from bglora.engine.tools import Result

ORPHANS = ".bglora/orphans"
"""Where outputs go that no item makes any more, under their old paths."""

UNKNOWN_STAMP = "-1\t-1"


Pairs = tuple[tuple[str, str], ...]
"""Paths with the digests that belong there."""


@dataclass(frozen=True)
class Move:
    """The files of one item on their way: from its scratch folder into place, and old ones away."""

    scratch: str
    place: Pairs
    away: Pairs

    def text(self) -> str:
        """As the ledger keeps it."""
        return canonical([self.scratch, self.place, self.away])

    @classmethod
    def of(cls, text: str) -> Move:
        """From what the ledger keeps."""
        scratch, place, away = json.loads(text)
        return cls(scratch, tuple((path, digest) for path, digest in place), tuple((p, d) for p, d in away))


class Recorder:
    """Writes results into the ledger and moves files.

    Args:
        overwrite_edits: replace outputs that a person edited.
    """

    def __init__(self, root: Path, ledger: Ledger, freshness: Freshness, *, overwrite_edits: bool = False) -> None:
        self.root, self.ledger, self.freshness = root, ledger, freshness
        self.overwrite_edits = overwrite_edits
        self._unsettled: list[tuple[str, str]] = []

    def record(self, stage: str, ends: Iterable[tuple[Verdict, Result, Path]], *, keeps_earlier: bool = False) -> None:
        """Records items with their results and scratch folders, and puts their files in place.

        Args:
            keeps_earlier: what an item made before stays where it is if making it again failed.
        """
        moves: dict[str, Move] = {}
        reached("made")
        with self.ledger.transaction():
            self._settle()
            for verdict, result, scratch in ends:
                earlier = self._earlier(stage, result) if keeps_earlier and _failed(result) else {}
                move = moves[result.item] = self._moves(stage, result, scratch, earlier)
                pictures = _pictures(self.root, verdict, result)
                self.ledger.put_item(stage, *_with_earlier(_item_row(verdict, result), pictures, earlier))
                self.ledger.put_pending(stage, result.item, move.text())
        reached("intent-stored")
        self._do_all(stage, moves)

    def forget(self, stage: str, items: Iterable[str]) -> int:
        """Items that no longer exist: their outputs are moved away, edited ones stay. Returns the number of files."""
        gone = list(items)
        if not gone:
            return 0
        rows = self.ledger.items(stage)
        moves = {item: Move("", (), self._away(rows[item], ())) for item in gone}
        with self.ledger.transaction():
            self._settle()
            for item, move in moves.items():
                self.ledger.forget_item(stage, item)
                self.ledger.put_pending(stage, item, move.text())
        reached("orphans-stored")
        self._do_all(stage, moves)
        return sum(len(move.away) for move in moves.values())

    def finish(self) -> None:
        """Says in the ledger that all files are in place."""
        if self._unsettled:
            with self.ledger.transaction():
                self._settle()

    def recover(self) -> None:
        """Completes what a killed run had recorded; an item whose files are lost is forgotten, so it is made again."""
        for stage, item, text in self.ledger.pending():
            move = Move.of(text)
            lost = not self._complete(move)
            with self.ledger.transaction():
                if lost:
                    self.ledger.forget_item(stage, item)
                self.ledger.settle(stage, item)
            reached("recovered")

    def _settle(self) -> None:
        for stage, item in self._unsettled:
            self.ledger.settle(stage, item)
        self._unsettled = []

    def _earlier(self, stage: str, result: Result) -> dict[str, tuple[str, str]]:
        """Outputs that the item made before and has not made now."""
        row = self.ledger.item(stage, result.item)
        new = {one.path for one in result.outputs}
        return {path: known for path, known in _recorded(row.outputs if row else "").items() if path not in new}

    def _moves(self, stage: str, result: Result, scratch: Path, earlier: Iterable[str]) -> Move:
        row = self.ledger.item(stage, result.item)
        before = _recorded(row.outputs) if row else {}
        place = tuple(
            (one.path, one.digest)
            for one in result.outputs
            if self.overwrite_edits or not self._persons(stage, one.path, before.get(one.path))
        )
        new = {one.path for one in result.outputs}.union(earlier)
        return Move(scratch.relative_to(self.root).as_posix(), place, self._away(row, new) if row else ())

    def _persons(self, stage: str, path: str, recorded: tuple[str, str] | None) -> bool:
        """True if a person's file lies where an output belongs."""
        found = files.stamp(self.root / path)
        if found is None:
            return False
        recorded = recorded or self._owned(stage, path)
        if recorded is None:
            return not found.startswith("0\t")
        return found != recorded[1] and self.freshness.edited(path, recorded[0])

    def _owned(self, stage: str, path: str) -> tuple[str, str] | None:
        """(digest, stamp) of an output that another item of the stage has recorded."""
        texts = (_recorded(text) for _, text in self.ledger.outputs(stage))
        return next((known[path] for known in texts if path in known), None)

    def _away(self, row: ItemRow, new: Iterable[str]) -> Pairs:
        kept = set(new)
        gone = [(path, *known) for path, known in _recorded(row.outputs).items() if path not in kept]
        return tuple(
            (path, digest)
            for path, digest, stamp in gone
            if (found := files.stamp(self.root / path)) is not None
            and (found == stamp or not self.freshness.edited(path, digest))
        )

    def _do_all(self, stage: str, moves: Mapping[str, Move]) -> None:
        for item, move in moves.items():
            with files.told(self.root):
                for path, _ in move.place:
                    files.move(self.root / move.scratch / path, self.root / path)
                    reached("moved")
                self._put_away(path for path, _ in move.away)
                if move.scratch:
                    files.remove_tree(self.root / move.scratch)
            self._unsettled.append((stage, item))
            self.freshness.changed(stage, (path for path, _ in move.place + move.away))
            reached("in-place")

    def _put_away(self, paths: Iterable[str]) -> None:
        for path in paths:
            if (self.root / path).exists():
                files.move(self.root / path, self.root / ORPHANS / path)
                files.remove_empty((self.root / path).parent, self.root)
                reached("moved-away")

    def _complete(self, move: Move) -> bool:
        scratch = self.root / move.scratch
        whole = True
        for path, digest in move.place:
            if (scratch / path).is_file():
                files.move(scratch / path, self.root / path)
            elif self.freshness.digest(path) != digest:
                whole = False
        self._put_away(path for path, digest in move.away if self.freshness.digest(path) == digest)
        if move.scratch:
            files.remove_tree(scratch)
        return whole


def _recorded(outputs: str) -> dict[str, tuple[str, str]]:
    """path → (digest, stamp) of an outputs text."""
    lines = (line.split("\t", 2) for line in outputs.split("\n") if line)
    return {path: (digest, stamp) for path, digest, stamp in lines}


def _failed(result: Result) -> bool:
    return result.error is not None or any(one.status == "failed" for one in result.outcomes)


def _with_earlier(
    row: ItemRow, pictures: list[PictureRow], earlier: Mapping[str, tuple[str, str]]
) -> tuple[ItemRow, list[PictureRow]]:
    """The rows of an item with outputs that stay from before; they are told with its first picture."""
    if not earlier or not pictures:
        return row, pictures
    lines = [f"{path}\t{digest}\t{stamp}" for path, (digest, stamp) in earlier.items()]
    picture, item, status, reason, outputs, record = pictures[0]
    first = (picture, item, status, reason, "\n".join(filter(None, (outputs, *earlier))), record)
    return replace(row, outputs="\n".join(filter(None, (row.outputs, *lines)))), [first, *pictures[1:]]


def _item_row(verdict: Verdict, result: Result) -> ItemRow:
    ends = result.outcomes
    count = {status: sum(one.status == status for one in ends) for status in ("made", "dropped", "failed")}
    if result.error is not None:
        count["failed"] = len(verdict.item.pictures) or 1
    return ItemRow(
        item=verdict.item.name, fingerprint=verdict.fingerprint, about=verdict.about, inputs=verdict.inputs,
        outputs="\n".join(f"{one.path}\t{one.digest}\t{one.stamp}" for one in result.outputs),
        remark=result.remark, error="\n".join(result.error) if result.error else "",
        seconds=result.seconds, bytes=sum(one.bytes for one in result.outputs),
        made=count["made"], dropped=count["dropped"], failed=count["failed"], tries=verdict.tries,
    )  # fmt: skip


def _pictures(root: Path, verdict: Verdict, result: Result) -> list[PictureRow]:
    item = verdict.item.name
    if result.error is not None:
        what, where, _ = result.error
        reason = f"{what} ({where})".replace(str(root) + os.sep, "").replace("\n", " ")
        return [(name, item, "failed", reason, "", "") for name in verdict.item.pictures or (item,)]
    return [_picture(item, one) for one in result.outcomes]


def _picture(item: str, one: Outcome) -> PictureRow:
    record = canonical(dict(one.record)) if one.record else ""
    return (one.picture, item, one.status, one.reason, "\n".join(one.outputs), record)
