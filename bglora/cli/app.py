"""The commands, in the order in which a person meets them. What each does is in the file of its group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from bglora import __version__
from bglora.cli import care, decide, look, lora, pipeline, review, weights
from bglora.cli.options import Options, everywhere, parameters

HELP = (
    "A 3D-animated film in, one background LoRA per location out.\n\n"
    "Begin with `bglora init film-name --film PATH`, then `bglora run --all` in that folder. "
    "Every command also takes -C DIR, --limit, --only, --set, --dry, --json, --jobs and more, before or after its "
    "name: see `bglora run --help`."
)

EPILOG = """\
Exit codes: 0 all done; 1 some items failed or are refused (test.fail_on), the rest is done; 2 you can mend it
(manifest, missing file, wrong option); 3 the machine lacks something (package, weights, memory, disk); 75 stopped by
--max-time, run again; 130 interrupted, everything done so far is kept.
"""

app = typer.Typer(
    name="bglora",
    help=HELP,
    epilog=EPILOG.replace("\n", " ").strip(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

OWN: dict[str, Callable[..., int | None]] = {
    "inpaint": pipeline.inpaint,
    "train": lora.train,
    "test": lora.test,
    "compose": lora.compose,
}
"""Stages whose commands have options of their own."""

GROUPS: dict[str, list[tuple[str, Callable[..., int | None]]]] = {
    "Make": [("init", care.init), ("demo", care.demo), ("run", pipeline.run)],
    "One stage": [(name, OWN.get(name) or pipeline.stage(name)) for name in pipeline.SENTENCES],
    "Look": [
        ("status", look.status),
        ("plan", pipeline.plan),
        ("report", look.report),
        ("review", review.review),
        ("settings", look.settings),
        ("get", look.get),
        ("set", look.set_),
    ],
    "Decide": [
        ("keep", decide.keep),
        ("drop", decide.drop),
        ("retry", decide.retry),
        ("rename", decide.rename),
        ("merge", decide.merge),
        ("split", decide.split),
        ("move", decide.move),
    ],
    "Look after": [("doctor", care.doctor), ("models", weights.models), ("clean", care.clean)],
}

NO_DRY = {"init", "demo", "report", "review", "set", *(name for name, _ in GROUPS["Decide"])}
"""Commands that change something and can't tell beforehand what."""

for panel, commands in GROUPS.items():
    for name, command in commands:
        # `set inpaint.hole_gain_db -5` is a value, not an option
        parsing = {"ignore_unknown_options": True} if name == "set" else {}
        app.command(name, rich_help_panel=panel, context_settings=parsing)(everywhere(command, dry=name not in NO_DRY))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bglora {__version__}")
        raise typer.Exit()


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    **values: Any,
) -> None:
    context.obj = Options(**values)


def _shared_root() -> Callable[..., None]:
    """`_root` with the shared options in its signature, where typer looks for them."""
    import inspect

    own = [one for one in inspect.signature(_root, eval_str=True).parameters.values() if one.name != "values"]
    everything = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + parameters(hidden=True)
    _root.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    _root.__annotations__ = {one.name: one.annotation for one in everything}
    return _root


app.callback()(_shared_root())
