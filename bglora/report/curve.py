"""Curves of a training as inline SVG: colors come from the page's style, so they follow light and dark."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bglora.report.markup import Html, tag

WIDTH, HEIGHT, SIDE_HEIGHT = 640, 240, 92
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 14, 34

Point = tuple[float, float]


def loss_curve(points: Sequence[Sequence[float | None]], name: str) -> Html:
    """Loss over optimizer steps.

    Args:
        points: `[step, loss, validation loss or None, learning rate]` each, by step; what is not finite is left out.
        name: what was trained, for screen readers.
    """
    loss = [(float(p[0]), float(p[1])) for p in points if p[0] is not None and _finite(p[1])]  # type: ignore[arg-type]
    checks = [(float(p[0]), float(p[2])) for p in points if p[0] is not None and len(p) > 2 and _finite(p[2])]  # type: ignore[arg-type]
    if not loss:
        return Html("")
    smooth = smoothed(loss)
    low, high = _range([value for _, value in loss + checks])
    last = max(step for step, _ in loss + checks)

    def place(point: Point) -> Point:
        step, value = point
        x = LEFT + (step / last if last else 0) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - min(max(value, low), high)) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return x, y

    ends = f"from {smooth[0][1]:.4g} to {smooth[-1][1]:.4g} (smoothed)"
    said = f"Training loss of {name} over {last:.0f} optimizer steps: {ends}."
    if checks:
        said += f" Validation loss: from {checks[0][1]:.4g} to {checks[-1][1]:.4g}."
    label = _label("curve", name)
    return tag(
        "svg",
        tag("title", said, id=label),
        _axes(low, high, last),
        _line([place(p) for p in loss], "raw"),
        _line([place(p) for p in smooth], "smooth"),
        _line([place(p) for p in checks], "check"),
        [tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5, class_="check") for x, y in map(place, checks)],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=label,
        class_="curve",
    )


def side_curve(points: Sequence[Point], what: str, name: str) -> Html | None:
    """A low chart of one line over optimizer steps, named by what it shows.

    Args:
        points: (step, value) each, by step; what is not finite is left out. Fewer than two give no chart.
        what: `Learning rate`. name: what was trained, for screen readers.
    """
    known = [(step, value) for step, value in points if _finite(value)]
    if len(known) < 2 or known[-1][0] <= 0:
        return None
    ordered = sorted(value for _, value in known)
    high, last = ordered[-1 - len(ordered) // 100] * 1.05 or 1.0, known[-1][0]

    def place(point: Point) -> Point:
        step, value = point
        x = LEFT + step / last * (WIDTH - LEFT - RIGHT)
        return x, TOP + (1 - min(max(value, 0.0), high) / high) * (SIDE_HEIGHT - TOP - 22)

    ends = f"from {known[0][1]:.3g} to {known[-1][1]:.3g}, at most {ordered[-1]:.3g}"
    label = _label(what, name)
    marks: list[Html] = []
    for value in (0.0, high / 1.05):
        _, y = place((0.0, value))
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        marks.append(tag("text", f"{value:.2g}", x=LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end"))
    return tag(
        "svg",
        tag("title", f"{what} of {name} over {last:.0f} optimizer steps: {ends}.", id=label),
        marks,
        _line([place(point) for point in known], "side"),
        tag("text", what.lower(), x=LEFT, y=SIDE_HEIGHT - 4, class_="name"),
        viewBox=f"0 0 {WIDTH} {SIDE_HEIGHT}",
        role="img",
        aria_labelledby=label,
        class_="curve side",
    )


def smoothed(points: Sequence[Point], share: float = 0.1) -> list[Point]:
    """Exponentially weighted average over both sides, so that it lags behind nowhere; its window is a tenth."""
    keep = 1 - 1 / max(1.0, share * len(points))
    values = [value for _, value in points]
    before, weights = _summed(values, keep), _summed([1.0] * len(values), keep)
    after = _summed(values[::-1], keep)[::-1]
    return [
        (step, (a + b - value) / (w + v - 1))  # the point itself is in both sums
        for (step, value), a, b, w, v in zip(points, before, after, weights, weights[::-1], strict=True)
    ]


def _summed(values: Sequence[float], keep: float) -> list[float]:
    """Of each value and those before it the sum, faded by `keep` at each step."""
    total = 0.0
    out = []
    for value in values:
        total = keep * total + value
        out.append(total)
    return out


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _range(values: Sequence[float]) -> Point:
    """Where the axis starts and ends: the values without the outermost hundredth, with some air."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    air = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return max(0.0, low - air) if low >= 0 else low - air, high + air


def _label(what: str, name: str) -> str:
    """An id; a space in it would make two of it."""
    return re.sub(r"\W+", "-", f"{what} {name}".lower())


def _line(points: Sequence[Point], kind: str) -> Html | None:
    if len(points) < 2:
        return None
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _axes(low: float, high: float, last: float) -> list[Html]:
    marks: list[Html] = []
    for part in range(4):
        value = low + (high - low) * part / 3
        y = TOP + (1 - part / 3) * (HEIGHT - TOP - BOTTOM)
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        marks.append(tag("text", f"{value:.2g}", x=LEFT - 8, y=f"{y + 4:.1f}", text_anchor="end"))
    for part in range(3):
        x = LEFT + part / 2 * (WIDTH - LEFT - RIGHT)
        anchor = ("start", "middle", "end")[part]
        marks.append(tag("text", f"{last * part / 2:.0f}", x=f"{x:.1f}", y=HEIGHT - 14, text_anchor=anchor))
    marks.append(tag("text", "optimizer steps", x=WIDTH * 0.27, y=HEIGHT - 14, text_anchor="middle", class_="name"))
    return marks
