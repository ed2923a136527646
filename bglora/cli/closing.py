"""The last words of a run: what was decided, how to change it, what failed."""

from __future__ import annotations

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
    for sentence in project.decided(*worked):
        session.console.emit("decided-by-run", sentence.to_json())
        session.console.say(f"{sentence.text} {sentence.change}".strip())
    if not worked and not result.exit_code:
        session.console.say("Nothing to do: everything is done and up to date.")
    failures = [(one.stage, *failure) for one in result.stages for failure in one.failures]
    for stage, picture, reason in failures[:FAILURES]:
        session.console.result(f"failed: {stage} {picture}: {reason}")
    if failures:
        more = f"{len(failures) - FAILURES} more failed. " if len(failures) > FAILURES else ""
        session.console.result(f"{more}Try again with: bglora retry; bglora run --all. All reasons: bglora status")
    session.console.emit("result", result.to_json())
    return result.exit_code
