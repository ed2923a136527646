"""What a person decided about pictures and scenes. Kept in decisions.toml; outlives every re-run.

[[decision]]                  in the order of deciding: the later one about a picture counts
drop = "harbor-s003/*"        pictures, by name or pattern (* ? [abc])
reason = "too dark"

[[decision]]
keep = "harbor-s003/000060"

[[decision]]
rename = "scene-00"
title = "The pier"

[[decision]]
merge = ["scene-02"]
into = "scene-00"

[[decision]]
split = "scene-00"            these plates become a scene of their own
plates = ["harbor-s003/*"]

[[decision]]
move = ["harbor-s003/000060"] these plates go into a scene that is there, from another one or from none
into = "scene-01"

[[decision]]
caption = "harbor-s003/000060" the caption of this plate, without the trigger, which its scene gives it
text = "background, the pier at dusk"

[[decision]]
choose = "scene-00"           what to compose this scene with: a LoRA file of `train` and its scale
checkpoint = "loras/scene-00.safetensors"
scale = 0.7                   0, or left out: the recommended one; likewise an empty checkpoint

[[decision]]
prompt = "harbor-s003/000060" somebody in this frame, pointed out for `segment`: a box around him, or points
box = [412, 80, 540, 330]     left, top, right, bottom, in pixels of the frame
points = [[470, 200, 1]]      x, y, and 1 on him or 0 beside him; one decision a character

[[decision]]
retry = "harbor-s003*"        failed items or pictures to try again; `times` counts how often it was asked for
stage = "inpaint"
times = 1
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from bglora.errors import UserError

FILE = "decisions.toml"

SHAPES: Mapping[str, Mapping[str, type]] = {
    "drop": {"drop": str, "reason": str},
    "keep": {"keep": str},
    "rename": {"rename": str, "title": str},
    "merge": {"merge": list, "into": str},
    "split": {"split": str, "plates": list},
    "move": {"move": list, "into": str},
    "caption": {"caption": str, "text": str},
    "choose": {"choose": str, "checkpoint": str, "scale": float},
    "prompt": {"prompt": str, "box": list, "points": list},
    "retry": {"retry": str, "stage": str, "times": int},
}
"""Kind of a decision to its keys. Those of `OPTIONAL` may be left out."""

NUMBERS = {"box", "points"}
"""Keys whose lists are of numbers, not of names."""

PATTERN = re.compile(r"[*?\[]")
"""What tells a pattern from a plain name."""

OPTIONAL: Mapping[str, Any] = {
    "reason": "", "stage": "", "times": 1, "box": [], "points": [], "checkpoint": "", "scale": 0.0,
}  # fmt: skip

EMPTIED: Mapping[str, tuple[str, ...]] = {
    "caption": ("text",), "choose": ("checkpoint", "scale"), "prompt": ("box", "points"),
}  # fmt: skip
"""Kinds that are taken back by one of the same kind in which these keys say nothing."""

HEADER = """\
# What you decided about pictures and scenes. `bglora drop`, `keep`, `rename`, `merge`, `split`, `move`, `retry` and
# `review` write here; you may edit it, too. Where two decisions speak of the same picture, the later one counts.
"""


@dataclass(frozen=True)
class Decision:
    """One entry: its kind and its values by key."""

    kind: str
    values: Mapping[str, Any]

    def about(self) -> str:
        """The pattern or scene that it is about; empty for a merge or move, which is about several."""
        value = self.values[self.kind]
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Decisions:
    """All decisions of a project, in the order they were made. Immutable; `add` writes the file and gives a new one."""

    root: Path
    entries: tuple[Decision, ...] = ()

    @classmethod
    def load(cls, root: Path) -> Decisions:
        """Reads decisions.toml; no file means no decisions.

        Raises:
            UserError: the file is no TOML or has an entry that says nothing.
        """
        path = root / FILE
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            return cls(root)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{FILE} can't be read: {error}.", where=str(path), cure="Check that the file is yours and UTF-8 text."
            ) from None
        return cls(root, tuple(_entries(text, path)))

    def drops(self, picture: str) -> str | None:
        """The reason for which a person dropped the picture, None if nobody did. May be the empty string."""
        last = self._last(picture)
        return str(last.values["reason"]) if last is not None and last.kind == "drop" else None

    def keeps(self, picture: str) -> bool:
        """True if a person said to keep the picture, whatever its scores."""
        last = self._last(picture)
        return last is not None and last.kind == "keep"

    def renames(self) -> dict[str, str]:
        """Scene to the title that a person gave it."""
        return {one.about(): str(one.values["title"]) for one in self._of("rename")}

    def merges(self) -> list[tuple[str, list[str]]]:
        """`(into, [others])` in the order of deciding."""
        return [(str(one.values["into"]), list(one.values["merge"])) for one in self._of("merge")]

    def splits(self) -> list[dict[str, Any]]:
        """`{"scene": …, "plates": [patterns]}` in the order of deciding."""
        return [{"scene": one.about(), "plates": list(one.values["plates"])} for one in self._of("split")]

    def prompts(self, shot: str) -> dict[str, list[dict[str, Any]]]:
        """Picture of a shot to whom a person pointed out there.

        A character is `{"box": [left, top, right, bottom] or [], "points": [[x, y, 0 or 1]]}`.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self._of("prompt"):
            if one.about().rpartition("/")[0] == shot:
                told = {"box": list(one.values["box"]), "points": [list(point) for point in one.values["points"]]}
                found.setdefault(one.about(), []).append(told)
        return found

    def captions(self) -> dict[str, str]:
        """Plate to the caption that a person gave it, without the trigger."""
        return {one.about(): str(one.values["text"]) for one in self._of("caption")}

    def choice(self, scene: str) -> tuple[str, float] | None:
        """LoRA file and scale that a person chose to compose a scene with; None if nobody did.

        An empty file and a scale of 0 stand for the recommended ones.
        """
        found = [one.values for one in self._of("choose") if one.about() == scene]
        return (str(found[-1]["checkpoint"]), float(found[-1]["scale"])) if found else None

    def retries(self, stage: str) -> dict[str, int]:
        """Pattern to the number of times that a person asked to try it again in this stage."""
        found: dict[str, int] = {}
        for one in self._of("retry"):
            if one.values["stage"] in ("", stage):
                found[one.about()] = found.get(one.about(), 0) + int(one.values["times"])
        return found

    def about(self, kind: str, names: Iterable[str]) -> dict[str, Any]:
        """What was decided about these pictures or scenes, as JSON values: only names that something was decided about.

        Args:
            kind: `pictures` (drops and keeps: `{"harbor-s003/000060": "keep" | "drop: reason"}`), `rename`, `merge` or
                `split`.
            names: pictures or scenes.
        """
        wanted = list(names)
        if kind == "pictures":
            return self._pictures(wanted)
        if kind == "rename":
            return {scene: title for scene, title in self.renames().items() if scene in set(wanted)}
        if kind == "merge":
            inside = set(wanted)
            return {into: others for into, others in self.merges() if into in inside or inside & set(others)}
        if kind == "split":
            inside = set(wanted)
            return {one["scene"]: one["plates"] for one in self.splits() if one["scene"] in inside}
        raise ValueError(f"no kind of decision: {kind}")

    def add(self, kind: str, **values: Any) -> Decisions:
        """Writes one more decision. One of the same kind about the same thing is replaced, a retry is counted.

        A keep that takes back a drop of the same name or pattern undoes it and leaves no decision, unless there was a
        keep before the drop, or another drop speaks of these pictures, too.
        """
        return self.add_all([(kind, values)])

    def add_all(self, wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> Decisions:
        """Writes several decisions in one step; two who write at the same time do so one after the other."""
        from bglora.settings.edit import writing

        with writing(self.root / FILE):
            return self._written(wanted)

    def _written(self, wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> Decisions:
        import tomlkit

        from bglora.decisions.draft import Draft
        from bglora.settings.edit import write_text

        path = self.root / FILE
        text = path.read_text(encoding="utf-8-sig") if path.exists() else HEADER
        document = tomlkit.parse(text)
        draft = Draft(document.get("decision", ()))
        for kind, values in wanted:
            draft.place(kind, dict(values))
        tables = tomlkit.aot()
        for table in draft.tables.values():
            tables.append(table)
        if not draft.tables:
            document.pop("decision", None)
        elif document.get("decision"):
            document["decision"] = tables
        else:
            document.pop("decision", None)
            document.add("decision", tables)
        written = tomlkit.dumps(document)
        entries = tuple(_entries(written, path))
        write_text(path, written)
        return Decisions(self.root, entries)

    def _pictures(self, names: Iterable[str]) -> dict[str, str]:
        if not any(one.kind in ("drop", "keep") for one in self.entries):
            return {}
        found: dict[str, str] = {}
        for name in names:
            last = self._last(name)
            if last is not None:
                found[name] = "keep" if last.kind == "keep" else f"drop: {last.values['reason']}"
        return found

    def _of(self, kind: str) -> list[Decision]:
        return [one for one in self.entries if one.kind == kind]

    @cached_property
    def _judged(self) -> tuple[dict[str, int], list[tuple[int, re.Pattern[str]]]]:
        """Drops and keeps: plain names to their entry, and patterns, latest first."""
        names: dict[str, int] = {}
        patterns = []
        for index, one in enumerate(self.entries):
            if one.kind in ("drop", "keep"):
                if PATTERN.search(one.about()):
                    patterns.append((index, re.compile(translate(one.about()))))
                else:
                    names[one.about()] = index
        return names, patterns[::-1]

    def _last(self, name: str) -> Decision | None:
        """The latest drop or keep that speaks of the picture."""
        names, patterns = self._judged
        latest = names.get(name, -1)
        for index, pattern in patterns:
            if index < latest:
                break
            if pattern.match(name):
                latest = index
                break
        return self.entries[latest] if latest >= 0 else None


def _entries(text: str, path: Path) -> Iterable[Decision]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            f"{FILE} is not valid TOML: {error}.", where=str(path), cure="Mend that line, or delete the entry."
        ) from None
    strange = [key for key in document if key != "decision"]
    entries = document.get("decision", [])
    if strange or not isinstance(entries, list):
        raise _wrong(path, f"[{strange[0]}] is no decision" if strange else "decision is no list")
    for number, entry in enumerate(entries, 1):
        yield _entry(entry, number, path)


def _entry(entry: Any, number: int, path: Path) -> Decision:
    kind = next((one for one in SHAPES if isinstance(entry, dict) and one in entry), None)
    if kind is None:
        raise _wrong(path, f"entry {number} decides nothing")
    shape = SHAPES[kind]
    values = {**{key: OPTIONAL[key] for key in shape if key in OPTIONAL}, **entry}
    for key, value in values.items():
        if key not in shape:
            raise _wrong(path, f"entry {number} ({kind}) has a key {key!r}")
        kinds = (int, float) if shape[key] is float else shape[key]
        if not isinstance(value, kinds) or (
            isinstance(value, list) and key not in NUMBERS and not all(isinstance(v, str) for v in value)
        ):
            raise _wrong(
                path, f"entry {number}: {key} = {value!r} is no {'text' if shape[key] is str else 'value for it'}"
            )
    for key in shape:
        if key not in values:
            raise _wrong(path, f"entry {number} ({kind}) lacks {key}")
    if kind == "prompt" and (why := _wrong_prompt(values)):
        raise _wrong(path, f"entry {number} (prompt) {why}")
    return Decision(kind, values)


def _wrong_prompt(values: Mapping[str, Any]) -> str:
    """What is wrong with a prompt; empty if nothing is."""
    box, points = values["box"], values["points"]
    if re.fullmatch(r".+/\d+", values["prompt"]) is None or PATTERN.search(values["prompt"]):
        return f"names no frame: {values['prompt']!r}"
    if box and not (_numbers(box, 4) and box[0] < box[2] and box[1] < box[3]):
        return f"has no box left, top, right, bottom: {box}"
    if not all(_numbers(point, 3) and point[2] in (0, 1) for point in points):
        return f"has points that are not x, y and 0 or 1: {points}"
    if not box and not any(point[2] for point in points):
        return "points nobody out: it needs a box, or a point on somebody"
    return ""


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) and v >= 0 for v in value)
    )


def _wrong(path: Path, what: str) -> UserError:
    return UserError(
        f"{FILE}: {what}.",
        where=str(path),
        cure=f"Every [[decision]] has one of {', '.join(SHAPES)}; delete the entry, or write it by its command.",
    )
