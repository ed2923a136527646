"""How a run shows itself: one live bar per stage on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from bglora.console.words import duration, number, safe, size, units
from bglora.engine.events import ItemFinished, ItemProgress, ItemStarted, StageFinished, StageStarted, WorkerChanged

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

PAUSES = ((60.0, 10.0), (600.0, 30.0), (float("inf"), 120.0))
"""In a log, a stage that has run for less than the first number of seconds says something after the second."""


WORKERS = 8
"""Workers of a cluster that are shown by name."""


class Shown(Protocol):
    """Something that shows a run."""

    def started(self, event: StageStarted) -> None: ...

    def moved(self, state: StageState) -> None: ...

    def finished(self, event: StageFinished) -> None: ...

    def close(self) -> None: ...


class StageState:
    """How far the present stage is, put together from its items' events."""

    def __init__(self, event: StageStarted, now: Callable[[], float] = time.monotonic) -> None:
        self.stage, self.items, self.told = event.stage, event.items, event.seconds_left
        self.done = 0
        self.running: dict[str, float] = {}
        self.texts: dict[str, str] = {}
        self.workers: dict[str, WorkerChanged] = {}
        self.text = ""
        self._now, self._start = now, now()

    def item(self, event: ItemStarted | ItemProgress | ItemFinished) -> None:
        """Takes in what an item tells."""
        if isinstance(event, ItemStarted):
            self.running[event.item] = 0.0
            self.text = event.item
        elif isinstance(event, ItemProgress):
            self.running[event.item] = min(max(event.done / event.total, 0.0), 1.0) if event.total > 0 else 0.0
            self.texts[event.item] = event.text
            self.text = f"{event.item} {event.text}".strip()
        else:
            self.running.pop(event.item, None)
            self.texts.pop(event.item, None)
            self.done += 1
            self.told = event.seconds_left

    def worker(self, event: WorkerChanged) -> None:
        """Takes in what a worker of a cluster does now."""
        if event.state == "lost":
            self.workers.pop(event.worker, None)
        else:
            self.workers[event.worker] = event

    def hands(self) -> list[str]:
        """A line for each worker that works, `gpu01 3: harbor-s003 40%`; many of them are counted together."""
        working = [one for _, one in sorted(self.workers.items(), key=_by_number) if one.state == "working"]
        shown = working if len(working) <= WORKERS else working[: WORKERS - 1]
        lines = [self._hand(one) for one in shown]
        if len(working) > len(shown):
            lines.append(f"and {len(working) - len(shown)} more")
        starting = sum(one.state == "starting" for one in self.workers.values())
        return [*lines, f"{starting} starting"] if starting else lines

    def _hand(self, one: WorkerChanged) -> str:
        share = self.running.get(one.item, 0.0)
        return " ".join(
            filter(None, (f"{one.worker}:", one.item, f"{share:.0%}" * (share > 0), self.texts.get(one.item)))
        )

    @property
    def share(self) -> float:
        """Share of the stage's work that is done, 0 to 1."""
        return min((self.done + sum(self.running.values())) / self.items, 1.0) if self.items else 1.0

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return self._now() - self._start

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take: by this run's own pace, else by earlier runs', None if unknown."""
        if self.share >= 0.02 and self.elapsed > 1.0:
            return self.elapsed / self.share * (1 - self.share)
        rest = (self.told or 0.0) - self.elapsed
        return rest if rest > 0 else None

    @property
    def pace(self) -> str:
        """Items per second or minute."""
        if self.share <= 0 or self.elapsed < 1.0:
            return ""
        rate = self.share * self.items / self.elapsed
        return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def _by_number(entry: tuple[str, WorkerChanged]) -> tuple[str, int]:
    node, _, number = entry[0].rpartition(" ")
    return node, int(number) if number.isdecimal() else 0


def ended(event: StageFinished) -> str:
    """What a finished stage did, in one line: `64 made, 3 dropped, 12 shots fresh`."""
    counts = ((event.made, "made"), (event.dropped, "dropped"), (event.failed, "failed"))
    parts = [f"{number(count)} {word}" for count, word in counts if count]
    if event.fresh:
        parts.append(f"{units(event.stage, event.fresh)} fresh")
    return ", ".join(parts) or "nothing to do"


class Lines:
    """For logs and pipes: plain lines, none longer than it must be."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, now
        self._last = now()

    def started(self, event: StageStarted) -> None:
        if event.items:
            fresh = f", {number(event.fresh)} fresh" if event.fresh else ""
            known = event.seconds_left is not None and event.seconds_left >= 1
            left = f", about {duration(event.seconds_left)}" if known else ""
            self._say(f"{event.stage}: {units(event.stage, event.items)} to do{fresh}{left}")
        self._last = self._now()

    def moved(self, state: StageState) -> None:
        pause = next(pause for until, pause in PAUSES if state.elapsed < until)
        if self._now() - self._last < pause:
            return
        self._last = self._now()
        left = f", about {duration(state.left)} left" if state.left is not None else ""
        done = f"{state.done} of {units(state.stage, state.items)}"
        hands = state.hands()
        self._say(f"{state.stage}: {state.share:.0%}, {done}{left} ({safe('; '.join(hands) or state.text)})")

    def finished(self, event: StageFinished) -> None:
        self._say(f"{event.stage}: {ended(event)} ({duration(event.seconds)})")

    def close(self) -> None:
        """Nothing is left open."""


class Bars:
    """For terminals: the present stage is one live line; a finished stage becomes a line above it."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._hands: list[str] = []

    def started(self, event: StageStarted) -> None:
        self.close()
        if not event.items:
            return
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column
        from rich.text import Text

        below = self

        class WithHands(Progress):
            """The bar, and below it a line for each worker of a cluster."""

            def get_renderables(self) -> Iterator[RenderableType]:
                yield from super().get_renderables()
                for line in below._hands:
                    yield Text(f"  {safe(line)}", style="dim", no_wrap=True, overflow="ellipsis")

        def text(field: str, width: int | None, justify: str = "left", style: str = "") -> TextColumn:
            column = Column(width=width, no_wrap=True, overflow="ellipsis", ratio=None if width else 1)
            return TextColumn(field, markup=False, justify=justify, style=style, table_column=column)  # type: ignore[arg-type]

        self._progress = WithHands(
            text("{task.description}", 8, style="bold"),
            BarColumn(bar_width=14),
            text("{task.fields[share]}", 4, "right"),
            text("{task.fields[count]}", 2 * len(str(event.items)) + 1, "right"),
            text("{task.fields[left]}", 16, "right", "cyan"),
            text("{task.fields[text]}", None, style="dim"),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=5,
        )
        self._task = self._progress.add_task(
            event.stage, total=1.0, share="0%", count=f"0/{event.items}", left="", text=""
        )
        self._progress.start()

    def moved(self, state: StageState) -> None:
        if self._progress is None or self._task is None:
            return
        left = f"{duration(state.left)} left" if state.left is not None else ""
        self._progress.update(
            self._task,
            completed=state.share,
            share=f"{state.share:.0%}",
            count=f"{state.done}/{state.items}",
            left=left,
            text="" if state.workers else safe(state.text),
        )
        self._hands = state.hands()

    def finished(self, event: StageFinished) -> None:
        self.close()
        from rich.text import Text

        mark, style = ("!", "yellow") if event.failed else ("✓", "green")
        if self._console.encoding.lower() not in ("utf-8", "utf8"):
            mark = "!" if event.failed else "+"
        line = Text.assemble(
            (f"{mark} ", style), (f"{event.stage:<8} ", "bold"), ended(event), (f"  {duration(event.seconds)}", "dim")
        )
        self._console.print(line)

    def close(self) -> None:
        """Takes the live line away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
        self._hands = []


class Transfer:
    """Bytes that come or are read: a live bar on a terminal, a line now and then in a log."""

    def __init__(
        self, console: RichConsole, name: str, *, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._name, self._quiet, self._now = console, name, quiet, now
        self._start = self._last = now()
        self._first: int | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def moved(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are there, and `path` is at work."""
        if self._quiet:
            return
        self._first = done if self._first is None else self._first
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar(path, done, total)
        else:
            self._line(path, done, total)

    def _bar(self, path: str, done: int, total: int) -> None:
        if self._progress is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}", markup=False, style="bold"),
                BarColumn(bar_width=14),
                DownloadColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[path]}", markup=False, style="dim"),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task(safe(self._name), total=total, completed=done, path=safe(path))
            self._progress.start()
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, path=safe(path))

    def _line(self, path: str, done: int, total: int) -> None:
        spent = self._now() - self._start
        pause = next(pause for until, pause in PAUSES if spent < until)
        if self._now() - self._last < pause:
            return
        self._last = self._now()
        came = done - (self._first or 0)
        left = f", about {duration(spent / came * (total - done))} left" if came else ""
        share = done / total if total else 1.0
        self._console.print(f"{safe(self._name)}: {share:.0%} of {size(total)}{left} ({safe(path)})", soft_wrap=True)

    def close(self) -> None:
        """Takes the live line away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
