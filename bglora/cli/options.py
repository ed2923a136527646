"""Options that stand before or after every command, written once.

A command is a function whose first parameter is a `Session`. `everywhere` gives it the shared options: typer sees them
in its signature, the function gets them as a session.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from bglora.console import Console
from bglora.errors import Interrupted, UserError

if TYPE_CHECKING:
    from bglora.project import Project

PANEL = "Everywhere"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=PANEL, **more)


@dataclass
class Options:
    """The options that every command takes. Given twice, the one after the command counts; `--set` adds up."""

    folder: Annotated[
        Path | None, _option("-C", "--project", help="Work on the project in this folder.", metavar="DIR")
    ] = None
    limit: Annotated[
        int | None,
        _option("--limit", help="Try on N pictures first, evenly spread over the shots.", min=1, metavar="N"),
    ] = None
    only: Annotated[
        str | None,
        _option("--only", help="Items or pictures by name, like 'harbor-s003*'; commas between.", metavar="PATTERN"),
    ] = None
    given: Annotated[
        list[str] | None, _option("--set", help="A setting for this time only.", metavar="TABLE.KEY=VALUE")
    ] = None
    json: Annotated[bool | None, _option("--json", help="One JSON object a line on stdout, all else on stderr.")] = None
    quiet: Annotated[bool | None, _option("--quiet", "-q", help="Say only results and errors.")] = None
    verbose: Annotated[bool | None, _option("--verbose", "-v", help="Say every item, and why it is made.")] = None
    debug: Annotated[bool | None, _option("--debug", help="Show the traceback of an error.")] = None
    jobs: Annotated[
        int | None,
        _option("--jobs", "-j", help="Processes side by side; as many as there are cores.", min=1, metavar="N"),
    ] = None
    executor: Annotated[
        Literal["local", "ray"] | None,
        _option("--executor", help="Where the work is done: on this machine, or on a Ray cluster."),
    ] = None
    ray_address: Annotated[
        str | None,
        _option(
            "--ray-address", help="The cluster, or auto; else RAY_ADDRESS, else one starts here.", metavar="HOST:PORT"
        ),
    ] = None
    retries: Annotated[
        int | None,
        _option("--retries", help="ray: how often an item is made again whose worker is lost; 2.", min=0, metavar="N"),
    ] = None
    worker_timeout: Annotated[
        str | None,
        _option(
            "--worker-timeout", help="ray: a worker is lost after this time without progress; 30m.", metavar="TIME"
        ),
    ] = None
    max_time: Annotated[
        str | None,
        _option("--max-time", help="Stop after this time (90, 30m, 2h); run again to go on.", metavar="TIME"),
    ] = None
    overwrite_edits: Annotated[
        bool | None, _option("--overwrite-edits", help="Make outputs again that you edited by hand.")
    ] = None
    dry: Annotated[bool | None, _option("--dry", help="Run, stages and clean: say what would be done, do nothing.")] = (
        None
    )

    def over(self, before: Options) -> Options:
        """These options, with those given before the command where these say nothing."""
        joined = {one.name: getattr(before, one.name) for one in fields(self)}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name == "given":
                joined[one.name] = [*(before.given or []), *(value or [])]
            elif value is not None:
                joined[one.name] = value
        return Options(**joined)

    def seconds(self) -> float | None:
        """`--max-time` in seconds."""
        return _given_seconds(self.max_time, "--max-time")


def _given_seconds(text: str | None, option: str) -> float | None:
    """An option's time in seconds; None if it isn't given."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found:
        raise UserError(f"{text!r} is no time.", where=option, cure="Write seconds, minutes or hours: 90, 30m, 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


@dataclass
class Session:
    """What a command works with."""

    options: Options
    console: Console
    opened: list[Path] = field(default_factory=list)
    """Folders of the projects that were opened: a crash leaves its log there."""

    def project(self) -> Project:
        """The project that the command is about."""
        import bglora

        project = bglora.open(
            self.options.folder or Path(),
            given=self.options.given or (),
            listener=self.console.event,
            jobs=self.options.jobs or 0,
        )
        self.opened.append(project.root)
        return project

    def place(self) -> dict[str, Any]:
        """The options that say how long and where a run works, as `Project.run` wants them.

        Raises:
            UserError: an option of a cluster without `--executor ray`, or a time that is none.
        """
        given = self.options
        cluster = {
            "ray_address": given.ray_address,
            "retries": given.retries,
            "worker_timeout": _given_seconds(given.worker_timeout, "--worker-timeout"),
        }
        chosen = {name: value for name, value in cluster.items() if value is not None}
        if chosen and given.executor != "ray":
            raise UserError(
                "This option is about workers of a cluster.",
                where=f"--{next(iter(chosen)).replace('_', '-')}",
                cure="Add --executor ray, or leave this option out.",
            )
        return {"max_time": given.seconds(), "executor": given.executor or "local", **chosen}

    def scope(self) -> dict[str, Any]:
        """The options that narrow a run or plan, as `Project.run` and `Project.plan` want them."""
        return {
            "limit": self.options.limit,
            "only": self.options.only,
            "overwrite_edits": bool(self.options.overwrite_edits),
        }


CURRENT: list[Session] = []
"""The session of the running command, for the last words after an error."""


def begin(options: Options) -> Session:
    """Makes the session of the running command."""
    console = Console(
        json=bool(options.json),
        quiet=bool(options.quiet),
        verbose=bool(options.verbose),
        debug=bool(options.debug),
    )
    session = Session(options, console)
    CURRENT[:] = [session]
    return session


def parameters(*, hidden: bool = False) -> list[inspect.Parameter]:
    """The shared options as parameters of a function; `hidden` ones work but are not listed by --help."""
    hints = inspect.get_annotations(Options, eval_str=True)
    found = []
    for one in fields(Options):
        kind, option = get_args(hints[one.name])
        if hidden:
            option = copy(option)
            option.hidden = True
        annotation: Any = Annotated[kind, option]
        found.append(inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return found


SHARED = parameters()


def everywhere(command: Callable[..., int | None], *, dry: bool = True) -> Callable[..., None]:
    """Turns `command(session, ...)` into a function for typer that takes the shared options as well.

    A command returns its exit code; None is 0. `dry`: it heeds `--dry`, or changes nothing.
    """
    own = inspect.signature(command, eval_str=True).parameters
    taken = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, one in own.items() if name != "session"]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    @functools.wraps(command)
    def wrapped(*, context: typer.Context, **values: Any) -> None:
        after = Options(**{one.name: values.pop(one.name) for one in fields(Options)})
        session = begin(after.over(context.obj or Options()))
        if session.options.dry and not dry:
            raise UserError(
                "This command does what it says at once; it has no --dry.",
                where=str(context.command_path),
                cure="Leave --dry out; `bglora plan` says what a run would do.",
            )
        try:
            code = command(session, **values)
        except KeyboardInterrupt:  # typer would end without a word
            raise Interrupted(
                "Stopped by you; everything done so far is kept.",
                where=str(context.command_path),
                cure="Run the same command to go on.",
            ) from None
        finally:
            session.console.close()
        if code:
            raise typer.Exit(code)

    everything = [context, *taken, *SHARED]
    wrapped.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in everything}
    del wrapped.__wrapped__
    return wrapped
