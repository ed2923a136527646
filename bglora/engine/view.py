"""What a stage may look at when it lists its items: settings, decisions and the rows of earlier stages."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from bglora.engine.ledger import Ledger
from bglora.engine.stage import Row

_decoded = json.JSONDecoder().raw_decode
"""Records stand in the ledger without spaces around; `json.loads` would look for some, 100,000 times."""


class LedgerView:
    """The `View` over a ledger.

    Args:
        gone: stage to items that no longer exist though the ledger still has them (while planning).
        limit: how many pictures to try on; None for all.
    """

    def __init__(
        self,
        root: Path,
        settings: Any,
        decisions: Any,
        ledger: Ledger,
        *,
        limit: int | None = None,
        gone: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.root, self.settings, self.decisions, self.limit = root, settings, decisions, limit
        self._ledger, self._gone = ledger, gone if gone is not None else {}
        self.looked_at: set[str] = set()
        """Stages that were asked about."""
        self._remarks: dict[tuple[str, str], Mapping[str, Any]] = {}

    def close(self) -> None:
        """Closes the ledger that it looks at."""
        self._ledger.close()

    def hidden(self, stage: str) -> bool:
        """True if the ledger still has items of the stage that no longer exist."""
        return bool(self._gone.get(stage))

    def rows(self, stage: str) -> list[Row]:
        """Outcomes of a stage, sorted by picture; of items that still exist."""
        self.looked_at.add(stage)
        gone = self._gone.get(stage, ())
        return [
            LazyRow.of(item, picture, status, reason, outputs, record)
            for picture, item, status, reason, outputs, record in self._ledger.rows(stage)
            if item not in gone
        ]

    def item_record(self, stage: str, item: str) -> Mapping[str, Any]:
        """What `Tools.remark` stored for an item; empty if nothing. The same object each time: not to be changed."""
        self.looked_at.add(stage)
        if item in self._gone.get(stage, ()):
            return {}
        found = self._remarks.get((stage, item))
        if found is None:
            text = self._ledger.remark(stage, item)
            found = self._remarks[stage, item] = json.loads(text) if text else {}
        return found

    def revision(self, stage: str) -> int:
        """Rises whenever something of the stage is recorded."""
        return self._ledger.revision(stage)

    def items(self, stage: str) -> list[str]:
        """The stage's items, sorted."""
        return self._ledger.item_names(stage)

    def digests(self, stage: str) -> dict[str, str]:
        """Path of every output of a stage to the digest with which it was recorded."""
        lines = (line.split("\t", 2) for _, text in self._ledger.outputs(stage) for line in text.split("\n") if line)
        return {path: digest for path, digest, _ in lines}

    def changed(self, stage: str) -> None:
        """Says that the stage's items were made anew."""
        for key in [key for key in self._remarks if key[0] == stage]:
            del self._remarks[key]

    def chosen(self, pictures: Iterable[str]) -> set[str]:
        """The pictures to try on under `limit`: evenly spread over the shots and within each; all without a limit."""
        return spread(list(pictures), self.limit)


class LazyRow(Row):
    """A row whose outputs and record are read from their texts when first asked for."""

    _texts: tuple[str, str]
    __setattr__ = object.__setattr__  # a frozen dataclass is filled slowly, and there are 100,000 of these

    @classmethod
    def of(cls, item: str, picture: str, status: str, reason: str, outputs: str, record: str) -> LazyRow:
        """From the ledger's texts."""
        row = cls.__new__(cls)
        row.item = item  # type: ignore[misc]
        row.picture = picture  # type: ignore[misc]
        row.status = status  # type: ignore[misc, assignment]
        row.reason = reason  # type: ignore[misc]
        row._texts = (outputs, record)
        return row

    def __getattr__(self, name: str) -> Any:
        if name == "outputs":
            value: Any = tuple(self._texts[0].split("\n")) if self._texts[0] else ()
        elif name == "record":
            value = _decoded(self._texts[1])[0] if self._texts[1] else {}
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value


def spread(pictures: list[str], limit: int | None) -> set[str]:
    """Chooses `limit` names: round the shots (the part before the last `/`), within a shot evenly spaced."""
    if limit is None or limit >= len(pictures):
        return set(pictures)
    shots: dict[str, list[str]] = {}
    for picture in sorted(pictures):
        shots.setdefault(picture.rpartition("/")[0], []).append(picture)
    groups = list(shots.values())
    if limit < len(groups):
        groups = [groups[i] for i in _even(len(groups), limit)]
    share = dict.fromkeys(range(len(groups)), 0)
    left = limit
    while left > 0:
        open_groups = [g for g in share if share[g] < len(groups[g])]
        for g in open_groups[:left]:
            share[g] += 1
        left -= min(left, len(open_groups))
    return {groups[g][i] for g, count in share.items() for i in _even(len(groups[g]), count)}


def _even(length: int, count: int) -> list[int]:
    """`count` indices below `length`, evenly spaced, in the middle of their equal parts."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
