"""The foot of the page: settings, versions, times."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from typing import Any

from bglora.engine.status import StageStatus
from bglora.report.markup import Html, duration, tag
from bglora.settings.edit import toml_literal

PACKAGES = (
    "bglora",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "numpy",
    "opencv-contrib-python-headless",
    "av",
    "hdbscan",
)


def about_section(settings: Any, status: Sequence[StageStatus]) -> Html:
    return tag(
        "section",
        tag("h2", "How it was made", id="about-title"),
        tag("div", _versions(), _times(status), class_="pair"),
        tag("h3", "Settings"),
        [_table(name, values) for name, values in settings.model_dump(mode="json").items()],
        id="about",
        aria_labelledby="about-title",
    )


def _versions() -> Html:
    rows = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed"))
    rows.append(("this page", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")))
    return tag("div", tag("h3", "Versions"), _rows(rows))


def _times(status: Sequence[StageStatus]) -> Html | None:
    rows = [(stage.stage, duration(stage.seconds_spent)) for stage in status if stage.seconds_spent]
    if not rows:
        return None
    rows.append(("together", duration(sum(stage.seconds_spent for stage in status))))
    return tag("div", tag("h3", "Time spent"), _rows(rows))


def _rows(rows: Sequence[tuple[str, str]]) -> Html:
    return tag("table", [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows])


def _table(name: str, values: dict[str, Any]) -> Html:
    rows = [(key, toml_literal(value)) for key, value in values.items()]
    return tag("details", tag("summary", f"[{name}]"), tag("div", _rows(rows), class_="scroll"), class_="settings")
