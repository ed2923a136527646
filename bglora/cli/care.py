"""Commands that begin a project and look after it: `init`, `demo`, `doctor`, `clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bglora.cli.options import Session


def init(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="FILM-NAME", help="Names the project and its folder.")],
    film: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A film or a folder of frames; may be given again.")
    ] = None,
    layers: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Layers of an earlier segmentation; may be given again.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(metavar="cpu|studio", help="Where the settings start from.", autocompletion=lambda: _presets()),
    ] = "cpu",
    title: Annotated[str, typer.Option(metavar="TEXT", help="The film's name as people write it.")] = "",
) -> None:
    """Make a project folder."""
    import bglora

    base = session.options.folder or Path()
    project = bglora.init(base / name, films=film or (), layers=layers or (), preset=preset, title=title)
    for setting in session.options.given or ():
        key, _, value = setting.partition("=")
        project.set(key, value)
    session.console.emit("made", {"project": str(project.root)})
    session.console.result(f"Made the project {project.root.name}.")
    shown = project.root.relative_to(Path.cwd()) if project.root.is_relative_to(Path.cwd()) else project.root
    if not film and not layers:
        session.console.say(f"Put films or folders of frames into {shown / 'sources'}, then:")
    first = "run --all" if preset == "cpu" else "doctor"
    session.console.say(f"Next: bglora -C {_quoted(shown)} {first}")


def demo(
    session: Session,
    place: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to do it.")] = Path("bglora-demo"),
) -> int | None:
    """Do the whole job on the sample film, in a folder of its own."""
    import bglora
    from bglora.cli.closing import close_run

    base = session.options.folder or Path()
    project = bglora.demo(base / place, listener=session.console.event, jobs=session.options.jobs or 0)
    project.given = tuple(session.options.given or ())
    session.opened.append(project.root)
    session.console.say(f"The sample film, from film to LoRA, in {project.root}")
    result = project.run(**session.place(), **session.scope())
    path = project.report()
    code = close_run(session, project, result)
    session.console.emit("report", {"path": str(path)})
    session.console.result(f"Look at it: {path}")
    return code


def doctor(session: Session) -> int | None:
    """Say what is there, what is missing or wrong, here and in the project, and what mends it."""
    import bglora
    from bglora.console.tables import check_lines
    from bglora.errors import EXIT_MACHINE, EXIT_USER

    checks = bglora.doctor(session.options.folder or Path(), given=session.options.given or ())
    for check in checks:
        session.console.emit("check", check.to_json())
    for shown in check_lines(checks):
        session.console.result(shown)
    states = {check.state for check in checks}
    return EXIT_MACHINE if "missing" in states else EXIT_USER if "wrong" in states else None


def clean(
    session: Session,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WHAT]...", help="Names from the list; without any, the list is shown."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete it.")] = False,
) -> int | None:
    """Show what can be deleted, how much that frees and what it costs to make again; delete it with --yes."""
    from bglora.console.tables import clean_lines
    from bglora.console.words import size

    project = session.project()
    delete = yes and not session.options.dry
    found = project.clean(*(what or ()), delete=delete, overwrite_edits=bool(session.options.overwrite_edits))
    for one in found:
        session.console.emit("cleanable", {**one.to_json(), "deleted": delete})
    if delete:
        session.console.result(f"Freed {size(sum(one.bytes for one in found))}.")
        return None
    for shown in clean_lines(found):
        session.console.result(shown)
    if found:
        session.console.say("Delete with: bglora clean WHAT --yes")
    return None


def _presets() -> list[str]:
    from bglora.settings.presets import PRESETS

    return list(PRESETS)


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
