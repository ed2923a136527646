"""Status, plan, settings, checks as a person reads them. Every table fits 80 columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bglora.console.words import counted, duration, listed, number, safe, size, units
from bglora.engine.status import by_kind

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bglora.engine.plan import Plan, StagePlan
    from bglora.engine.status import StageStatus
    from bglora.project.memory import Need
    from bglora.stages.comparing import Comparison

REASONS = 6
"""Kinds of reasons shown of each stage; the others are counted."""

STATES = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "missing": ("missing", "red"),
    "unused": ("unused", "dim"),
    "wrong": ("wrong", "red"),
}


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=justify == "right")  # type: ignore[arg-type]
    return table


def _count(count: int, style: str = "") -> Text:
    return Text(number(count), style=style) if count else Text("·", style="dim")


def status_lines(stages: Sequence[StageStatus]) -> Iterator[RenderableType]:
    """The table of `status`; below it why pictures are to do, failed or were dropped."""
    table = _table(
        ("stage", "left"), ("counts", "left"), ("done", "right"), ("to do", "right"), ("failed", "right"),
        ("dropped", "right"), ("spent", "right"), ("left", "right"),
    )  # fmt: skip
    for one in stages:
        table.add_row(
            Text(one.stage, style="bold"),
            Text(one.counts, style="dim"),
            _count(one.made, "green"),
            _count(one.todo) if one.todo or not one.waits_for else Text("?", style="dim"),
            _count(one.failed, "red"),
            _count(one.dropped, "yellow"),
            duration(one.seconds_spent) if one.seconds_spent else "·",
            duration(one.seconds_left) if one.todo else "·",
        )
    yield table
    held_up = False  # by an earlier stage: that later ones have nothing to work on is then no news
    for one in stages:
        notes = [one.note] if one.note and not one.waits_for and not held_up else []
        held_up = held_up or bool(one.note or one.failures)
        if one.edited:
            notes.append(f"{counted(len(one.edited), 'file')} edited by you and kept: {one.edited[0]}")
        if one.orphans:
            notes.append(f"{units(one.stage, len(one.orphans))} no longer there; the next run moves the outputs away")
        kinds = (("to do", one.reasons), ("failed", one.failures), ("dropped", one.drops))
        if notes or any(reasons for _, reasons in kinds):
            yield Text(f"\n{one.stage}", style="bold")
        for note in notes:
            yield Text(f"  {safe(note)}")
        for kind, reasons in kinds:
            yield from _reasons(reasons, f"{kind}: ")


def comparison_lines(found: Comparison) -> Iterator[RenderableType]:
    """Where the sheet is, each engine's means by the share of the frame that is missing, and the setting for it."""
    table = _table(
        ("missing", "right"), ("engine", "left"), ("holes", "right"), ("dB in the hole", "right"), ("SSIM", "right")
    )
    for part in found.table["bins"]:
        for place, (name, means) in enumerate(part["engines"].items()):
            style = "green" if name == part["best"] else ""
            table.add_row(
                f"{part['from']:.0%} to {part['below']:.0%}" if place == 0 else "",
                Text(safe(name), style=style),
                number(means["holes"]),
                f"{means['hole_psnr_db']:.1f}",
                f"{means['hole_ssim']:.2f}",
            )
    if found.table["bins"]:
        yield table
    best = {one["best"] for one in found.table["bins"]}
    if len(best) == 1 and "" not in best:
        (name,) = best
        yield Text(f"Best throughout: bglora set inpaint.engine {name}")
    elif found.routes:
        way = ", ".join(f'"{share}" = "{name}"' for share, name in found.routes.items())
        yield Text(f"Best first by share missing: bglora set inpaint.routes '{{ {way} }}'")
    yield f"Look at it: {found.path}"


def plan_lines(plan: Plan, needs: Mapping[str, Need], *, verbose: bool = False) -> Iterator[RenderableType]:
    """What a run would do: a line per stage, and why."""
    left_out = sum(one.skipped for one in plan.stages)
    if plan.fresh and left_out:
        yield Text(f"Nothing that --only names has to be made; {counted(left_out, 'other item')} would be.")
        return
    if plan.fresh:
        yield Text("Nothing to do: everything is done and up to date.")
        return
    for one in plan.stages:
        yield Text.assemble((f"{one.stage:<9}", "bold"), _what(one))
        yield from _reasons(one.reasons())
        if verbose:
            for verdict in one.todo:
                yield Text(f"  {safe(verdict.item.name)}: {safe('; '.join(verdict.reasons))}", style="dim")
    yield Text(f"\nAll together: {_estimate(plan)}.")
    work = [needs[one.stage] for one in plan.stages if one.todo or one.waits_for]
    if work:
        card = max(need.gpu_gb for need in work)
        yield Text(
            f"At most {max(need.memory_gb for need in work):.1f} GB of memory at once"
            + (f", {card:.1f} GB on the graphics card." if card else ", no graphics card needed.")
        )


def _estimate(plan: Plan) -> str:
    """Time and disk, as far as earlier runs let them be known."""
    work = [one for one in plan.stages if one.todo]
    known = sum(one.seconds for one in work if one.seconds)
    waiting = [one for one in plan.stages if one.waits_for]
    new = {one.stage for one in work if one.seconds is None}
    new |= {one.stage for one in waiting if not (one.todo or one.fresh or one.skipped)}
    time = f"about {duration(known)}" if known >= 1 else "time not known yet"
    if new:
        time += f", and {counted(len(new), 'stage')} without an earlier run to go by"
    if follow := [one.stage for one in waiting if one.stage not in new]:
        time += f", and whatever changes with it in {listed(follow)}"
    bytes_ = sum(one.bytes for one in plan.stages if one.bytes)
    return f"{time}; about {size(bytes_)} on disk" if bytes_ else time


def _what(stage: StagePlan) -> str:
    if stage.note:
        return f"comes after {', '.join(stage.waits_for)}" if stage.waits_for else safe(stage.note)
    parts = []
    if stage.todo:
        pictures = stage.pictures
        some = f" ({counted(pictures, 'picture')})" if pictures > len(stage.todo) else ""
        parts.append(f"{units(stage.stage, len(stage.todo))} to do{some}")
    if stage.fresh:
        parts.append(f"{number(stage.fresh)} fresh")
    if stage.skipped:
        parts.append(f"{number(stage.skipped)} left out by --only")
    if stage.orphans:
        parts.append(f"{units(stage.stage, len(stage.orphans))} no longer there, outputs moved away")
    if stage.edited:
        parts.append(f"{counted(len(stage.edited), 'file')} edited by you, kept")
    if stage.waits_for:
        parts.append(f"more may follow after {', '.join(stage.waits_for)}")
    if stage.todo and stage.seconds is not None and stage.seconds >= 1:
        parts.append(f"about {duration(stage.seconds)}")
    return ", ".join(parts) or "nothing"


def _reasons(reasons: Mapping[str, int], kind: str = "") -> Iterator[RenderableType]:
    if not reasons:
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", width=7, no_wrap=True)
    grid.add_column(overflow="fold")
    kinds = list(by_kind(reasons).items())
    for reason, count in kinds[:REASONS]:
        grid.add_row(Text(f"{number(count)} ×", style="dim"), Text(f"{kind}{safe(reason)}", style="dim"))
    if rest := kinds[REASONS:]:
        words = f"{kind}{counted(len(rest), 'other reason')}"
        grid.add_row(Text(f"{number(sum(count for _, count in rest))} ×", style="dim"), Text(words, style="dim"))
    yield grid


def settings_lines(table: str, rows: Sequence[tuple[str, Any, str, str]]) -> Iterator[RenderableType]:
    """A table of project.toml as a reference: key, value, where it comes from, what it means."""
    yield Text(f"[{table}]", style="bold")
    for key, value, origin, about in rows:
        shown = json.dumps(value, ensure_ascii=False)
        yield Text.assemble((f"{key} = {safe(shown)}", "green"), (f"   {safe(origin)}", "dim"))
        yield Padding(Text(about), (0, 0, 0, 4))
    yield Text("")


def check_lines(checks: Sequence[Any]) -> Iterator[RenderableType]:
    """What `doctor` found, with the command that mends it."""
    table = _table(("", "left"), ("", "left"), ("", "left"))
    table.show_header = False
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for check in checks:
        word, style = STATES[check.state]
        found = Text(safe(check.found))
        if check.mend:
            found.append(f"\n→ {check.mend}", style="bold")
        table.add_row(Text(word, style=style), check.name, found)
    yield table


def model_lines(models: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """The weights that this version knows, with what they are for, what they take, their terms and whether they are
    here.
    """
    table = _table(("model", "left"), ("size", "right"), ("here", "left"), ("", "left"))
    for one in models:
        limits = {True: "", False: f": {one['term']}", None: "; commercial use not settled"}
        terms = one["license"] + limits[one["commercial"]]
        about = Text.assemble(safe(one["about"]), (f"\n{terms}{', asks for consent' * one['gated']}", "dim"))
        here = Text("yes", style="green") if one["here"] else Text("no", style="dim")
        table.add_row(Text(one["name"], style="bold"), size(one["bytes"]), here, about)
    yield table


def clean_lines(found: Sequence[Any]) -> Iterator[RenderableType]:
    """What can be deleted."""
    if not found:
        yield Text("There is nothing to delete.")
        return
    table = _table(("what", "left"), ("files", "right"), ("frees", "right"), ("to make again", "right"), ("", "left"))
    for one in found:
        again = "nothing" if one.seconds == 0 else duration(one.seconds)
        kept = f" {counted(one.edited, 'edited file stays', 'edited files stay')}." if one.edited else ""
        table.add_row(Text(one.name, style="bold"), number(one.files), size(one.bytes), again, one.about + kept)
    yield table
