"""The command `models`, and the question before a run that needs weights which are not here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Sized
from typing import TYPE_CHECKING, Annotated

import typer

from bglora.cli.options import Session
from bglora.errors import EXIT_MACHINE, UserError

if TYPE_CHECKING:
    from bglora.project import Project

ACTIONS = ("pull", "verify", "remove")
PAUSE = 1.0
"""Seconds between two JSON lines that tell how far a file is."""


def models(
    session: Session,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="pull|verify|remove",
            help="Fetch, check or delete weights; without it they are listed.",
            autocompletion=lambda: list(ACTIONS),
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Names from the list, or owner/name of the hub. None: what this project needs (pull), all (verify).",
            autocompletion=lambda: _names(),
        ),
    ] = None,
) -> int | None:
    """List the models that this version knows, their licenses and where they are; fetch, check or delete them."""
    if what is None:
        _list(session)
        return None
    if what not in ACTIONS:
        raise UserError(
            f"There is no {what!r} for models.",
            where=f"bglora models {what}",
            cure=f"bglora models {'|'.join(ACTIONS)} NAME...; without anything it lists them.",
        )
    work = {"pull": _pull, "verify": _verify, "remove": _remove}[what]
    return work(session, list(names or ()))


def settle_weights(session: Session, project: Project, stages: Sequence[str], to: str, since: str) -> None:
    """Fetches weights that a run will miss, if the project or, asked once, the person says so."""
    may = project.settings.project.download
    if may == "no" or (may == "ask" and not session.console.can_ask):
        return  # the run itself tells what is missing
    absent = project.missing_weights(*stages, to=to, since=since)
    if not absent:
        return
    from bglora.console.words import counted, size
    from bglora.stages.foresight import described

    wanted = {one.weights.name: one.weights for one in absent if one.weights}
    if may == "ask":
        session.console.say(f"This run needs {counted(len(wanted), 'model')} that {_are(wanted)} not on this machine:")
        for one in wanted.values():
            session.console.say(f"  {described(one)}  {one.license_url}".rstrip())
        known = sum(one.bytes for one in wanted.values())
        if not session.console.ask(f"Fetch {size(known) if known else 'them'} now?"):
            return
    _pull(session, list(wanted))


def _are(wanted: Sized) -> str:
    return "is" if len(wanted) == 1 else "are"


def _list(session: Session) -> None:
    import bglora
    from bglora.console.tables import model_lines

    found = bglora.models()
    for one in found:
        session.console.emit("model", one)
    for shown in model_lines(found):
        session.console.result(shown)
    session.console.say("Fetch with: bglora models pull NAME")
    session.console.say("Settings take these names, owner/name of the hub, and whole paths.")


def _pull(session: Session, names: list[str]) -> None:
    from bglora.backends import pulling, stock, weights

    for name in names or _needed(session):
        one = stock.named(name)
        if session.options.dry:
            here = weights.present(one) is not None
            session.console.emit("model", stock.described(one))
            session.console.result(f"{one.name}: {'is here' if here else f'would be fetched from {one.repo}'}")
            continue
        with session.console.transfer(one.name) as shown:
            path = pulling.pull(name, _both(session, one.name, shown))
        session.console.emit("model", stock.described(one))
        session.console.result(f"{one.name}: {path}")


def _needed(session: Session) -> list[str]:
    """What the settings of the project name and is not here."""
    from bglora.stages.foresight import demands, missing

    project = session.project()
    absent = missing(demands(project.root, project.settings))
    names = list(dict.fromkeys(one.weights.name for one in absent if one.weights))
    if not names:
        session.console.say("Everything that the settings name is on this machine.")
    return names


def _both(session: Session, name: str, shown: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Tells people and, now and then, scripts."""
    told, last = float("-inf"), ""

    def progress(path: str, done: int, total: int) -> None:
        nonlocal told, last
        shown(path, done, total)
        now = time.monotonic()
        if path != last or done == total or now - told >= PAUSE:
            told, last = now, path
            session.console.emit("fetching", {"name": name, "path": path, "done": done, "total": total})

    return progress


def _verify(session: Session, names: list[str]) -> int | None:
    from bglora.backends import stock, weights

    wrong = False
    everything = [one.name for one in weights.known().values() if weights.present(one) is not None]
    for name in names or everything:
        with session.console.transfer(name) as shown:
            found = stock.verify(name, shown)
        session.console.emit("verified", found.to_json())
        session.console.result(f"{found.name}: {found.state}, {found.found}")
        if found.mend:
            session.console.result(f"  {found.mend}")
        wrong = wrong or found.state in ("wrong", "absent")
    return EXIT_MACHINE if wrong else None


def _remove(session: Session, names: list[str]) -> None:
    from bglora.backends import stock
    from bglora.console.words import size

    if not names:
        raise UserError("Say which.", where="bglora models remove", cure="`bglora models` lists what is here.")
    for name in names:
        freed = stock.remove(name, dry=bool(session.options.dry))
        session.console.emit("removed", {"name": name, "bytes": freed, "dry": bool(session.options.dry)})
        session.console.result(f"{name}: {'would free' if session.options.dry else 'freed'} {size(freed)}")


def _names() -> list[str]:
    from bglora.backends import weights

    return list(weights.known())
