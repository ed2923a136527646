"""What a training will be, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from bglora.console.words import counted, duration, number, safe

if TYPE_CHECKING:
    from bglora.stages.forecasting import Left
    from bglora.training.forecast import Forecast

PARTS = {
    "base": "base",
    "adapter": "LoRA and optimizer",
    "activations": "a step",
    "encoding": "encoding",
    "painting": "sample pictures",
}
BUCKETS = 6
"""Sizes that are named one by one."""


def forecast_lines(found: Forecast | Left) -> Iterator[Text]:
    """A scene's name, and a line each for what is done, buckets, memory, time and the classic settings."""
    values = found.to_json()
    if "left_out" in values:
        yield Text(f"\n{safe(values['scene'])}: {values['left_out']}.")
        return
    yield Text.assemble("\n", (f"{safe(values['scene'])} {safe(values['title'])}", "bold"))
    times = "once" if values["repeats"] == 1 else f"{values['repeats']} times"
    held = number(values["held_out"]) if values["held_out"] else "none"
    yield _line(
        "does",
        f"{counted(values['pictures'], 'picture')}, {held} held out; each {times} an epoch, "
        f"{counted(values['epochs'], 'epoch')}: {counted(values['seen'], 'picture')} seen in "
        f"{counted(values['steps'], 'optimizer step')}",
    )
    sizes = [f"{one['width']} x {one['height']} ({number(one['pictures'])})" for one in values["buckets"]]
    more = [f"{counted(len(sizes) - BUCKETS, 'more size')}"] if len(sizes) > BUCKETS else []
    yield _line("buckets", ", ".join([*sizes[:BUCKETS], *more]))
    if values["memory_gib"] is None:
        yield _line("time", "not known: another program trains")
    else:
        yield from _memory(values)
        yield from _time(values)
    yield from _classic(values)


def _line(name: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"  {name:<9}", "dim"), (text, style))


def _memory(values: dict) -> Iterator[Text]:  # type: ignore[type-arg]
    need = values["memory_gib"]
    parts = ", ".join(f"{PARTS[name]} {need[name]:.2f}" for name in PARTS if need[name] >= 0.005)
    yield _line("memory", f"{need['total']:.2f} GiB at most ({parts})")
    device = "main memory" if values["device"] == "cpu" else values["device"]
    told = f"{values['needed_gib']:.2f} GiB beside the base, {values['free_gib']:.2f} free in {device}"
    if values["fits"]:
        yield _line("", f"{told}: fits", "green")
        return
    yield _line("", f"{told}: {'too little, but forced' if values['forced'] else 'too little, and refused'}", "red")
    for place, command in enumerate(values["settings_that_fit"]):
        yield _line("" if place else "it fits", f"{'' if place else 'after: '}{command}")
    if not values["settings_that_fit"]:
        yield _line("", "no setting fits; train on a machine with more memory")


def _time(values: dict) -> Iterator[Text]:  # type: ignore[type-arg]
    if values["seconds"] is None:
        yield _line("time", "not measured, for it does not fit")
        return
    step = values["step_seconds"]
    each = f"{step:.2f} s" if step >= 0.1 else f"{step * 1e3:.0f} ms"
    steps = counted(values["steps_measured"], "step")
    yield _line(
        "time",
        f"about {duration(values['seconds'])}, at {each} a step (measured on {steps}); validation and sample pictures "
        "not counted",
    )


def _classic(values: dict) -> Iterator[Text]:  # type: ignore[type-arg]
    classic = values["classic"]
    here = f", {duration(classic['seconds_here'])} here" if classic["seconds_here"] is not None else ""
    hours = classic["seconds_on_the_recipes_card"] / 3600
    share = f"; this sees {values['seen'] / classic['seen']:.0%} of that"
    yield _line(
        "classic",
        f"{classic['pictures']} pictures x {classic['repeats']} x {classic['epochs']} epochs, "
        f"{counted(classic['seen'], 'picture')} seen: 5 to {hours:.0f} hours on the "
        f"recipe's card{here}{share}",
    )
