"""The last words of a run: what was decided, how to change it, what failed."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from bglora.cli.options import Session
from bglora.console.words import counted

if TYPE_CHECKING:
    from bglora.engine.runner import RunResult
    from bglora.project import Project

FAILURES = 5
"""Kinds of failures shown; the others are counted."""


def close_run(session: Session, project: Project, result: RunResult) -> int:
    """Prints the summary and returns the exit code."""
    console = session.console
    console.close()
    worked = [one.stage for one in result.stages if one.items]
    sentences = project.decided(*worked) if worked else []
    for one in sentences:
        console.emit("decided", one.to_json())
    console.facts([(one.stage, one.text, one.change) for one in sentences])
    limit, only = session.options.limit, session.options.only
    if worked and limit:
        console.say(f"This was a try on {counted(limit, 'picture')}; the same command without --limit does all.")
    if not worked and not result.failures and not result.refused:
        nothing = "Nothing to do: everything is done and up to date."
        console.say(f"Nothing that --only {only} names has to be made." if only else nothing)
    _tell_failures(session, result)
    if result.refused:
        from bglora.project.refusals import as_error

        console.error(as_error(result.refused))
    console.emit("result", {**asdict(result), "exit_code": result.exit_code})
    return result.exit_code


def _tell_failures(session: Session, result: RunResult) -> None:
    """One line for each kind of failure, however many items and pictures it hit."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for one in result.failures:
        reason = re.sub(r" \([^()]*\)$", "", one.reason)  # the place differs from item to item
        kinds.setdefault((one.stage, reason), []).append(one.item)
    for (stage, reason), items in list(kinds.items())[:FAILURES]:
        names = list(dict.fromkeys(items))
        of = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        session.console.result(f"failed: {stage} {of}, {counted(len(items), 'picture')}: {reason}")
    if kinds:
        rest = sum(len(items) for items in list(kinds.values())[FAILURES:])
        more = f"{counted(rest, 'more picture')} failed. " if rest else ""
        session.console.result(f"{more}All reasons: bglora status. Try again: bglora retry, then bglora run --all.")
