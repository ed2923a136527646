"""The project as the page sees it: one JSON object, and where its pictures lie. No picture is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bglora.engine.files import digest_file
from bglora.engine.stage import Row
from bglora.engine.status import StageStatus, by_kind
from bglora.engine.view import LedgerView
from bglora.project.editing import lora_files, text_file
from bglora.report.verdicts import prompts_of
from bglora.settings.lora import ALL_SCENES

KINDS = {
    "frame": ("ingest", "frames/"),
    "mask": ("segment", "segmented/masks/"),
    "plate": ("inpaint", "plates/"),
    "provenance": ("inpaint", "provenance/"),
}
"""Kind of a picture to the stage that makes it and the folder where it lies."""
PICTURED = ("ingest", "segment", "inpaint", "cluster", "caption")
"""Stages that record something about every frame or plate."""
SHARES = ("recovered", "guessed", "untrusted")
GRID = re.compile(r"prompt(\d+)-scale(\d+)-seed(\d+)\.\w+$")


@dataclass
class Pictures:
    """What may be shown: nothing else of the project is ever served.

    Attributes:
        paths: kind and id to a project-relative path.
        digests: project-relative path to the digest with which its picture was recorded.
        edited: paths of pictures that were edited by hand, to when that was, as far as it is known.
        grids: project-relative paths of test grids and their pictures.
    """

    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)
    grids: set[str] = field(default_factory=set)

    def fits(self, root: Path, path: str) -> bool:
        """Whether the file is now what it was at the look: a run, or a hand, may have replaced it since."""
        if path in self.edited:
            return _modified(root / path) == self.edited[path]
        try:
            return digest_file(root / path) == self.digests.get(path)
        except FileNotFoundError:
            return False


@dataclass
class Plates:
    """What stages recorded about every plate: stays the same while a person decides.

    Attributes:
        mark: tells of which records.
        plates: id to what the page is told, without what a person decided and edited.
        paths: kind and id to a project-relative path.
        digests: project-relative path to the digest with which its picture was recorded.
        captions: id to trigger, caption and its file, of plates that have one.
        noise: plates in no scene.
    """

    mark: tuple[int, ...]
    plates: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    captions: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    noise: list[str] = field(default_factory=list)


def read_plates(view: LedgerView, before: Plates | None = None) -> Plates:
    """What stages recorded about every plate; `before` itself if they recorded nothing since."""
    mark = tuple(view.revision(stage) for stage in PICTURED)
    if before is not None and before.mark == mark:
        return before
    found = Plates(mark)
    rows = {stage: {row.picture: row for row in view.rows(stage)} for stage in PICTURED}
    scenes = {
        name: str(scene["id"])
        for scene in view.item_record("cluster", "all").get("scenes", ())
        for name in scene.get("plates", ())
    }
    digests = {stage: view.digests(stage) for stage in PICTURED[:3]}
    names = {name for name, row in rows["ingest"].items() if row.status == "made"}
    for name in sorted(names | (rows["inpaint"].keys() - rows["ingest"].keys())):
        each = [rows[stage].get(name) for stage in PICTURED]
        found.plates[name] = {**_plate(name, *each), "scene": scenes.get(name, ""), "kinds": [], "v": ""}
        _pictures(name, rows, digests, found)
        told = each[-1]
        if told is not None and told.record.get("caption"):
            trigger = str(told.record.get("trigger") or "")
            found.captions[name] = (trigger, str(told.record["caption"]), text_file(told))
    found.noise = [name for name, row in rows["cluster"].items() if row.status == "dropped"]
    return found


def _plate(
    name: str, frame: Row | None, mask: Row | None, plate: Row | None, place: Row | None, told: Row | None
) -> dict[str, Any]:
    shot, _, number = name.rpartition("/")
    bad = next((row for row in (mask, plate) if row is not None and row.status != "made"), None)
    why = next((row for row in (bad, place, told) if row is not None and row.status != "made"), None)
    made = plate.record if plate is not None and plate.status == "made" else None
    shares = {key: float(made.get(key) or 0) for key in SHARES} if made else dict.fromkeys(SHARES, 0.0)
    height, width = (frame.record.get("size") if frame is not None else None) or (0, 0)
    digits = number.partition("w")[0]  # a wide plate is called after its frame: 000060w1
    return {
        "shot": shot,
        "frame": int(digits) if digits.isdecimal() else None,
        "status": bad.status if bad is not None else "waiting" if plate is None else "made",
        "reason": why.reason if why is not None else "",
        "dataset": told is not None and told.status == "made",
        "width": width,
        "height": height,
        "original": round(1 - sum(shares.values()), 5) if made is not None else 0.0,
        **shares,
    }


def _pictures(
    name: str, rows: Mapping[str, Mapping[str, Row]], digests: Mapping[str, Mapping[str, str]], found: Plates
) -> None:
    plate = found.plates[name]
    for kind, (stage, folder) in KINDS.items():
        row = rows[stage].get(name)
        if row is None or row.status != "made":
            continue
        for path in row.outputs:
            if path.startswith(folder) and path.endswith(".png"):
                found.paths[kind, name] = path
                plate["kinds"].append(kind)
                found.digests[path] = digests[stage].get(path, "")
                plate["v"] += found.digests[path][:6]
                break


def read_state(view: LedgerView, status: Sequence[StageStatus], plates: Plates) -> tuple[dict[str, Any], Pictures]:
    """Everything but what changes without the project: revision, undo, what runs."""
    return _Reading(view, status, plates).all()


class _Reading:
    """What stages recorded, with what a person decided and edited."""

    def __init__(self, view: LedgerView, status: Sequence[StageStatus], plates: Plates) -> None:
        self.view, self.status, self.known = view, status, plates
        self.pictures = Pictures(plates.paths, plates.digests)
        self.edited = {path for one in status for path in one.edited}
        self.late = {name: view.rows(name) for name in ("train", "test")}

    def all(self) -> tuple[dict[str, Any], Pictures]:
        plates = self._plates()
        project, sorting = self.view.settings.project, self.view.item_record("cluster", "all")
        state = {
            "name": project.name or self.view.root.name,
            "title": project.title or project.name or self.view.root.name,
            "stages": [_stage(one) for one in self.status],
            "scenes": [self._scene(one, plates) for one in sorting.get("scenes", ())],
            "noise": self.known.noise,
            "shots": list(self._shots(plates)),
            "plates": plates,
            "failed": list(self._failed()),
            "notice": str(sorting.get("notice") or ""),
            "decisions": [
                dict(one.values)
                for one in self.view.decisions.entries
                if one.kind in ("rename", "merge", "split", "move")
            ],
            "masks_backend": self.view.settings.segment.backend,
        }
        return state, self.pictures

    def _plates(self) -> dict[str, dict[str, Any]]:
        """All plates with what a person decided and edited."""
        decisions, known = self.view.decisions, self.known
        decided: Mapping[str, str] = decisions.about("pictures", known.plates)
        own: Mapping[str, str] = decisions.captions()
        pointed = {one.about() for one in decisions.entries if one.kind == "prompt"}
        found = {}
        for name, plate in known.plates.items():
            kept = decided.get(name)
            edited = [kind for kind in plate["kinds"] if known.paths[kind, name] in self.edited] if self.edited else []
            version = plate["v"]
            for path in [known.paths[kind, name] for kind in edited]:
                self.pictures.edited[path] = _modified(self.view.root / path)
                version += self.pictures.edited[path]
            trigger, caption, path = known.captions.get(name, ("", None, ""))
            if path and path in self.edited:
                file = self.view.root / path
                caption = file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else caption
                edited.append("caption")
            elif caption is not None and name in own:
                caption = f"{trigger}, {own[name]}".removeprefix(", ")
                edited.append("caption")
            if name in pointed:
                edited.append("points")
            found[name] = {
                **plate, "v": version, "decision": kept.partition(":")[0] if kept else None,
                "caption": caption, "edited": edited,
            }  # fmt: skip
        return found

    def _failed(self) -> Iterator[dict[str, Any]]:
        for one in self.status:
            for row in self.view.rows(one.stage) if one.failed else ():
                if row.status == "failed":
                    yield {"stage": one.stage, "what": row.picture or row.item, "reason": row.reason}

    def _shots(self, plates: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
        frames: dict[str, list[str]] = {}
        for name, plate in plates.items():
            frames.setdefault(plate["shot"], []).append(name)
        known = {
            told["name"]: (source, told)
            for source in self.view.items("ingest")
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
        loras = {row.item: row for row in self.late["train"] if row.status == "made"}
        lora = loras.get(scene) or loras.get(ALL_SCENES)
        return {
            "id": scene,
            "title": str(self.view.decisions.renames().get(scene) or told.get("title") or scene),
            "trigger": str(self.view.item_record("caption", scene).get("trigger") or ""),
            "plates": [name for name in told.get("plates", ()) if name in plates],
            "lora": self._lora(scene, lora) if lora is not None else None,
        }

    def _lora(self, scene: str, lora: Row) -> dict[str, Any]:
        grid = next((row for row in self.late["test"] if row.item == scene), None)
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
            "prompts": list(prompts_of(self.view.root, scene).values()),
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
    yield from (f"{count} × {reason}" if count > 1 else reason for reason, count in by_kind(one.reasons).items())


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
