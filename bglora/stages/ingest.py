"""ingest: films and folders in, shots and kept frames out.

One item a source. Its remark describes the source for every later stage:

    {"kind": "video" | "folder" | "layers",
     "titles": the name as the user gave it,
     "path": of the file or folder, relative to the project or absolute,
     "bytes": its size, "digest": SHA-256 of its content,
     "count": frames, "names": [pictures of a folder, by frame number], "failed": [numbers that cannot be read],
     "index": [[number, pts] of key frames],                         see film/reader.py
     "layers": {"root", "frames": [{"frame", "background", "mask", "characters"}]} or absent, see film/layers.py
     "video": {"fps", "size": [height, width] before cropping, "crop": [top, bottom, left, right], "codec",
               "matrix", "range", "tagged", "count", "lost": [{"after", "why", "times"}], …},
     "shots": [{"name", "source", "first", "last", "begins_by", "left_out": [{"first", "last", "why"}]}]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bglora.engine.files import digest_bytes, digest_file
from bglora.engine.stage import Item, Outcome, Stage, Stopped, Tools, View
from bglora.engine.view import spread
from bglora.film.layers import list_layers
from bglora.film.sources import Source, find_sources

_PATIENCE = 24  # frames from one look at whether the run has to stop to the next


class Ingest(Stage):
    """Finds shots, chooses frames, writes them."""

    name = "ingest"
    counts = "frames"
    home = "frames"
    records = "frames/frames.jsonl"

    def items(self, view: View) -> Iterable[Item]:
        """One item a source; raises `UserError` if there is none."""
        sources = find_sources(view.root, view.settings.sources.films, view.settings.sources.layers)
        shares = _shares(view.limit, len(sources))
        return [_item(view, source, share) for source, share in zip(sources, shares, strict=True)]

    def make(self, item: Item, tools: Tools) -> Iterable[Outcome]:
        """Surveys the source, finds shots, and writes the kept frames."""
        from bglora.film.choice import Rule
        from bglora.film.ingestion import Ingestion

        settings = {key.removeprefix("ingest."): value for key, value in item.settings.items()}
        crop_bars = settings.pop("crop_bars")
        if item.payload["kind"] == "layers":  # somebody chose these pictures already: all of them, as they came
            settings |= {"fps": 0, "max_per_shot": 0}
            crop_bars = False
        path, names = tools.root / item.hints["path"], item.payload.get("names")
        layered = [row["frame"] for row in item.payload.get("layers", ())]
        ingestion = Ingestion(item.name, path, names, Rule(**settings), crop_bars, _telling(item.name, tools), layered)
        remark = {"titles": item.payload["title"], "path": item.hints["path"], **_content(path, names)}
        remark |= {**ingestion.survey(), "kind": item.payload["kind"]}
        if "layers" in item.payload:
            remark["layers"] = {"root": item.hints["layers"], "frames": item.payload["layers"]}
        tools.remark(remark)
        limit = item.payload.get("limit")
        only = None if limit is None else frozenset(spread(ingestion.kept(), limit))
        for frame in ingestion.write(tools.scratch / "frames", only):
            name = f"{frame.shot}/{frame.number:06d}"
            if frame.problem:
                yield Outcome(name, "failed", frame.problem, record={"shot": frame.shot, "frame": frame.number})
                continue
            yield Outcome(
                name,
                outputs=(f"frames/{name}.png",),
                record={
                    "shot": frame.shot,
                    "frame": frame.number,
                    "time": round(frame.time, 4),
                    "size": list(frame.size),
                    "blur": round(frame.sharpness, 1),
                },
            )

    def shared_files(self, view: View) -> Mapping[str, bytes]:
        """frames/shots.json: all shots of all sources."""
        shots: list[dict[str, Any]] = []
        names: dict[str, list[str]] = {}
        for source in sorted({row.item for row in view.rows(self.name)}):
            remark = view.item_record(self.name, source)
            shots += remark.get("shots", [])
            if remark.get("names"):
                names[source] = list(remark["names"])
        content: dict[str, Any] = {"shots": shots}
        if names:
            content["names"] = names
        return {"frames/shots.json": (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()}


def _item(view: View, source: Source, limit: int | None) -> Item:
    settings = view.settings.ingest
    payload: dict[str, Any] = {"kind": source.kind, "title": source.title}
    hints: dict[str, Any] = {"path": _address(view.root, source.path)}
    files = [hints["path"]]
    if source.kind == "layers":
        payload["layers"], _ = list_layers(source.path, numbered=False)
        payload["names"] = [row["background"] for row in payload["layers"]]
        files = []
    elif source.kind == "folder":
        from bglora.film.folder import pictures_in

        payload["names"] = [path.name for path in pictures_in(source.path)]
        files = [_address(view.root, source.path / name) for name in payload["names"]]
    if source.layers is not None:
        if source.kind != "layers":
            payload["layers"], _ = list_layers(source.layers, numbered=True)
        hints["layers"] = _address(view.root, source.layers)
        files += [_address(view.root, source.layers / path) for row in payload["layers"] for path in _paths(row)]
    if limit is not None:
        payload["limit"] = limit
    return Item(
        name=source.name,
        files=tuple(files),
        settings={f"ingest.{key}": getattr(settings, key) for key in type(settings).model_fields},
        payload=payload,
        hints=hints,
    )


def _telling(source: str, tools: Tools) -> Callable[[float, float, str], None]:
    """Passes progress on, and stops a long film between two frames when the run has to stop."""

    def tell(done: float, total: float, text: str) -> None:
        if int(done) % _PATIENCE == 0 and tools.stopping():
            raise Stopped(source)
        tools.progress(done, total, text)

    return tell


def _shares(limit: int | None, count: int) -> list[int | None]:
    """How many pictures each of `count` sources gives under `--limit`."""
    if limit is None:
        return [None] * count
    return [limit // count + (place < limit % count) for place in range(count)]


def _content(path: Path, names: Sequence[str] | None) -> dict[str, Any]:
    """Size and digest of a source, by which later stages know that it is still the same."""
    if names is None:
        return {"bytes": path.stat().st_size, "digest": digest_file(path)}
    files = [path / name for name in names]
    digests = json.dumps([digest_file(file) for file in files])
    return {"bytes": sum(file.stat().st_size for file in files), "digest": digest_bytes(digests.encode())}


def _paths(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (path for path in (row["background"], row["mask"], *row["characters"]) if path)


def _address(root: Path, path: Path) -> str:
    """Relative to the project where the path lies in it, so that a project can be moved; else absolute."""
    whole, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else whole.as_posix()
