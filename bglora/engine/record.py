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


class Recorder:
    """Writes results into the ledger and moves files.

    Args:
        overwrite_edits: replace outputs that a person edited.
    """

    def __init__(self, root: Path, ledger: Ledger, freshness: Freshness, *, overwrite_edits: bool = False) -> None:
        self.root, self.ledger, self.freshness = root, ledger, freshness
        self.overwrite_edits = overwrite_edits
        self._unsettled: list[tuple[str, str]] = []

    def record(self, stage: str, ends: Iterable[tuple[Verdict, Result, Path]]) -> None:
        """Records items with their results and scratch folders, and puts their files in place."""
        moves: list[dict[str, object]] = []
        reached("made")
        with self.ledger.transaction():
            self._settle()
            for verdict, result, scratch in ends:
                move = self._moves(stage, result, scratch)
                self.ledger.put_item(stage, _item_row(verdict, result), _pictures(self.root, verdict, result))
                self.ledger.put_pending(stage, verdict.item.name, canonical(move))
                moves.append(move)
                self._unsettled.append((stage, verdict.item.name))
        reached("intent-stored")
        for move in moves:
            self._do(move)
            self.freshness.changed(stage, [*_paths(move["place"]), *_paths(move["away"])])

    def forget(self, stage: str, items: Iterable[str]) -> int:
        """Items that no longer exist: their outputs are moved away, edited ones stay. Returns the number of files."""
        gone = list(items)
        if not gone:
            return 0
        rows = self.ledger.items(stage)
        moves = [{"scratch": "", "place": [], "away": self._away(rows[item], ())} for item in gone if item in rows]
        with self.ledger.transaction():
            self._settle()
            for item, move in zip(gone, moves, strict=True):
                self.ledger.forget_item(stage, item)
                self.ledger.put_pending(stage, item, canonical(move))
                self._unsettled.append((stage, item))
        reached("orphans-stored")
        for move in moves:
            self._do(move)
            self.freshness.changed(stage, _paths(move["away"]))
        return sum(len(_paths(move["away"])) for move in moves)

    def finish(self) -> None:
        """Says in the ledger that all files are in place."""
        if self._unsettled:
            with self.ledger.transaction():
                self._settle()

    def recover(self) -> None:
        """Completes what a killed run had recorded; an item whose files are lost is forgotten, so it is made again."""
        for stage, item, text in self.ledger.pending():
            move = json.loads(text)
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

    def _moves(self, stage: str, result: Result, scratch: Path) -> dict[str, object]:
        row = self.ledger.item(stage, result.item)
        before = _recorded(row.outputs) if row else {}
        place = [
            [one.path, one.digest]
            for one in result.outputs
            if self.overwrite_edits or not self._persons(stage, one.path, before.get(one.path))
        ]
        new = {one.path for one in result.outputs}
        return {
            "scratch": scratch.relative_to(self.root).as_posix(),
            "place": place,
            "away": self._away(row, new) if row else [],
        }

    def _persons(self, stage: str, path: str, recorded: tuple[str, str] | None) -> bool:
        """True if a person's file lies where an output belongs."""
        found = files.stamp(self.root / path)
        if found is None:
            return False
        if recorded is None:
            recorded = next((known[path] for _, text in self.ledger.outputs(stage) if path in (known := _recorded(text))),
                            None)  # fmt: skip
        if recorded is None:
            return not found.startswith("0\t")
        return found != recorded[1] and self.freshness.edited(path, recorded[0])

    def _away(self, row: ItemRow, new: Iterable[str]) -> list[list[str]]:
        kept = set(new)
        gone = [(path, *known) for path, known in _recorded(row.outputs).items() if path not in kept]
        return [
            [path, digest]
            for path, digest, stamp in gone
            if (found := files.stamp(self.root / path)) is not None
            and (found == stamp or not self.freshness.edited(path, digest))
        ]

    def _do(self, move: Mapping[str, object]) -> None:
        scratch = self.root / str(move["scratch"])
        with files.told(self.root):
            for path in _paths(move["place"]):
                files.move(scratch / path, self.root / path)
                reached("moved")
            self._put_away(_paths(move["away"]))
            if move["scratch"]:
                files.remove_tree(scratch)
        reached("in-place")

    def _put_away(self, paths: Iterable[str]) -> None:
        for path in paths:
            if (self.root / path).exists():
                files.move(self.root / path, self.root / ORPHANS / path)
                files.remove_empty((self.root / path).parent, self.root)
                reached("moved-away")

    def _complete(self, move: Mapping[str, object]) -> bool:
        scratch = self.root / str(move["scratch"])
        whole = True
        for path, digest in _pairs(move["place"]):
            if (scratch / path).is_file():
                files.move(scratch / path, self.root / path)
            elif self.freshness.digest(path) != digest:
                whole = False
        self._put_away(path for path, digest in _pairs(move["away"]) if self.freshness.digest(path) == digest)
        if move["scratch"]:
            files.remove_tree(scratch)
        return whole


def _recorded(outputs: str) -> dict[str, tuple[str, str]]:
    """path → (digest, stamp) of an outputs text."""
    lines = (line.split("\t", 2) for line in outputs.split("\n") if line)
    return {path: (digest, stamp) for path, digest, stamp in lines}


def _pairs(value: object) -> list[tuple[str, str]]:
    assert isinstance(value, list)
    return [(str(path), str(digest)) for path, digest in value]


def _paths(value: object) -> list[str]:
    return [path for path, _ in _pairs(value)]


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
