"""What a person sees and what a script reads. Nobody else prints.

Without `--json`: results on stdout, errors on stderr; live bars on a terminal, plain lines elsewhere.
With `--json`: one JSON object a line on stdout (`bglora/schema/events.json` describes them), all else on stderr.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.console.words import safe
from bglora.engine.events import (
    Event,
    ItemFailed,
    ItemFinished,
    ItemProgress,
    ItemStarted,
    Notice,
    StageFinished,
    StageStarted,
    WorkerChanged,
)
from bglora.errors import BgloraError, Interrupted, TimeIsUp

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

    from bglora.console.progress import Shown, StageState

VERSION = 1
"""Version of the JSON lines; raised when a field changes its meaning or goes."""


class Console:
    """The one place that writes to stdout and stderr."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: bool = False, debug: bool = False) -> None:
        self.json, self.quiet, self.verbose, self.debug = json, quiet, verbose, debug
        self._state: StageState | None = None
        self._failures: set[tuple[str, str]] = set()
        _adapt(sys.stdout, utf8=json)
        _adapt(sys.stderr, utf8=False)

    # For people

    def result(self, shown: RenderableType | str) -> None:
        """What the command was asked for. With `--json` it goes to stderr."""
        self._print(self._human, shown)

    def say(self, text: str, style: str = "") -> None:
        """A remark on the way; `--quiet` leaves it out."""
        if not self.quiet:
            self._print(self._human, text, style)

    def facts(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Names with a sentence and, less loud, what follows from it; `--quiet` leaves them out."""
        if self.quiet or not rows:
            return
        if not self._human.is_terminal:
            for name, text, more in rows:
                self.say(f"{name}: {text} {more}".strip())
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for name, text, more in rows:
            grid.add_row(safe(name), Text.assemble(safe(text), (f"\n{safe(more)}" if more else "", "dim")))
        self._human.print("")
        self._human.print(grid)

    def raw(self, text: str) -> None:
        """A value for scripts, exactly as it is, on stdout."""
        if not self.json:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    @property
    def can_ask(self) -> bool:
        """Whether a person sits at a terminal and is talked to."""
        return not self.json and not self.quiet and sys.stdin.isatty() and self._human.is_terminal

    def ask(self, question: str) -> bool:
        """Yes or no; only where `can_ask`."""
        self._human.print(f"{safe(question)} [y/N] ", end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def transfer(self, name: str) -> Iterator[Callable[[str, int, int], None]]:
        """Shows on stderr how far a transfer is: call with file, bytes done, bytes of all."""
        from bglora.console.progress import Transfer

        shown = Transfer(self._err, name, quiet=self.quiet)
        try:
            yield shown.moved
        finally:
            shown.close()

    # For scripts

    def emit(self, kind: str, values: dict[str, Any]) -> None:
        """One JSON line on stdout; nothing without `--json`."""
        if self.json:
            line = json.dumps({"bglora": VERSION, "event": kind, **values}, ensure_ascii=False, default=str)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    # While a run works

    def event(self, event: Event) -> None:
        """Shows what a run tells."""
        values = event.to_json()
        self.emit(values.pop("event"), values)
        if isinstance(event, StageStarted):
            self._stage_started(event)
        elif isinstance(event, ItemStarted | ItemProgress | ItemFinished):
            self._item(event)
        elif isinstance(event, WorkerChanged):
            self._worker(event)
        elif isinstance(event, ItemFailed):
            self._failed(event)
        elif isinstance(event, StageFinished):
            if not self.quiet and (self.verbose or event.items or event.failed):
                self._shown.finished(event)
            self._state = None
        elif isinstance(event, Notice):
            self._notice(event)

    def close(self) -> None:
        """Ends what is live on the terminal."""
        if "_shown" in self.__dict__:
            self._shown.close()

    # When it goes wrong

    def error(self, error: BgloraError) -> None:
        """Three lines: what, where, cure. A stop that was wanted is called one."""
        self.close()
        values: dict[str, Any] = {"kind": type(error).__name__, "exit_code": error.exit_code}
        values |= {"what": error.what, "where": error.where, "cure": error.cure}
        mistakes = getattr(error, "mistakes", None)
        if mistakes:
            values["mistakes"] = [vars(one) for one in mistakes]
        self.emit("error", values)
        if isinstance(error, Interrupted | TimeIsUp):
            self._three_lines(error.what, error.where, error.cure, label="stopped", style="bold")
        else:
            self._three_lines(error.what, error.where, error.cure)
        if self.debug:
            self._trace(error)

    def crash(self, error: BaseException, log: Path | None) -> None:
        """An error that nobody foresaw, told in three lines as well."""
        self.close()
        what = f"bglora stumbled: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
        where = str(log) if log else "no log could be written"
        cure = "Run the same command again with --debug; if it stays, report it with this file."
        self.emit("error", {"kind": "Crash", "exit_code": 1, "what": what, "where": where, "cure": cure})
        self._three_lines(what, where, cure)
        if self.debug:
            self._trace(error)

    # How

    @cached_property
    def _out(self) -> RichConsole:
        return _rich(sys.stdout)

    @cached_property
    def _err(self) -> RichConsole:
        return _rich(sys.stderr)

    @property
    def _human(self) -> RichConsole:
        return self._err if self.json else self._out

    @cached_property
    def _shown(self) -> Shown:
        from bglora.console.progress import Bars, Lines

        if self._human.is_terminal and not self.verbose and not self._human.is_dumb_terminal:
            return Bars(self._human)
        return Lines(self.say)

    def _print(self, console: RichConsole, shown: RenderableType | str, style: str = "") -> None:
        if isinstance(shown, str):
            console.print(safe(shown), style=style, soft_wrap=not console.is_terminal)
        else:
            console.print(shown)

    def _stage_started(self, event: StageStarted) -> None:
        from bglora.console.progress import StageState

        self._state = StageState(event)
        if not self.quiet:
            self._shown.started(event)

    def _item(self, event: ItemStarted | ItemProgress | ItemFinished) -> None:
        if self.verbose and isinstance(event, ItemStarted):
            self.say(f"{event.stage}: {event.item}: {'; '.join(event.reasons)}")
        if self._state is None or self._state.stage != event.stage:
            return
        self._state.item(event)
        if not self.quiet:
            self._shown.moved(self._state)

    def _worker(self, event: WorkerChanged) -> None:
        if self.verbose and event.state != "idle":
            self.say(" ".join(filter(None, (f"{event.stage}: {event.worker}:", event.state, event.item))))
        if self._state is not None and self._state.stage == event.stage:
            self._state.worker(event)
            if not self.quiet:
                self._shown.moved(self._state)

    def _failed(self, event: ItemFailed) -> None:
        """Three lines; an error that other items of the stage had before takes one."""
        if (event.stage, event.what) in self._failures:
            self._print(self._human, f"failed: {event.stage} {event.item}: the same")
            return
        self._failures.add((event.stage, event.what))
        what = f"{event.stage} {event.item}: {event.what}"
        self._three_lines(what, event.where, event.cure, label="failed", error=False)

    def _notice(self, event: Notice) -> None:
        self.say(": ".join(filter(None, (event.stage, event.text))), "yellow" if self._human.is_terminal else "")
        for line in (event.where, event.cure):
            if line and not self.quiet:
                self.say(f"  {line}")

    def _three_lines(
        self, what: str, where: str, cure: str, label: str = "error", style: str = "bold red", error: bool = True
    ) -> None:
        from rich.text import Text

        console = self._err if error else self._human
        lines = [(f"{label}:", what, style), ("where:", where, "bold"), ("cure:", cure, "bold green")]
        indent = len(label) + 2
        for name, text, look in lines:
            head = Text(f"{name:<{indent}}", style=look)
            body = safe(text).replace("\n", "\n" + " " * indent)
            if console.is_terminal:
                console.print(_hanging(head, body, indent))
            else:
                console.print(Text.assemble(head, body), soft_wrap=True)

    def _trace(self, error: BaseException) -> None:
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.flush()


def _adapt(stream: Any, *, utf8: bool) -> None:
    """JSON is UTF-8 everywhere; for people, a sign that the terminal doesn't know becomes a question mark."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8" if utf8 else None, errors="backslashreplace" if utf8 else "replace")


def _rich(file: Any) -> RichConsole:
    from rich.console import Console as RichConsole

    return RichConsole(file=file, markup=False, highlight=False, emoji=False)


def _hanging(head: Any, body: str, indent: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=0)
    grid.add_column(width=indent, no_wrap=True)
    grid.add_column(overflow="fold")
    for number, line in enumerate(body.split("\n")):
        grid.add_row(head if number == 0 else "", Text(line.strip()))
    return grid
