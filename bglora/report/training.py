"""How a place's LoRA was trained: curves of loss, learning rate and step time, facts, sample pictures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bglora.report.contents import Place
from bglora.report.curve import Point, loss_curve, side_curve
from bglora.report.figures import card, code, facts, figure, picture, sentence
from bglora.report.markup import Html, duration, tag
from bglora.report.pictures import photo
from bglora.report.verdicts import number

LOGS = ".bglora/logs/train"
"""The trainer's own notes, a folder a scene and a number a training: no results, but they know how long steps took."""


def training(root: Path, place: Place) -> Html | None:
    """The section of one place; None where nothing was trained."""
    row = place.lora
    if row is None:
        return None
    record = row.record
    if row.status != "made":
        return tag("div", tag("h4", "Training"), card(row.status, f"{row.status}: {row.reason}"), class_="training")
    lora = next((name for name in row.outputs if name.endswith(".safetensors")), "")
    size = (root / lora).stat().st_size if lora and (root / lora).is_file() else None
    samples = [name for name in row.outputs if "/samples/" in name and name.endswith((".png", ".webp"))]
    strip = [figure(picture(photo(root / name, 192), f"Sample {Path(name).stem}")) for name in samples[-6:]]
    times = step_times(root, row.picture)
    along = sum("/checkpoints/" in name for name in row.outputs)
    return tag(
        "div",
        tag("h4", "Training"),
        tag("p", sentence(f"{row.reason[:1].upper()}{row.reason[1:]}."), class_="notice") if row.reason else None,
        _plot(record, times, place.title),
        facts(
            ("file", code(lora) if lora else None),
            ("size", file_size(size) if size is not None else ""),
            ("checkpoints along the way", str(along or "")),
            ("base", str(record.get("base") or "")),
            (
                "dim / alpha",
                f"{number(record.get('dim'))} / {number(record.get('alpha'))}" if record.get("dim") else "",
            ),
            ("optimizer steps", str(record.get("steps") or "")),
            ("kept step", str(record.get("kept_step") or "")),
            ("pictures seen", str(record.get("pictures_seen") or "")),
            ("validation loss", number(record.get("validation"))),
            ("time of a step", step_time(statistics.median(value for _, value in times)) if times else ""),
        ),
        tag("div", strip, class_="samples", data_gallery=True) if strip else None,
        class_="training",
    )


def step_times(root: Path, scene: str) -> list[Point]:
    """(step, seconds that one took) along the last training of a scene, by step; empty where its logs are gone."""
    if "/" in scene or ".." in scene:
        return []
    numbered = {int(path.parent.name): path for path in (root / LOGS / scene).glob("*/steps.jsonl") if _numbered(path)}
    if not numbered:
        return []
    found: dict[float, float] = {}
    for line in numbered[max(numbered)].read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
            found[float(note["step"])] = float(note["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut off when the training was killed
    return sorted(found.items())


def _numbered(path: Path) -> bool:
    return path.parent.name.isdecimal()


def _plot(record: Mapping[str, Any], times: list[Point], title: str) -> Html | None:
    points = record.get("curve") or ()
    curve = loss_curve(points, title)
    if not curve:
        return None
    rates = [(float(point[0]), float(point[3])) for point in points if len(point) > 3 and point[0]]
    return tag(
        "div",
        curve,
        _curve_key(record),
        side_curve(rates, "Learning rate", title),
        side_curve(times, "Seconds a step", title),
        class_="plot",
    )


def _curve_key(record: Mapping[str, Any]) -> Html:
    checked = any(len(point) > 2 and point[2] is not None for point in record.get("curve") or ())
    names = [("smooth", "training loss")] + ([("check", "validation loss")] if checked else [])
    marks = [tag("li", tag("span", class_=f"dash {kind}", aria_hidden="true"), name) for kind, name in names]
    return tag("ul", marks, class_="legend")


def step_time(seconds: float) -> str:
    """`52 ms`, `1.3 s`."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else duration(seconds)


def file_size(count: int) -> str:
    """Bytes in words: `812 kB`, `12.4 MB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{-(-count // 1000)} kB"
