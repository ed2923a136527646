"""Annotations of a CI run, from what a command tells with `--json`:

    bglora run --all --json | python -m bglora.console.annotations

Reads events on stdin until they end and prints them as GitHub's workflow commands (`::error title=…::…`): failures,
grouped by their reason, what `doctor` misses, errors in their three lines, notices. Where GITHUB_STEP_SUMMARY names a
file, a table of the stages is added to it. In bash with `pipefail` the pipe ends with the exit code of bglora.
https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bglora.console.words import counted, duration
from bglora.errors import EXIT_INTERRUPTED, EXIT_TIME

MOST = 10
"""Annotations of a kind that GitHub shows of a step."""
NAMED = 5
"""Items of a failure that are named."""
LEVELS = {EXIT_TIME: "notice", EXIT_INTERRUPTED: "warning"}
"""By exit code, how an error is shown; `error` by default."""


@dataclass
class Heard:
    """What the events said, for annotations and summary."""

    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Stage and reason to items."""
    told: list[tuple[str, str, str]] = field(default_factory=list)
    """Level, title and text of everything else."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    decided: list[tuple[str, str]] = field(default_factory=list)

    def hear(self, event: dict[str, Any]) -> None:
        """Takes in one event."""
        kind = event["event"]
        if kind == "item-failed":
            reason = "\n".join(filter(None, (event["what"], event["cure"])))
            self.failures.setdefault((event["stage"], reason), []).append(event["item"])
        elif kind == "result":
            self._result(event["failures"])
        elif kind == "error":
            lines = "\n".join(filter(None, (event["what"], event["where"], event["cure"])))
            self.told.append((LEVELS.get(event["exit_code"], "error"), "bglora", lines))
        elif kind == "check" and event["state"] in ("missing", "wrong"):
            text = "\n".join(filter(None, (event["found"], event["mend"])))
            self.told.append(("error", f"{event['state']}: {event['name']}", text))
        elif kind == "notice":
            self.told.append(("notice", event.get("stage") or "bglora", event["text"]))
        elif kind == "stage-finished":
            self.stages[event["stage"]] = event
        elif kind == "decided":
            self.decided.append((event["stage"], event["text"]))

    def _result(self, failures: Iterable[dict[str, Any]]) -> None:
        """The end names every failed picture, those of earlier runs, too; what was heard item by item is among them."""
        self.failures.clear()
        for one in failures:
            reason = re.sub(r" \([^()]*\)$", "", one["reason"])  # the place differs from item to item
            self.failures.setdefault((one["stage"], reason), []).append(one["item"])

    def annotations(self) -> Iterator[str]:
        """The workflow commands, at most MOST of a kind."""
        kinds: dict[str, list[str]] = {"error": [], "warning": [], "notice": []}
        for level, title, text in self.told:
            kinds[level].append(_command(level, title, text))
        for (stage, reason), items in self.failures.items():
            kinds["error"].append(
                _command("error", f"{stage}: {counted(len(items), 'failure')}", _named(items, reason))
            )
        for level, lines in kinds.items():
            yield from lines if len(lines) <= MOST else lines[: MOST - 1]
            if len(lines) > MOST:
                more = f"{len(lines) - MOST + 1} more of this kind: see the report, or `bglora status`"
                yield _command(level, "bglora", more)

    def summary(self) -> str:
        """Markdown for the job's page; empty where no stage ended."""
        if not self.stages:
            return ""
        rows = [
            f"| {name} | {one['items']} | {one['made']} | {one['dropped']} | {one['failed']} | "
            f"{duration(one['seconds'])} |"
            for name, one in self.stages.items()
        ]
        head = [
            "| stage | items made now | made | dropped | failed | time |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        said = ["", *(f"- **{stage}**: {text}" for stage, text in self.decided)]
        return "\n".join([*head, *rows, *(said if self.decided else ()), ""]) + "\n"


def heard(lines: Iterable[str]) -> Heard:
    """What the lines of a command say; a line that is no event is left out."""
    found = Heard()
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.hear(event)
    return found


def _named(items: list[str], reason: str) -> str:
    names = list(dict.fromkeys(items))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}: {reason}"


def _command(level: str, title: str, text: str) -> str:
    title = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def main() -> None:
    """Reads stdin, writes stdout and the step's summary."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")
    found = heard(sys.stdin)
    for line in found.annotations():
        print(line)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path and (text := found.summary()):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
