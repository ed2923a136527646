"""A stage's records file: what the ledger knows about its pictures, beside them, so that it outlives the ledger.

One JSON line a picture, sorted by name:

    {"item", "picture", "status", "reason", "fingerprint", "outputs": {path: digest}, "record": {…}}

The first line of an item also has its `remark`; the first line of the file also has `shared` (path → digest of the
files that sum up the stage). An item without pictures has one line whose `picture` is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bglora.engine import files
from bglora.engine.checkpoint import reached
from bglora.engine.fingerprint import canonical
from bglora.engine.ledger import ItemRow, Ledger, PictureRow
from bglora.engine.record import UNKNOWN_STAMP
from bglora.engine.stage import Stage, View

_one_line = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""The order of a line's keys, and of its outputs, is kept."""


def records_path(stage: Stage) -> str:
    """Project-relative path of the stage's records file."""
    return stage.records if "/" in stage.records else f"{stage.home}/{stage.records or stage.name + '.jsonl'}"


def publish(
    stage: Stage, view: View, root: Path, ledger: Ledger, scratch: Path, *, overwrite_edits: bool
) -> tuple[str, ...]:
    """Writes the records file and the shared files if they are not as the ledger has it.

    Returns:
        Shared files that a person edited and that were left as they are.
    """
    known = ledger.shared(stage.name)
    records = root / records_path(stage)
    whole = all(_as_written(root, path, *entry) for path, entry in known.items())
    if whole and not ledger.unpublished(stage.name) and (records.is_file() or not ledger.item_names(stage.name)):
        return ()
    if ledger.empty_stage(stage.name) and not records.is_file() and not known:
        return ()
    wanted = {} if ledger.empty_stage(stage.name) else stage.shared_files(view)
    kept: list[str] = []
    with files.told(root):
        for path, content in wanted.items():
            files.check_output(path)
            if not _write_shared(stage.name, root, ledger, scratch, path, content, known.get(path), overwrite_edits):
                kept.append(path)
        for path in known.keys() - wanted.keys():
            _remove_shared(stage.name, root, ledger, path, *known[path])
        _write_records(stage, root, ledger, scratch)
    reached("records-written")
    ledger.published(stage.name)
    return tuple(kept)


def _as_written(root: Path, path: str, digest: str, stamp: str) -> bool:
    found = files.stamp(root / path)
    return found == stamp or (found is not None and files.digest_file(root / path) == digest)


def _write_shared(
    stage: str, root: Path, ledger: Ledger, scratch: Path, path: str, content: bytes,
    known: tuple[str, str] | None, overwrite: bool,
) -> bool:  # fmt: skip
    """Writes one shared file. False if a person's is there and stays."""
    target, digest = root / path, files.digest_bytes(content)
    ours = [*(known[0].split(",") if known else ()), digest]
    there = files.digest_file(target) if target.is_file() and target.stat().st_size else ""
    if there and there not in ours and not overwrite:
        ledger.put_shared(stage, path, digest, UNKNOWN_STAMP)
        return False
    if there != digest or not target.is_file():
        # Killed between the two: whichever content lies there then is still known as ours.
        ledger.put_shared(stage, path, ",".join(dict.fromkeys(ours)), UNKNOWN_STAMP)
        files.write_atomically(target, content, scratch=scratch)
    ledger.put_shared(stage, path, digest, files.stamp(target) or UNKNOWN_STAMP)
    return True


def _remove_shared(stage: str, root: Path, ledger: Ledger, path: str, digest: str, stamp: str) -> None:
    if _as_written(root, path, digest, stamp):
        files.unlink_quietly(root / path)
        files.remove_empty((root / path).parent, root)
    ledger.forget_shared(stage, path)


def _write_records(stage: Stage, root: Path, ledger: Ledger, scratch: Path) -> None:
    text = "".join(_one_line(line) + "\n" for line in _lines(stage.name, ledger))
    target = root / records_path(stage)
    if text:
        files.write_atomically(target, text.encode(), scratch=scratch)
    else:
        files.unlink_quietly(target)
        files.remove_empty(target.parent, root)


def _lines(stage: str, ledger: Ledger) -> Iterator[dict[str, Any]]:
    items = ledger.items(stage)
    shared = {path: digest for path, (digest, _) in sorted(ledger.shared(stage).items())}
    digests: dict[str, str] = {}
    for row in items.values():
        for output in filter(None, row.outputs.split("\n")):
            path, digest, _ = output.split("\t", 2)
            digests[path] = digest
    introduced: set[str] = set()
    for picture, item, status, reason, outputs, record in _with_empty_items(ledger, stage, items):
        line: dict[str, Any] = {
            "item": item,
            "picture": picture,
            "status": status,
            "reason": reason,
            "fingerprint": items[item].fingerprint,
            "outputs": {path: digests[path] for path in outputs.split("\n") if path},
            "record": json.loads(record) if record else {},
        }
        if not introduced and shared:
            line["shared"] = shared
        if item not in introduced:
            introduced.add(item)
            if items[item].remark:
                line["remark"] = json.loads(items[item].remark)
            if items[item].error:
                line["error"] = items[item].error.split("\n")
        yield line


def _with_empty_items(ledger: Ledger, stage: str, items: Mapping[str, ItemRow]) -> Iterator[PictureRow]:
    empty = [name for name, row in sorted(items.items()) if not row.made + row.dropped + row.failed]
    yield from (("", name, "made", "", "", "") for name in empty)
    yield from ledger.rows(stage)


def adopt(stages: Iterable[Stage], root: Path, ledger: Ledger) -> dict[str, int]:
    """Fills the ledger from the records files of stages that it knows nothing of.

    What lies on disk is compared with their digests afterwards, as always.

    Returns:
        Stage to the number of items found.
    """
    found: dict[str, int] = {}
    for stage in stages:
        path = root / records_path(stage)
        if ledger.revision(stage.name) or not path.is_file():
            continue
        items, shared = _read(path)
        with ledger.transaction():
            for row, pictures in items:
                ledger.put_item(stage.name, row, pictures)
            for shared_path, digest in shared.items():
                ledger.put_shared(stage.name, shared_path, digest, UNKNOWN_STAMP)
            ledger.published(stage.name)
        if items:
            found[stage.name] = len(items)
    return found


def _read(path: Path) -> tuple[list[tuple[ItemRow, list[PictureRow]]], dict[str, str]]:
    """Items with their pictures, and the shared files. Lines that are not records are left out with their items."""
    lines: dict[str, list[dict[str, Any]]] = {}
    shared: dict[str, str] = {}
    spoiled: set[str] = set()
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = _parsed(text)
        if line is None:
            continue
        if not _well_formed(line):
            spoiled.add(str(line.get("item")))
            continue
        lines.setdefault(line["item"], []).append(line)
        shared |= {str(key): str(value) for key, value in dict(line.get("shared", {})).items()}
    return [(_adopted(found), _adopted_pictures(found)) for item, found in lines.items() if item not in spoiled], shared


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _well_formed(line: Mapping[str, Any]) -> bool:
    texts = ("item", "picture", "status", "reason", "fingerprint")
    return (
        all(isinstance(line.get(key), str) for key in texts)
        and line["status"] in ("made", "dropped", "failed")
        and isinstance(line.get("outputs"), dict)
        and isinstance(line.get("record"), dict)
    )


def _adopted(lines: list[dict[str, Any]]) -> ItemRow:
    ends = [line["status"] for line in lines if line["picture"]]
    remark = next((canonical(line["remark"]) for line in lines if "remark" in line), "")
    error = next(("\n".join(line["error"]) for line in lines if "error" in line), "")
    outputs = [f"{path}\t{digest}\t{UNKNOWN_STAMP}" for line in lines for path, digest in line["outputs"].items()]
    return ItemRow(
        item=lines[0]["item"], fingerprint=lines[0]["fingerprint"], about="", inputs="", outputs="\n".join(outputs),
        remark=remark, error=error, seconds=0.0, bytes=0,
        made=ends.count("made"), dropped=ends.count("dropped"), failed=ends.count("failed"), tries=-1,
    )  # fmt: skip


def _adopted_pictures(lines: list[dict[str, Any]]) -> list[PictureRow]:
    return [
        (
            line["picture"], line["item"], line["status"], line["reason"], "\n".join(line["outputs"]),
            canonical(line["record"]) if line["record"] else "",
        )
        for line in lines
        if line["picture"]
    ]  # fmt: skip
