"""The shots: frame, mask and plate under each other, frame after frame; where the plate's pixels come from over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bglora.engine.stage import Row
from bglora.report.contents import Sample, Shot
from bglora.report.figures import card, code, figure, picture
from bglora.report.markup import Child, Html, count, percent, tag
from bglora.report.origins import engines_table, plates_sheet, shot_origins
from bglora.report.pictures import mask_over, photo, provenance_layer

WIDTH = 384
ORIGINS = (("recovered", "recovered"), ("guessed", "guessed"), ("untrusted", "not trusted"))
CAMERAS = {"still": "still camera", "pan": "turning camera", "parallax": "travelling camera"}


def shots_section(root: Path, shots: list[Shot]) -> Html:
    shown = [shot for shot in shots if shot.samples]
    if not shown:
        return Html("")
    note = None
    if len(shown) < len(shots):
        note = tag("p", f"{len(shown)} of {len(shots)} shots are shown, evenly spread.", class_="soft")
    return tag(
        "section",
        tag("h2", "Shots", id="shots-title"),
        tag(
            "div",
            tag(
                "div",
                tag("p", "What the film shows, who is in it, and the plate without them."),
                tag("p", origin_of_all(shots)),
            ),
            _legend(),
            class_="intro",
        ),
        engines_table(root),
        plates_sheet(root, shots),
        note,
        [_shot(root, shot) for shot in shown],
        id="shots",
        aria_labelledby="shots-title",
    )


def origin_of_all(shots: list[Shot]) -> str:
    """Where the pixels of all plates come from, in one sentence; empty without plates."""
    plates = sum(shot.plates for shot in shots)
    if not plates:
        return ""
    keys = ("recovered", "guessed", "untrusted")
    means = {key: sum(shot.shares[key] * shot.plates for shot in shots) / plates for key in keys}
    words = [f"{percent(1 - sum(means.values()))} of the plates' pixels are as filmed"]
    words += [f"{percent(means[key])} {word}" for key, word in ORIGINS if means[key] > 0]
    return ", ".join(words) + "."


def _legend() -> Html:
    names = (
        ("recovered", "recovered from other frames"),
        ("guessed", "filled by a guess"),
        ("untrusted", "not trusted"),
    )
    return tag(
        "div",
        tag(
            "label",
            tag("input", type="checkbox", id="origin", class_="switch"),
            tag("span", "Where the plate's pixels come from"),
            class_="switched",
        ),
        tag(
            "ul",
            [tag("li", tag("span", class_=f"dot {key}", aria_hidden="true"), name) for key, name in names],
            class_="legend",
        ),
        class_="origins",
    )


def _shot(root: Path, shot: Shot) -> Html:
    name = f"shot-{shot.name}"
    return tag(
        "article",
        tag(
            "header",
            tag("h3", shot.name, id=name),
            tag("p", " · ".join(_words(shot)), class_="soft"),
            class_="shot-head",
        ),
        tag(
            "div",
            [_column(root, sample) for sample in shot.samples],
            class_="strip rows" if len(shot.samples) < 3 else "strip",
            role="region",
            tabindex=0,
            aria_label=f"Frames, masks and plates of {shot.name}",
            data_gallery=True,
            style=f"--columns: {len(shot.samples)}",
        ),
        _origins(shot),
        _remarks(shot),
        class_="shot",
        aria_labelledby=name,
    )


def _words(shot: Shot) -> list[str]:
    words = []
    if shot.first is not None and shot.last is not None:
        words.append(f"frames {shot.first}–{shot.last}")
    words.append(f"{shot.kept} kept")
    if shot.camera:
        words.append(CAMERAS.get(shot.camera, f"camera {shot.camera}"))
    if shot.plates:
        hole = shot.shares["hole"]
        kept = any(row.record.get("kept") for row in shot.rows)
        words.append(f"{percent(hole)} behind characters" if hole else "as kept by you" if kept else "nobody there")
        words += [f"{percent(shot.shares[key])} {word}" for key, word in ORIGINS if shot.shares[key] > 0]
    return words


def _origins(shot: Shot) -> Html | None:
    lines = shot_origins(shot)
    return tag("ul", [tag("li", line) for line in lines], class_="remarks origin") if lines else None


def _remarks(shot: Shot) -> Html | None:
    lines: list[Child] = []
    if shot.unknown:
        lines.append(f"Nobody can be told from the background: {shot.unknown}.")
    lines += [f"{count(number, 'plate')} dropped: {reason}." for reason, number in shot.dropped.most_common(4)]
    lines += left_out_in_words(shot.left_out)
    if not lines:
        return None
    if len(lines) > 4:
        first, rest = lines[:3], lines[3:]
        more = tag("details", tag("summary", f"{len(rest)} more"), tag("ul", [tag("li", line) for line in rest]))
        return tag("div", tag("ul", [tag("li", line) for line in first]), more, class_="remarks")
    return tag("div", tag("ul", [tag("li", line) for line in lines]), class_="remarks")


def left_out_in_words(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """`Frames 0–11 left out: fade.` for a few stretches of a kind, `7 frames left out: duplicate.` for many."""
    by_kind: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for part in parts:
        by_kind[str(part["why"])].append((int(part["first"]), int(part["last"])))
    lines = []
    for why, spans in by_kind.items():
        if len(spans) <= 3:
            words = " and ".join(str(first) if first == last else f"{first}–{last}" for first, last in spans)
            lines.append(f"{'Frame' if words.isdigit() else 'Frames'} {words} left out: {why}.")
        else:
            lines.append(f"{sum(last - first + 1 for first, last in spans)} frames left out: {why}.")
    return lines


def _column(root: Path, sample: Sample) -> Html:
    frame_path = _output(root, sample.frame, "frames/")
    number = sample.number
    frame = photo(frame_path, WIDTH) if frame_path else None
    return tag(
        "div",
        figure(
            picture(frame, f"Frame {number} of {sample.frame.item}") if frame else card("missing", "no picture"),
            [tag("b", number), f" {_clock(sample.seconds)}"],
        ),
        figure(_mask(root, sample, frame_path)),
        figure(_plate(root, sample), _origin_words(sample.plate)),
        class_="column",
    )


def _mask(root: Path, sample: Sample, frame_path: Path | None) -> Html:
    row = sample.mask
    if row is None:
        return card("waiting", ["not segmented yet: ", code("bglora segment")])
    path = _output(root, row, "segmented/masks/")
    if row.status != "made" or path is None or frame_path is None:
        return card(row.status, f"{row.status}: {row.reason}")
    share = float(row.record.get("object") or 0)
    effect = float(row.record.get("effect") or 0)
    alt = f"Mask of frame {sample.number}: " + (
        f"characters on {percent(share)} of it, their shadows and reflections on {percent(effect)}"
        if share
        else "nobody there"
    )
    return picture(mask_over(frame_path, path, WIDTH), alt)


def _plate(root: Path, sample: Sample) -> Html:
    row = sample.plate
    if row is None and sample.mask is not None and sample.mask.status != "made":
        return card(sample.mask.status, "no plate without a mask")
    if row is None:
        command = [": ", code("bglora inpaint")] if sample.mask is not None else None
        return card("waiting", ["no plate yet", command])
    path = _output(root, row, "plates/")
    if row.status != "made" or path is None:
        return card(row.status, f"{row.status}: {row.reason}")
    origin = _output(root, row, "provenance/")
    over = provenance_layer(origin, WIDTH) if origin else None
    return picture(photo(path, WIDTH), f"Plate of frame {sample.number}, without characters", over=over)


def _origin_words(row: Row | None) -> str:
    if row is None or row.status != "made":
        return ""
    if row.record.get("kept"):
        return "kept by you: the frame as it is, not looked at for characters"
    if row.record.get("natural"):
        return "nobody there: the frame as it is"
    shares = {key: float(row.record.get(key) or 0) for key, _ in ORIGINS}
    return ", ".join(f"{percent(shares[key])} {word}" for key, word in ORIGINS if shares[key])


def _output(root: Path, row: Row | None, below: str) -> Path | None:
    """The row's output below a folder; a path that leads out of the project is no output."""
    for name in row.outputs if row else ():
        if name.startswith(below) and name.endswith(".png") and ".." not in name.split("/"):
            return root / name
    return None


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds // 60)}:{seconds % 60:05.2f}"
