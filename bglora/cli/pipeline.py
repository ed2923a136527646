"""Commands that do the work: `run`, one for each stage, and `plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from bglora.cli.options import Session
from bglora.errors import UserError

SENTENCES = {
    "ingest": "Find the shots of the film and keep frames of each.",
    "segment": "Find the characters, their shadows and reflections.",
    "inpaint": "Take every character out: recover what is behind, fill what is never seen.",
    "cluster": "Sort the plates into scenes, one per location.",
    "caption": "Choose plates for each scene and write their captions.",
    "train": "Train one background LoRA per scene, and character LoRAs.",
    "test": "Paint a grid with each LoRA and judge it.",
    "compose": "Paint pictures with character and background together.",
}
"""The stages in pipeline order, each with what it does."""

StageName = Annotated[str | None, typer.Option(metavar="STAGE", autocompletion=lambda: list(SENTENCES))]


def run(
    session: Session,
    all_: Annotated[bool, typer.Option("--all", help="The whole pipeline.")] = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="From the first stage to this one.", autocompletion=lambda: [*SENTENCES]),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STAGE", help="From this stage to the last one.", autocompletion=lambda: [*SENTENCES]
        ),
    ] = None,
) -> int | None:
    """Run the pipeline. Only what is not done, or not up to date, is made."""
    if not (all_ or to or since):
        raise UserError(
            "Say what to run.", where="bglora run", cure="bglora run --all; or --to STAGE, or --from STAGE."
        )
    return work(session, (), to=to or "", since=since or "")


def stage(name: str) -> Callable[..., int | None]:
    """The command of one stage."""

    def command(session: Session) -> int | None:
        return work(session, (name,))

    command.__name__, command.__doc__ = name, SENTENCES[name]
    return command


def inpaint(
    session: Session,
    compare: Annotated[
        str | None,
        typer.Option(metavar="ENGINES", help="Fill engines side by side on 12 pictures (--limit), nothing else."),
    ] = None,
) -> int | None:
    """Take every character out: recover what is behind, fill what is never seen."""
    if compare is None:
        return work(session, ("inpaint",))
    from bglora.console.tables import comparison_lines

    if session.options.dry:
        raise UserError(
            "A comparison changes nothing; it has no --dry.", where="inpaint --compare", cure="Leave --dry out."
        )
    found = session.project().compare(*compare.split(","), limit=session.options.limit, only=session.options.only)
    session.console.emit("compared", found.to_json())
    for shown in comparison_lines(found):
        session.console.result(shown)
    return None


def train(session: Session) -> int | None:
    """Train one background LoRA per scene. --dry says how long it takes, measured, and what memory fits."""
    code = work(session, ("train",))
    if session.options.dry:
        from bglora.console.forecasts import forecast_lines

        for found in session.project().foresee_training(limit=session.options.limit, only=session.options.only):
            session.console.emit("training", found.to_json())
            for shown in forecast_lines(found):
                session.console.result(shown)
    return code


def plan(
    session: Session,
    stages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STAGE]...", help="These alone; by default all.", autocompletion=lambda: [*SENTENCES]),
    ] = None,
) -> None:
    """Show what a run would do and why, with an estimate of time and disk. Change nothing."""
    foresee(session, tuple(stages or ()))


def work(session: Session, stages: tuple[str, ...], to: str = "", since: str = "") -> int | None:
    """Runs stages, or plans them with `--dry`; returns the exit code."""
    if session.options.dry:
        foresee(session, stages, to, since)
        return None
    from bglora.cli.closing import close_run
    from bglora.cli.weights import settle_weights

    place = session.place()
    project = session.project()
    settle_weights(session, project, stages, to, since)
    result = project.run(*stages, to=to, since=since, **place, **session.scope())
    return close_run(session, project, result)


def foresee(session: Session, stages: tuple[str, ...], to: str = "", since: str = "") -> None:
    """Prints the plan."""
    from bglora.console.tables import plan_lines

    project = session.project()
    found = project.plan(*stages, to=to, since=since, **session.scope())
    needs = project.needs()
    values = found.to_json()
    for stage in values["stages"]:
        stage |= needs[stage["stage"]].to_json()
    session.console.emit("plan", values)
    for shown in plan_lines(found, needs, verbose=session.console.verbose):
        session.console.result(shown)
