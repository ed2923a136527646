"""The last words of a run: what was decided, how to change it, what failed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bglora.cli.options import Session

if TYPE_CHECKING:
    from bglora.engine.runner import RunResult
    from bglora.project import Project

FAILURES = 5
"""Failures shown; the others are counted."""


def close_run(session: Session, project: Project, result: RunResult) -> int:
    """Prints the summary and returns the exit code."""
    session.console.close()
    worked = [one.stage for one in result.stages if one.items]
    if worked:
        for sentence in project.decided(*worked):
            session.console.emit("decided", sentence.to_json())
            session.console.say(f"{sentence.text} {sentence.change}")
    elif not result.failures:
        session.console.say("Nothing to do: everything is done and up to date.")
    _tell_failures(session, result)
    session.console.emit("result", {**asdict(result), "exit_code": result.exit_code})
    return result.exit_code


def _tell_failures(session: Session, result: RunResult) -> None:
    """An item with its reason on one line, however many of its pictures failed because of it."""
    from collections import Counter

    from bglora.console.words import counted

    alike = Counter((one.stage, one.item, one.reason) for one in result.failures)
    for (stage, item, reason), count in list(alike.items())[:FAILURES]:
        session.console.result(f"failed: {stage} {item}, {counted(count, 'picture')}: {reason}")
    if alike:
        rest = sum(list(alike.values())[FAILURES:])
        more = f"{counted(rest, 'more picture')} failed. " if rest else ""
        session.console.result(f"{more}All reasons: bglora status. Try again: bglora retry, then bglora run --all.")
