"""Checks that a decision speaks of something that is there, before it is written down."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bglora.engine.stage import View
from bglora.errors import UserError


def check_pictures(view: View, patterns: Iterable[str]) -> None:
    """Every pattern must match a frame or a plate: wide plates have names of their own."""
    known = dict.fromkeys(row.picture for stage in ("ingest", "inpaint") for row in view.rows(stage))
    _check(list(known), patterns, "picture", "ingest")


def check_scenes(view: View, scenes: Iterable[str]) -> None:
    """Every scene must be one."""
    known = {str(scene) for row in view.rows("cluster") if (scene := row.record.get("scene"))}
    _check(sorted(known), scenes, "scene", "cluster", exactly=True)


def title_of(view: View, scene: str) -> str:
    """What a scene is called: by a person, else by `cluster`."""
    told = view.item_record("cluster", "all").get("scenes", ())
    given = view.decisions.renames().get(scene)
    return str(given or next((one["title"] for one in told if one["id"] == scene), scene))


def check_stage(stages: Sequence[str], name: str) -> None:
    """An empty name stands for all stages."""
    if name and name not in stages:
        raise UserError(f"There is no stage {name!r}.", where=name, cure=f"The stages are: {', '.join(stages)}.")


def _check(known: Sequence[str], patterns: Iterable[str], kind: str, stage: str, *, exactly: bool = False) -> None:
    if not known:
        raise UserError(
            f"There are no {kind}s yet to decide about.",
            where=", ".join(patterns),
            cure=f"They come from: bglora run --to {stage}",
        )
    exact = set(known)
    for pattern in patterns:
        if pattern in exact or (not exactly and any(fnmatchcase(name, pattern) for name in known)):
            continue
        near = difflib.get_close_matches(pattern, known, 1, 0.6)
        cure = f"The nearest is {near[0]}." if near else f"Names are like {known[0]}; `bglora report` shows them all."
        raise UserError(f"No {kind} is called {pattern!r}.", where=pattern, cure=cure)
