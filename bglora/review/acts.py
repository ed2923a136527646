"""What a person does on the page: the same methods of `Project` as the commands, noted so that it can be taken back."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bglora.decisions import FILE
from bglora.errors import UserError
from bglora.project import Project, editing
from bglora.review.looking import Looks
from bglora.review.state import stale
from bglora.settings.edit import writing

MOST = 20_000
"""Names in one act."""
SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON may hold and no file can."""


class Conflict(UserError):
    """The page shows what is no more: another tab or the command line decided something since."""


@dataclass(frozen=True)
class Act:
    """Something to do.

    Attributes:
        said: in a few words, for undo: `drop harbor-s003/000060`.
        do: does it.
        files: files besides decisions.toml that it may replace.
    """

    said: str
    do: Callable[[], object]
    files: Sequence[str] = ()


class Acts:
    """Does one act after another."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self._lock = threading.Lock()

    def stamps(self) -> str:
        """As `Looks.stamps`, but never in the middle of an act."""
        with self._lock:
            return self.looks.stamps()

    def do(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Does what the page asks for: `{"revision", "act", …}` in, `{"revision", "said", "stale"}` out.

        Raises:
            Conflict: the revision is not the current one. Nothing was done.
            UserError: the act is none, or can't be done.
        """
        name = _text(values, "act")
        with self._lock:
            with writing(self.looks.project.root / FILE):  # a command that decides meanwhile waits
                said = self._done(name, values)
                revision = self.looks.revision()
            look = self.looks.now()
        return {"revision": revision, "said": said, "stale": stale(look.status)}

    def _done(self, name: str, values: Mapping[str, Any]) -> str:
        if values.get("revision") != self.looks.revision():
            raise Conflict(
                "Something was decided since this page looked, in another tab or by a command.",
                where="decisions.toml",
                cure="Look at it as it is now, then decide again.",
            )
        if name == "undo":
            return f"taken back: {self.looks.journal.undo()}"
        if name not in ACTS:
            raise UserError(f"There is no act {name!r}.", where="act", cure=f"Acts are: {', '.join(ACTS)}, undo.")
        act = ACTS[name](self.looks.project, values)
        with self.looks.journal.entry(act.said, act.files):
            act.do()
        return act.said


def _drop(project: Project, values: Mapping[str, Any]) -> Act:
    items, reason = _names(values, "items"), _text(values, "reason", "")
    return Act(f"drop {_few(items)}", lambda: project.drop(*items, reason=reason))


def _keep(project: Project, values: Mapping[str, Any]) -> Act:
    items = _names(values, "items")
    return Act(f"keep {_few(items)}", lambda: project.keep(*items))


def _retry(project: Project, values: Mapping[str, Any]) -> Act:
    items, stage = _names(values, "items"), _text(values, "stage", "")
    return Act(f"retry {_few(items)}", lambda: project.retry(*items, stage=stage))


def _rename(project: Project, values: Mapping[str, Any]) -> Act:
    scene = _text(values, "scene")
    title = editing.title_line(scene, _text(values, "title"))
    return Act(f"rename {scene} to {title}", lambda: project.rename(scene, title))


def _merge(project: Project, values: Mapping[str, Any]) -> Act:
    into, *others = dict.fromkeys(_names(values, "scenes"))
    if not others:
        raise UserError("A merge needs two scenes.", where=into, cure="Name the scene that stays, then the others.")
    return Act(f"merge {_few(others)} into {into}", lambda: project.merge(into, *others))


def _split(project: Project, values: Mapping[str, Any]) -> Act:
    scene, plates = _text(values, "scene"), _names(values, "plates")
    return Act(f"split {_few(plates)} from {scene}", lambda: project.split(scene, *plates))


def _move(project: Project, values: Mapping[str, Any]) -> Act:
    scene, plates = _text(values, "scene"), _names(values, "plates")
    return Act(f"move {_few(plates)} into {scene}", lambda: project.move(scene, *plates))


def _give_back(project: Project, values: Mapping[str, Any]) -> Act:
    """Into a scene, or without one into the nearest."""
    if values.get("scene"):
        return _move(project, values)
    plates = _names(values, "plates")
    return Act(f"give back {_few(plates)}", lambda: project.keep(*plates))


def _caption(project: Project, values: Mapping[str, Any]) -> Act:
    plate, text = _text(values, "plate"), _text(values, "text")
    files = editing.caption_files(project, [plate])
    return Act(f"caption of {plate}", lambda: project.caption(plate, text), files)


def _replace(project: Project, values: Mapping[str, Any]) -> Act:
    scene, find, new = _text(values, "scene"), _text(values, "find"), _text(values, "replace")
    texts = editing.replaced(project, scene, find, new)
    files = editing.caption_files(project, texts)
    count = f"{len(texts)} caption" + ("s" if len(texts) != 1 else "")
    return Act(f"{find!r} to {new!r} in {count} of {scene}", lambda: editing.caption(project, texts), files)


def _choose(project: Project, values: Mapping[str, Any]) -> Act:
    scene, checkpoint = _text(values, "scene"), _text(values, "checkpoint", "")
    scale = values.get("scale") or 0
    if not _number(scale):
        raise _no("scale", "a number")
    return Act(
        f"choose {checkpoint or 'the recommended LoRA'} for {scene}", lambda: project.choose(scene, checkpoint, scale)
    )


def _mask(project: Project, values: Mapping[str, Any]) -> Act:
    frame = _text(values, "frame")
    try:
        png = base64.b64decode(_text(values, "png").rpartition(",")[2], validate=True)
    except binascii.Error:
        raise _no("png", "base64") from None
    with project.view() as view:
        path = editing.mask_file(view, frame)
    return Act(f"mask of {frame}", lambda: project.edit_mask(frame, png), [path])


def _points(project: Project, values: Mapping[str, Any]) -> Act:
    frame, box, points = _text(values, "frame"), values.get("box") or [], values.get("points") or []
    if not (isinstance(box, list) and len(box) in (0, 4) and all(map(_number, box))):
        raise _no("box", "left, top, right, bottom")
    if not (
        isinstance(points, list)
        and len(points) <= 100
        and all(isinstance(one, list) and len(one) == 3 and all(map(_number, one)) for one in points)
    ):
        raise _no("points", "a list of x, y and 1 or 0")
    said = f"points in {frame}" if box or points else f"no points in {frame}"
    return Act(said, lambda: project.point_out(frame, box=box, points=points))


ACTS: Mapping[str, Callable[[Project, Mapping[str, Any]], Act]] = {
    "drop": _drop,
    "keep": _keep,
    "retry": _retry,
    "rename": _rename,
    "merge": _merge,
    "split": _split,
    "move": _move,
    "give_back": _give_back,
    "caption": _caption,
    "replace": _replace,
    "choose": _choose,
    "mask": _mask,
    "points": _points,
}
"""Act to what it means. `undo` is none: it takes one back."""


def _text(values: Mapping[str, Any], key: str, otherwise: str | None = None) -> str:
    value = values.get(key, otherwise)
    if not isinstance(value, str) or "\0" in value or SURROGATES.search(value):
        raise _no(key, "text")
    return value


def _names(values: Mapping[str, Any], key: str) -> list[str]:
    names = values.get(key)
    if not isinstance(names, list) or not names or len(names) > MOST:
        raise _no(key, f"a list of 1 to {MOST:,} names")
    if not all(isinstance(name, str) and name and len(name) <= 300 and name.isprintable() for name in names):
        raise _no(key, "a list of names")
    return list(dict.fromkeys(names))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _no(key: str, what: str) -> UserError:
    return UserError(f"{key} must be {what}.", where=key, cure="Load the page anew; if it stays, report it.")


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
