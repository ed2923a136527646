"""Commands by which a person decides. All write decisions.toml; the next run heeds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from bglora.cli.options import Session
from bglora.cli.pipeline import SENTENCES

NEXT = "`bglora run --all` heeds it; `bglora plan` says what that makes again."

Patterns = Annotated[
    list[str], typer.Argument(metavar="PICTURE...", help="Names or patterns: 'harbor-s003/*', harbor-s003/000060.")
]
Scene = Annotated[str, typer.Argument(metavar="SCENE", help="Its id: scene-00.")]


def keep(session: Session, pictures: Patterns) -> None:
    """Keep pictures whatever their scores, or take a drop back.

    A picture that was dropped because nobody can be told from the background there is taken as it is.
    """
    project = session.project()
    project.keep(*pictures)
    decided = {one.about() for one in project.decisions.entries if one.kind == "keep"}
    kept, back = ([name for name in pictures if (name in decided) == wanted] for wanted in (True, False))
    sentences = [f"Kept from now on: {', '.join(kept)}."] if kept else []
    sentences += [f"No longer dropped: {', '.join(back)}."] if back else []
    _told(session, {"decision": "keep", "pictures": pictures}, " ".join(sentences))


def drop(
    session: Session,
    pictures: Patterns,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; stands in status and report.")] = "",
) -> None:
    """Take pictures out of their scene."""
    session.project().drop(*pictures, reason=reason)
    _told(session, {"decision": "drop", "pictures": pictures}, f"Dropped from now on: {', '.join(pictures)}.")


def retry(
    session: Session,
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Items or pictures, like 'harbor-s003*'.")] = "*",
    stage: Annotated[
        str,
        typer.Option(metavar="STAGE", help="In this stage alone.", autocompletion=lambda: [*SENTENCES]),
    ] = "",
) -> None:
    """Try failed items again with the next run."""
    session.project().retry(pattern, stage=stage)
    where = f" in {stage}" if stage else ""
    _told(session, {"decision": "retry", "pattern": pattern}, f"What failed{where} ({pattern}) is tried again.")


def rename(
    session: Session, scene: Scene, title: Annotated[str, typer.Argument(metavar="TITLE", help="The place's name.")]
) -> None:
    """Give a scene a title. Its id stays."""
    from bglora.project.editing import title_line

    title = title_line(scene, title)
    changed = session.project().rename(scene, title)
    sentence = f"{scene} is called {title}{'' if changed else ' already'}."
    _told(session, {"decision": "rename", "scene": scene, "title": title}, sentence, changed)


def merge(
    session: Session,
    into: Scene,
    scenes: Annotated[list[str], typer.Argument(metavar="OTHER...", help="Scenes that become part of it.")],
) -> None:
    """Make one scene of several."""
    session.project().merge(into, *scenes)
    others = [scene for scene in scenes if scene != into]
    told = {"decision": "merge", "scene": into, "others": others}
    _told(session, told, f"{', '.join(others)} will be part of {into}.")


def split(
    session: Session,
    scene: Scene,
    plates: Annotated[list[str], typer.Argument(metavar="PLATE...", help="Names or patterns: 'harbor-s003/*'.")],
) -> None:
    """Make a scene of its own from some plates of a scene."""
    session.project().split(scene, *plates)
    told = {"decision": "split", "scene": scene, "plates": plates}
    _told(session, told, f"{', '.join(plates)} of {scene} will be a scene of their own.")


def move(
    session: Session,
    into: Scene,
    plates: Annotated[list[str], typer.Argument(metavar="PLATE...", help="Names or patterns: 'harbor-s003/*'.")],
) -> None:
    """Put plates into a scene that is there, from another one or from none."""
    session.project().move(into, *plates)
    told = {"decision": "move", "scene": into, "plates": plates}
    _told(session, told, f"{', '.join(plates)} will be part of {into}.")


def _told(session: Session, values: Mapping[str, object], sentence: str, changed: bool = True) -> None:
    session.console.emit("decision", dict(values))
    session.console.result(sentence)
    if changed:
        session.console.say(NEXT)
