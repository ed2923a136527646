"""The project as the page sees it: one JSON object, and where its pictures lie. No picture is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bglora.engine.stage import Row
from bglora.engine.status import StageStatus
from bglora.engine.view import LedgerView
from bglora.project.editing import lora_files, text_file
from bglora.settings.lora import ALL_SCENES

KINDS = {
    "frame": ("ingest", "frames/"),
    "mask": ("segment", "segmented/masks/"),
    "plate": ("inpaint", "plates/"),
    "provenance": ("inpaint", "provenance/"),
}
"""Kind of a picture to the stage that makes it and the folder where it lies."""
SHARES = ("recovered", "guessed", "untrusted")
GRID = re.compile(r"prompt(\d+)-scale(\d+)-seed(\d+)\.\w+$")


@dataclass
class Pictures:
    """What may be shown: nothing else of the project is ever served.

    Attributes:
        paths: kind and id to a project-relative path.
        grids: project-relative paths of test grids and their pictures.
    """

    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    grids: set[str] = field(default_factory=set)


def read_state(view: LedgerView, status: Sequence[StageStatus]) -> tuple[dict[str, Any], Pictures]:
    """Everything but what changes without the project: revision, undo, what runs."""
    return _Reading(view, status).all()


class _Reading:
    """All rows, read once, with what a person decided and edited."""

    def __init__(self, view: LedgerView, status: Sequence[StageStatus]) -> None:
        self.view, self.status = view, status
        self.pictures = Pictures()
        self.edited = {path for one in status for path in one.edited}
        names = ("ingest", "segment", "inpaint", "cluster", "caption", "train", "test", "compose")
        self.rows = {name: view.rows(name) for name in names}
        self.by_name = {name: {row.picture: row for row in self.rows[name]} for name in names[:5]}
        known = [*self.by_name["ingest"], *self.by_name["inpaint"]]
        self.decided: Mapping[str, str] = view.decisions.about("pictures", known)
        self.captions: Mapping[str, str] = view.decisions.captions()
        self.pointed = {one.about() for one in view.decisions.entries if one.kind == "prompt"}

    def all(self) -> tuple[dict[str, Any], Pictures]:
        frames = [row.picture for row in self.rows["ingest"] if row.status == "made"]
        wide = [row.picture for row in self.rows["inpaint"] if row.picture not in self.by_name["ingest"]]
        plates = {name: self._plate(name) for name in sorted({*frames, *wide})}
        self._versions(plates)
        project, sorting = self.view.settings.project, self.view.item_record("cluster", "all")
        state = {
            "name": project.name or self.view.root.name,
            "title": project.title or project.name or self.view.root.name,
            "stages": [_stage(one) for one in self.status],
            "scenes": [self._scene(one, plates) for one in sorting.get("scenes", ())],
            "noise": [row.picture for row in self.rows["cluster"] if row.status == "dropped"],
            "shots": list(self._shots(plates)),
            "plates": plates,
            "failed": [
                {"stage": name, "what": row.picture or row.item, "reason": row.reason}
                for name, rows in self.rows.items()
                for row in rows
                if row.status == "failed"
            ],
            "notice": str(sorting.get("notice") or ""),
            "decisions": [
                dict(one.values)
                for one in self.view.decisions.entries
                if one.kind in ("rename", "merge", "split", "move")
            ],
            "masks_backend": self.view.settings.segment.backend,
        }
        return state, self.pictures

    def _plate(self, name: str) -> dict[str, Any]:
        shot, _, number = name.rpartition("/")
        frame, mask, plate, place, told = (self.by_name[stage].get(name) for stage in self.by_name)
        bad = next((row for row in (mask, plate) if row is not None and row.status != "made"), None)
        why = next((row for row in (bad, place, told) if row is not None and row.status != "made"), None)
        made = plate.record if plate is not None and plate.status == "made" else None
        shares = {key: float(made.get(key) or 0) if made else 0.0 for key in SHARES}
        height, width = (frame.record.get("size") if frame else None) or (0, 0)
        kept = self.decided.get(name)
        digits = re.match(r"\d+", number)
        return {
            "shot": shot,
            "frame": int(digits[0]) if digits else None,
            "status": bad.status if bad else "waiting" if plate is None else "made",
            "reason": why.reason if why else "",
            "scene": str(place.record.get("scene") or "") if place is not None and place.status == "made" else "",
            "dataset": told is not None and told.status == "made",
            "width": width,
            "height": height,
            "original": round(1 - sum(shares.values()), 5) if made is not None else 0.0,
            **shares,
            "decision": kept.partition(":")[0] if kept else None,
            "caption": self._caption(name, told),
            "edited": self._edited(name, told),
            "kinds": list(self._kinds(name)),
            "v": "",
        }

    def _kinds(self, name: str) -> Iterator[str]:
        for kind, (stage, folder) in KINDS.items():
            row = self.by_name[stage].get(name)
            path = next(
                (path for path in row.outputs if path.startswith(folder) and path.endswith(".png")), ""
            ) if row is not None and row.status == "made" else ""  # fmt: skip
            if path:
                self.pictures.paths[kind, name] = path
                yield kind

    def _caption(self, name: str, told: Row | None) -> str | None:
        """What will stand in the dataset: as edited by hand, as decided, else as written by the captioner."""
        if told is None or not told.record.get("caption"):
            return None
        if text_file(told) in self.edited:
            path = self.view.root / text_file(told)
            return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None
        own = self.captions.get(name)
        return f"{told.record.get('trigger') or ''}, {own}".removeprefix(", ") if own else str(told.record["caption"])

    def _edited(self, name: str, told: Row | None) -> list[str]:
        paths = ((kind, self.by_name[stage].get(name), folder) for kind, (stage, folder) in KINDS.items())
        found = [
            kind
            for kind, row, folder in paths
            if self.edited and row and any(path in self.edited for path in row.outputs if path.startswith(folder))
        ]
        if name in self.captions or (told is not None and text_file(told) in self.edited):
            found.append("caption")
        return [*found, "points"] if name in self.pointed else found

    def _versions(self, plates: Mapping[str, dict[str, Any]]) -> None:
        """Gives each plate a version that changes when one of its pictures does."""
        digests = {stage: self.view.digests(stage) for stage in ("ingest", "segment", "inpaint")}
        for (kind, name), path in self.pictures.paths.items():
            digest = digests[KINDS[kind][0]].get(path, "")[:6]
            plates[name]["v"] += digest if path not in self.edited else _modified(self.view.root / path)

    def _shots(self, plates: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
        frames: dict[str, list[str]] = {}
        for name, plate in plates.items():
            frames.setdefault(plate["shot"], []).append(name)
        known = {
            told["name"]: (source, told)
            for source in dict.fromkeys(row.item for row in self.rows["ingest"])
            for told in self.view.item_record("ingest", source).get("shots", ())
        }
        for shot, names in frames.items():
            source, told = known.get(shot, ("", {}))
            remark = self.view.item_record("segment", shot)
            unknown = str(remark.get("unknown") or "")
            yield {
                "name": shot,
                "source": source,
                "first": told.get("first"),
                "last": told.get("last"),
                "camera": str(remark.get("camera") or ""),
                "frames": names,
                "notes": [f"Nobody can be told from the background: {unknown}."] if unknown else [],
            }

    def _scene(self, told: Mapping[str, Any], plates: Mapping[str, Any]) -> dict[str, Any]:
        scene = str(told["id"])
        loras = {row.item: row for row in self.rows["train"] if row.status == "made"}
        lora = loras.get(scene) or loras.get(ALL_SCENES)
        return {
            "id": scene,
            "title": str(self.view.decisions.renames().get(scene) or told.get("title") or scene),
            "trigger": str(self.view.item_record("caption", scene).get("trigger") or ""),
            "plates": [name for name in told.get("plates", ()) if name in plates],
            "lora": self._lora(scene, lora) if lora is not None else None,
        }

    def _lora(self, scene: str, lora: Row) -> dict[str, Any]:
        grid = next((row for row in self.rows["test"] if row.item == scene), None)
        record: Mapping[str, Any] = grid.record if grid is not None else {}
        files = [path for path in (grid.outputs if grid is not None else ()) if path.endswith((".webp", ".png"))]
        self.pictures.grids.update(files)
        chosen = self.view.decisions.choice(scene)
        return {
            "checkpoints": lora_files(lora),
            "scales": sorted({cell["scale"] for cell in map(_cell, files) if cell}),
            "chosen": {"checkpoint": chosen[0], "scale": chosen[1]} if chosen else None,
            "recommended": {
                "checkpoint": record.get("recommended_lora") or "",
                "scale": record.get("recommended_scale") or 0.0,
            },
            "verdict": [
                {"word": one.get("word", ""), "cure": one.get("cure", "")} for one in record.get("verdict", ())
            ],
            "prompts": list(record.get("prompts", ())),
            "grid": [{"file": path.removeprefix(f"grids/{scene}/"), **_cell(path)} for path in files],
            "all_scenes": lora.item == ALL_SCENES,
        }


def _stage(one: StageStatus) -> dict[str, Any]:
    return {
        "name": one.stage,
        "fresh": not one.todo and not one.waits_for and not one.note,
        "made": one.made,
        "todo": one.todo,
        "failed": one.failed,
        "dropped": one.dropped,
        "edited": len(one.edited),
        "why": list(reasons(one)),
        "waits_for": list(one.waits_for),
        "note": one.note,
        "seconds_left": one.seconds_left,
    }


def reasons(one: StageStatus) -> Iterator[str]:
    """Why a stage has something to do, most frequent first."""
    yield from (f"{count} × {reason}" if count > 1 else reason for reason, count in one.reasons.items())


def stale(status: Iterable[StageStatus]) -> list[str]:
    """What the next run makes again, a line a stage: `inpaint 3 pictures: input changed: …`."""
    lines = []
    for one in status:
        if one.todo:
            pictures = f"{one.todo} picture" + ("s" if one.todo != 1 else "")
            lines.append(f"{one.stage} {pictures}: {'; '.join([*reasons(one)][:3])}")
        elif one.waits_for:
            lines.append(f"{one.stage}: whatever {' and '.join(one.waits_for)} will have changed")
    return lines


def _cell(path: str) -> dict[str, Any]:
    """What a picture of a grid shows; empty for the sheet of all."""
    found = GRID.search(path)
    if found is None:
        return {}
    step = re.search(r"/checkpoints/(\w+)/", path)
    prompt, scale, seed = (int(one) for one in found.groups())
    return {"prompt": prompt, "scale": scale / 100, "seed": seed, "step": step[1] if step else ""}


def _modified(path: Path) -> str:
    try:
        return f"{path.stat().st_mtime_ns:x}"
    except FileNotFoundError:
        return ""
