"""What a test said of a LoRA, and its grid of pictures: a row a prompt, a column a scale."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bglora.engine.stage import Row
from bglora.report.contents import Place
from bglora.report.figures import card, figure, picture
from bglora.report.markup import Html, tag
from bglora.report.pictures import photo

CELL_WIDTH = 192
SHEET_WIDTH = 1440
PICTURES_OF_A_GRID = 96
NAME = re.compile(r"prompt(\d+)-scale(\d+)-seed(\d+)\.(?:webp|png)$")

Cells = Mapping[tuple[int, int], list[str]]
"""Prompt and scale in hundredths, to the pictures of all seeds."""


def verdict(row: Row | None) -> Html | None:
    """The recommended scale and every fault with its cure."""
    if row is None:
        return None
    refused = None if row.status == "made" else card(row.status, f"{row.status}: {row.reason}")
    scale = row.record.get("recommended_scale")
    items = [
        tag(
            "li",
            tag("b", str(entry.get("word", ""))),
            tag("p", str(entry.get("cure", ""))) if entry.get("cure") else None,
            tag("p", figures_in_words(entry.get("figures")), class_="soft") if entry.get("figures") else None,
            class_="fine" if entry.get("word") == "good" else None,
        )
        for entry in row.record.get("verdict") or ()
    ]
    return tag(
        "div",
        tag("h4", "Verdict"),
        refused,
        tag("p", ["use it at ", tag("strong", number(scale))], class_="scale") if scale is not None else None,
        tag("ul", items, class_="words") if items else None,
        class_="verdict",
    )


def figures_in_words(figures: Any) -> str:
    """`likeness 0.42 (0.38 to 0.46), scale 0.7` from a table of figures; text stays as it is."""
    if isinstance(figures, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {number(value)}" for key, value in figures.items())
    if isinstance(figures, list | tuple):
        return ", ".join(number(value) for value in figures)
    return str(figures)


def number(value: Any) -> str:
    """A figure for people: four digits; an estimate with its interval; None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= set(value):
        return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if isinstance(value, list | tuple):
        return "\u2013".join(number(each) for each in value)
    return str(value)


def grid(root: Path, place: Place) -> Html | None:
    """The test's pictures; the one contact sheet where they are not named by prompt, scale and seed."""
    row = place.grid
    if row is None or not row.record.get("grid"):
        return None
    cells = cells_of(row.outputs)
    content = _table(root, place, cells) if cells else _sheet(root, place, str(row.record["grid"]))
    return tag("div", tag("h4", "Grid"), content, class_="grid-part") if content else None


def cells_of(outputs: Sequence[str]) -> dict[tuple[int, int], list[str]]:
    """The grid's pictures by prompt and scale."""
    found: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for name in outputs:
        matched = NAME.search(name)
        if matched and ".." not in name.split("/"):
            prompt, scale, seed = (int(part) for part in matched.groups())
            found[prompt, scale].append((seed, name))
    return {key: [name for _, name in sorted(names)] for key, names in sorted(found.items())}


def _sheet(root: Path, place: Place, name: str) -> Html | None:
    if ".." in name.split("/"):
        return None
    alt = f"Test pictures of {place.title}: prompts by scales and seeds"
    return tag("div", figure(picture(photo(root / name, SHEET_WIDTH, 80), alt)), data_gallery=True)


def _table(root: Path, place: Place, cells: Cells) -> Html:
    prompts, scales = sorted({prompt for prompt, _ in cells}), sorted({scale for _, scale in cells})
    seeds = max(1, min(4, PICTURES_OF_A_GRID // len(cells)))
    words = _prompts(root, place)
    head = [tag("th", "base alone" if scale == 0 else f"scale {scale / 100:g}", scope="col") for scale in scales]
    rows = [
        tag(
            "tr",
            tag("th", words.get(prompt, f"prompt {prompt + 1}"), scope="row"),
            [tag("td", _cell(root, cells.get((prompt, scale), [])[:seeds], prompt, scale)) for scale in scales],
        )
        for prompt in prompts
    ]
    return tag(
        "div",
        tag("table", tag("thead", tag("tr", tag("td"), head)), tag("tbody", rows), class_="grid-table"),
        class_="scroll",
        role="region",
        tabindex=0,
        aria_label=f"Test pictures of {place.title}",
        data_gallery=True,
    )


def _cell(root: Path, names: Sequence[str], prompt: int, scale: int) -> Html:
    pictures = [
        picture(photo(root / name, CELL_WIDTH), f"Prompt {prompt + 1}, scale {scale / 100:g}, seed {seed + 1}")
        for seed, name in enumerate(names)
    ]
    return tag("div", pictures, class_="seeds")


def _prompts(root: Path, place: Place) -> dict[int, str]:
    """The prompts as the test wrote them down; empty where the file is gone or no longer what the test wrote."""
    try:
        told = json.loads((root / "grids" / place.id / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    prompts = told.get("prompts") if isinstance(told, dict) else None
    return {index: str(prompt) for index, prompt in enumerate(prompts or ())}
