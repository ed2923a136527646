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
from bglora.report.figures import card, figure, picture, sentence
from bglora.report.markup import Html, tag
from bglora.report.pictures import photo

CELL_WIDTH = 192
SHEET_WIDTH = 1440
PICTURES_OF_A_GRID = 96
NAME = re.compile(r"prompt(\d+)-scale(\d+)-seed(\d+)\.(?:webp|png)$")

LACKING = "not enough data"
MEANINGS = {
    "likeness": "how like the place's own plates the pictures are, 1 at most; higher is better.",
    "gain": "likeness minus that of the base alone; above 0 with its whole interval, the LoRA surely helps.",
    "following": "how much the prompt still decides, the base alone being 1: pictures of different prompts differ, and "
    "other places stay other places; below 0.6 the LoRA overpowers the prompt.",
    "variety": "how much pictures differ from seed to seed, as a share of the base's; near 0, all look the same.",
    "copies": "share of the pictures that repeat a training picture; 0 is best, surely above 0.1 is a fault.",
    "characters": "share of the pictures with a character on them though the prompt asks for nobody, beside scale 0.",
    "answered": "share of the pictures with a character on them where the prompt asks for one, beside scale 0.",
    "in brackets": "the interval in which the figure lies with 95 % confidence.",
}
SOFT = "mini, the small base model, paints soft thumbnails: judge the figures here, not the looks."

Cells = Mapping[tuple[int, int], list[str]]
"""Prompt and scale in hundredths, to the pictures of all seeds."""


def verdict(row: Row | None) -> Html | None:
    """The recommended scale and every fault with its cure."""
    if row is None:
        return None
    refused = None if row.status == "made" else card(row.status, f"{row.status}: {row.reason}")
    scale, lora = row.record.get("recommended_scale"), str(row.record.get("recommended_lora", ""))
    lacking = any(entry.get("word") == LACKING for entry in row.record.get("verdict") or ())
    items = [
        tag(
            "li",
            tag("b", str(entry.get("word", ""))),
            tag("p", sentence(str(entry["cure"]))) if entry.get("cure") else None,
            tag("p", figures_in_words(entry.get("figures")), class_="soft") if entry.get("figures") else None,
            class_="fine" if entry.get("word") == "good" else None,
        )
        for entry in row.record.get("verdict") or ()
    ]
    return tag(
        "div",
        tag("h4", "Verdict"),
        refused,
        tag("p", _headline(scale, lacking), class_="scale") if lacking or scale is not None else None,
        tag("p", "with ", tag("code", lora)) if "/checkpoints/" in lora and not lacking else None,
        tag("ul", items, class_="words") if items else None,
        _checkpoints(row),
        _meanings() if items else None,
        class_="verdict",
    )


def _checkpoints(row: Row) -> Html | None:
    """The LoRA files of one training beside each other, the one to use in bold; None where there is only one."""
    found = (row.record.get("scores") or {}).get("checkpoints")
    if not found:
        return None
    head = [tag("th", name, scope="col") for name in ("optimizer step", "scale", "likeness", "words")]
    rows = [
        tag(
            "tr",
            tag("th", tag("b", str(one["step"])) if _used(one, row) else str(one["step"]), scope="row"),
            tag("td", number(one["recommended_scale"])),
            tag("td", number(one["likeness"])),
            tag("td", ", ".join(one["words"])),
        )
        for one in found
    ]
    table = tag("table", tag("caption", "Checkpoints"), tag("thead", tag("tr", head)), tag("tbody", rows))
    return tag("div", table, class_="scroll", role="region", tabindex=0, aria_label="Checkpoints")


def _used(checkpoint: Mapping[str, Any], row: Row) -> bool:
    return bool(checkpoint["lora"] == row.record.get("recommended_lora"))


def _headline(scale: Any, lacking: bool) -> list[Any]:
    """The scale to use it at; where it learned from too little to say so, that instead."""
    return [tag("strong", LACKING)] if lacking else ["use it at ", tag("strong", number(scale))]


def _meanings() -> Html:
    """A sentence for each figure, folded away."""
    terms = [tag("li", tag("b", name), f": {words}") for name, words in MEANINGS.items()]
    return tag("details", tag("summary", "What the figures mean"), tag("ul", terms), class_="soft meanings")


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
    soft = place.lora is not None and place.lora.record.get("base") == "mini"
    note = tag("p", SOFT, class_="notice") if soft else None
    return tag("div", tag("h4", "Grid"), note, content, class_="grid-part") if content else None


def cells_of(outputs: Sequence[str]) -> dict[tuple[int, int], list[str]]:
    """The grid's pictures by prompt and scale."""
    found: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for name in outputs:
        matched = NAME.search(name)
        if matched and not {"..", "checkpoints"} & set(name.split("/")):
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
    words = prompts_of(root, place.id)
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


def prompts_of(root: Path, scene: str) -> dict[int, str]:
    """The prompts as the test wrote them down; empty where the file is gone or no longer what the test wrote."""
    try:
        told = json.loads((root / "grids" / scene / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    prompts = told.get("prompts") if isinstance(told, dict) else None
    return {index: str(prompt) for index, prompt in enumerate(prompts or ())}
