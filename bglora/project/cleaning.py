"""What can be deleted, how much that frees, and what it costs to make again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bglora.engine.stage import Stage
from bglora.errors import UserError

STATE = ".bglora"


@dataclass(frozen=True)
class Cleanable:
    """Something that can be deleted.

    Attributes:
        name: what `clean` calls it: a stage, `report`, `orphans`, `scratch`, `cache`, `logs`,
            `thumbnails`, `undo`.
        about: what it is.
        files: how many.
        bytes: how much deleting it frees.
        seconds: what making it again costs; 0 for what nobody needs again, None if not known.
        edited: files among them that a person edited; they stay.
    """

    name: str
    about: str
    files: int
    bytes: int
    seconds: float | None
    edited: int = 0
    paths: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without the paths."""
        values = asdict(self)
        del values["paths"]
        return values


def survey(root: Path, stages: Sequence[Stage], *, overwrite_edits: bool = False) -> list[Cleanable]:
    """Everything that can be deleted, what is free first. Nothing is changed.

    Args:
        overwrite_edits: files that a person edited count as well.
    """
    scratch = "Half-done work of a stopped run; without it that work starts anew."
    free = [
        _folder(root / STATE / "orphans", "orphans", "Outputs that nothing makes any more.", 0.0),
        _folder(root / STATE / "scratch", "scratch", scratch, None),
        _folder(root / STATE / "cache", "cache", "Encoded pictures and captions of trainings; made again.", None),
        _folder(root / STATE / "logs", "logs", "Logs.", 0.0),
        _folder(root / STATE / "thumbnails", "thumbnails", "Small pictures of `bglora review`; made again.", 10.0),
        _folder(root / STATE / "undo", "undo", "What acts in `bglora review` replaced: none can be undone then.", 0.0),
        _folder(root / "report", "report", "`bglora report` writes it again.", 10.0),
    ]
    return [one for one in (*free, *_stages(root, stages, overwrite_edits)) if one.files]


def choose(found: Sequence[Cleanable], names: Sequence[str]) -> list[Cleanable]:
    """Those that are named."""
    known = {one.name: one for one in found}
    for name in names:
        if name not in known:
            raise UserError(
                f"There is nothing called {name!r} to delete.",
                where=f"to be had: {', '.join(known) or 'nothing'}",
                cure="`bglora clean` shows what can be deleted.",
            )
    return [known[name] for name in dict.fromkeys(names)]


def delete(root: Path, chosen: Sequence[Cleanable]) -> None:
    """Deletes files, and folders that become empty. The next run finds stages' outputs missing and makes them again."""
    from bglora.engine.files import remove_empty

    for one in chosen:
        for path in one.paths:
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                    remove_empty(path.parent, root)
            except OSError as error:
                raise UserError(
                    f"This can't be deleted: {error.strerror}.",
                    where=str(path),
                    cure="Make it yours, then clean again.",
                ) from None


def _folder(folder: Path, name: str, about: str, seconds: float | None) -> Cleanable:
    files = size = 0
    for place, _, names in os.walk(folder):
        files += len(names)
        size += sum(os.lstat(os.path.join(place, one)).st_size for one in names)
    return Cleanable(name, about, files, size, seconds, paths=(folder,))


def _stages(root: Path, stages: Sequence[Stage], overwrite_edits: bool) -> list[Cleanable]:
    from bglora.engine.freshness import Freshness
    from bglora.engine.opening import open_ledger

    ledger = open_ledger(root, stages, lambda _: None, write=False)
    try:
        freshness = Freshness(root, ledger)
        return [_stage(root, stage.name, ledger, freshness, overwrite_edits) for stage in stages]
    finally:
        ledger.close()


def _stage(root: Path, name: str, ledger: Any, freshness: Any, overwrite_edits: bool) -> Cleanable:
    edited = {path for one in freshness.verify(name).values() for path in one.edited}
    paths = [line.split("\t", 1)[0] for _, text in ledger.outputs(name) for line in text.split("\n") if line]
    there = [root / path for path in paths if overwrite_edits or path not in edited]
    there = [path for path in there if path.is_file()]
    seconds = ledger.history(name)[0] or None  # of work found by content the time is not known
    size = sum(path.stat().st_size for path in there)
    return Cleanable(
        name, f"What {name} made.", len(there), size, seconds, 0 if overwrite_edits else len(edited), tuple(there)
    )
