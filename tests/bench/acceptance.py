"""What is asked of plates by shot type, and tables that put measured figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.table import table

COLUMNS = (
    ("dropped", "dropped_share", 2), ("recall", "recall", 3), ("worst frame", "recall_worst", 3), ("IoU", "iou", 3),
    ("least IoU of a shot", "iou_least", 3), ("effect", "effect", 2), ("clearly visible", "effect_strong", 2),
    ("far excess", "excess_far", 4), ("leak kept", "leak_kept", 4), ("recovered", "recovered", 3),
    ("P_rec dB", "psnr_rec", 1), ("floor dB", "floor", 1), ("over floor", "over_floor", 1), ("sharpness", "sharp", 2),
    ("wrong", "wrong", 4), ("P_hole dB", "psnr_hole", 1), ("changed", "changed", 0),
)  # fmt: skip
"""Title in the table, name of the figure, digits. Figures are the scorer's, but for three that `completed` adds."""

SHARP = "0.75 to 1.25"
ASKED: dict[str, dict[str, str]] = {
    "still": {
        "dropped_share": "≤ 0", "recall": "≥ 0.995", "recall_worst": "≥ 0.97", "iou": "≥ 0.91", "iou_least": "≥ 0.85",
        "effect": "≥ 0.90", "effect_strong": "≥ 0.99", "excess_far": "≤ 0.003", "leak_kept": "≤ 0.001",
        "recovered": "≥ 0.995", "over_floor": "≥ 0.5", "wrong": "≤ 0.005", "sharp": SHARP,
    },
    "water": {
        "dropped_share": "≤ 0", "recall": "≥ 0.995", "iou": "≥ 0.88", "effect_strong": "≥ 0.85", "excess_far": "≤ 0.01",
        "leak_kept": "≤ 0.003", "recovered": "≥ 0.97", "psnr_rec": "≥ 31", "wrong": "≤ 0.025", "sharp": SHARP,
    },
    "idle": {
        "dropped_share": "≤ 0.20", "recall": "≥ 0.99", "iou": "≥ 0.92", "excess_far": "≤ 0.01", "leak_kept": "≤ 0.003",
        "recovered": "≥ 0.90", "psnr_rec": "≥ 31", "psnr_hole": "≥ 18", "wrong": "≤ 0.03", "sharp": SHARP,
    },
    "pan": {
        "dropped_share": "≤ 0.05", "recall": "≥ 0.995", "recall_worst": "≥ 0.97", "iou": "≥ 0.90", "effect": "≥ 0.80",
        "effect_strong": "≥ 0.95", "excess_far": "≤ 0.003", "leak_kept": "≤ 0.002", "recovered": "≥ 0.98",
        "psnr_rec": "≥ 33", "wrong": "≤ 0.005", "sharp": SHARP,
    },
    "dolly": {
        "dropped_share": "≤ 0.20", "recall": "≥ 0.97", "recall_worst": "≥ 0.85", "iou": "≥ 0.82",
        "excess_far": "≤ 0.03", "leak_kept": "≤ 0.01", "recovered": "≥ 0.88", "psnr_rec": "≥ 31",
        "wrong": "≤ 0.01", "sharp": SHARP,
    },
    "handheld": {
        "recall": "≥ 0.95", "leak_kept": "≤ 0.01", "psnr_rec": "≥ 27", "wrong": "≤ 0.03", "sharp": SHARP,
    },
    "empty": {"dropped_share": "≤ 0", "excess_far": "≤ 0"},
}  # fmt: skip
"""Bounds by shot type; of everything, no pixel that a plate calls original may differ from the frame."""
MASK_FIGURES = ("recall", "recall_worst", "iou", "iou_least", "effect", "effect_strong", "excess_far")
WITH_TRUE_MASKS = {
    kind: {key: bound for key, bound in bounds.items() if key not in MASK_FIGURES} for kind, bounds in ASKED.items()
} | {"handheld": {"recovered": "≥ 0.65", "leak_kept": "≤ 0.01", "psnr_rec": "≥ 27", "wrong": "≤ 0.03", "sharp": SHARP}}
"""Bounds where true masks are given: recovery alone."""


def completed(figures: Mapping[str, Any], kind: str, of_shots: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The scorer's figures with the share of dropped plates, `recovered` and the least IoU of the shots.

    `recovered` is the share of what the shot reveals at all, where the camera stands; else of the whole hole.
    """
    least = [shot["iou"] for shot in of_shots if shot["iou"] is not None]
    return {
        **figures,
        "dropped_share": figures["dropped"] / max(1, figures["frames"]),
        "recovered": figures["rec"] if kind in ("pan", "dolly", "handheld") else figures["rec_able"],
        "iou_least": min(least) if least else None,
    }


def meets(value: float | None, bound: str) -> bool:
    """Whether a figure keeps to a bound (`≥ a`, `≤ a`, `a to b`). One that could not be measured doesn't."""
    if value is None:
        return False
    first, _, last = bound.partition(" ")
    if first == "≥":
        return value >= float(last)
    if first == "≤":
        return value <= float(last)
    return float(first) <= value <= float(last.removeprefix("to "))


def _bounds(kind: str, asked: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {**asked[kind], "changed": "≤ 0"}


def missed(figures: Mapping[str, Any], kind: str, asked: Mapping[str, Mapping[str, str]] = ASKED) -> list[str]:
    """Names of the figures that miss what is asked of the shot type."""
    if asked is ASKED and kind == "handheld" and figures["dropped_share"] == 1:
        return []
    return [key for key, bound in _bounds(kind, asked).items() if not meets(figures[key], bound)]


def figure_row(
    name: str, figures: Mapping[str, Any], kind: str, asked: Mapping[str, Mapping[str, str]] = ASKED
) -> list[str]:
    """A table row; what misses its bound is bold with a cross."""
    misses = missed(figures, kind, asked)
    cells = []
    for _, key, digits in COLUMNS:
        value = figures[key]
        text = "–" if value is None else f"{value:.{digits}f}"
        cells.append(f"**{text} ✗**" if key in misses else text)
    return [name, *cells]


def bound_row(kind: str, asked: Mapping[str, Mapping[str, str]] = ASKED) -> list[str]:
    """A table row with what is asked of a shot type."""
    bounds = _bounds(kind, asked)
    return [f"*{kind}, asked*", *(f"*{bounds[key]}*" if key in bounds else "" for _, key, _ in COLUMNS)]


def figure_table(rows: list[list[str]]) -> str:
    """A Markdown table of such rows."""
    return table(["shots", *(title for title, _, _ in COLUMNS)], rows)


def by_type(result: Mapping[str, Any], asked: Mapping[str, Mapping[str, str]] = ASKED) -> tuple[str, str]:
    """The scorer's result of a project as a table by shot type and shot, and one line on what was missed."""
    rows, misses, total = [], [], 0
    for kind, figures in result["types"].items():
        shots = [shot for shot in result["shots"] if shot["type"] == kind]
        whole = completed(figures, kind, shots)
        rows += [bound_row(kind, asked), figure_row(f"**{kind}**", whole, kind, asked)]
        named = [(f"{shot['shot']:02d} {shot['place']}", completed(shot, kind, [shot])) for shot in shots]
        rows += [figure_row(name, shot, kind, asked) for name, shot in named if len(shots) > 1]
        total += len(asked[kind]) + 1
        misses += [f"{kind} {TITLES[key]}" for key in missed(whole, kind, asked)]
    met = f"{total - len(misses)} of {total} figures by type meet what is asked"
    return figure_table(rows), f"{met}; missed: {', '.join(misses)}." if misses else f"{met}."


TITLES = {key: title for title, key, _ in COLUMNS}
