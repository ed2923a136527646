"""Where a shot's plates come from, in words: what was recovered, why the rest was not, how good the guesses are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from bglora.engine.stage import Row
from bglora.report.contents import Shot
from bglora.report.figures import figure, picture
from bglora.report.markup import Child, Html, count, percent, tag
from bglora.report.pictures import photo, provenance_layer

PLATES_OF_THE_PAGE = 240
THUMB = 256
UNFILLED = ("recover", "none", "wide", "", None)
"""What the record of a plate says in place of an engine when nothing was filled."""
WHY_UNTRUSTED = {
    "still": "what other frames show there disagrees, or one frame alone shows it",
    "pan": "what other frames show there disagrees, or one frame alone shows it",
    "parallax": "the camera travels, and the views of other frames could not be brought in reliably",
    "unknown": "the camera could not be followed, and other views could not be brought in reliably",
}


def shot_origins(shot: Shot) -> list[Child]:
    """Sentences on one shot; none where there is no plate or nobody stands in any."""
    rows = [row for row in shot.rows if not row.record.get("natural")]
    if not rows:
        return []
    lines: list[Child] = [_behind(shot, rows)]
    lines += [line for line in (_natural(shot), _recovery(rows), _guesses(rows)) if line]
    return lines


def _behind(shot: Shot, rows: Sequence[Row]) -> str:
    hole = _mean(rows, "hole")
    parts = {key: _mean(rows, key) / hole if hole else 0.0 for key in ("recovered", "guessed", "untrusted")}
    words = [f"{percent(parts['recovered'])} recovered from other frames{_elsewhere(rows, hole)}"]
    if parts["guessed"] > 0:
        words.append(f"{percent(parts['guessed'])} never revealed by any frame, filled by a guess")
    if parts["untrusted"] > 0:
        why = WHY_UNTRUSTED.get(shot.camera, WHY_UNTRUSTED["still"])
        words.append(f"{percent(parts['untrusted'])} not trusted: {why}")
    return f"Behind the characters, {percent(hole)} of the frame: {'; '.join(words)}."


def _elsewhere(rows: Sequence[Row], hole: float) -> str:
    """How much of it other shots of the same view gave, and which; empty if none did."""
    shots = sorted({shot for row in rows for shot in row.record.get("revisited") or {}})
    if not shots or not hole:
        return ""
    share = fmean(sum((row.record.get("revisited") or {}).values()) for row in rows) / hole
    return f" ({percent(share)} from {', '.join(shots)}, where the camera is at the same place again)"


def _natural(shot: Shot) -> str:
    kept = sum(bool(row.record.get("kept")) for row in shot.rows)
    natural = sum(bool(row.record.get("natural")) for row in shot.rows) - kept
    words = [f"{count(natural, 'plate')} with nobody there, taken as filmed."] if natural else []
    words += [f"{count(kept, 'plate')} kept by you, as filmed: not looked at for characters."] if kept else []
    return " ".join(words)


def _recovery(rows: Sequence[Row]) -> str:
    scores = _scores(rows, "recovered_psnr_db")
    if not scores:
        return ""
    worst = f", {min(scores):.1f} in the worst frame" if len(scores) > 1 else ""
    return f"Recovery was checked on pixels that the frames show themselves: {fmean(scores):.1f} dB{worst}."


def _guesses(rows: Sequence[Row]) -> str:
    guessed = [row for row in rows if row.record.get("engine") not in UNFILLED]
    if not guessed:
        return ""
    engines = Counter(str(row.record.get("engine") or "") for row in guessed)
    words = " and ".join(engine for engine, _ in engines.most_common() if engine)
    text = f"Guesses by {words}" if words else "Guesses"
    inside, alike = _scores(guessed, "hole_psnr_db"), _scores(guessed, "hole_ssim")
    if inside and alike:
        text += f": {fmean(inside):.1f} dB and SSIM {fmean(alike):.2f} inside withheld holes of the same shape"
        flat = _scores(guessed, "flat_psnr_db")
        text += f", where one flat color has {fmean(flat):.1f} dB" if flat else ""
    else:
        text += ": too small, or too large, to be checked on withheld pixels"
    looks = _scores(guessed, "removal")
    text += f". Likeness to the surroundings {fmean(looks):.2f} of 1" if looks else ""
    return f"{text}."


def engines_table(root: Path) -> Html:
    """Which engine is best by the share of the frame that is missing, from plates/engines.json; empty without one."""
    rows = _rated(root / "plates" / "engines.json")
    if not rows:
        return Html("")
    head = ("frame missing", "engine", "holes", "dB in the hole", "SSIM in the hole")
    return tag(
        "details",
        tag("summary", "How good the engines' guesses are on this film"),
        tag(
            "p",
            "Measured in withheld holes, where the truth is known. Bold: the best on the same holes.",
            class_="soft",
        ),
        tag(
            "div",
            tag("table", tag("tr", [tag("th", name, scope="col") for name in head]), [_cells(row) for row in rows]),
            class_="scroll",
        ),
        class_="rated",
    )


def _rated(path: Path) -> list[tuple[str, str, bool, str, str, str]]:
    """Rows of the table: share missing, engine, whether the best, holes, dB, SSIM; none from an unreadable file."""
    rows = []
    try:
        for part in json.loads(path.read_text(encoding="utf-8"))["bins"]:
            span = f"{percent(float(part['from']))} to {percent(float(part['below']))}"
            for place, (name, means) in enumerate(part["engines"].items()):
                scores = (f"{int(means['holes'])}", f"{means['hole_psnr_db']:.1f}", f"{means['hole_ssim']:.2f}")
                rows.append(("" if place else span, str(name), name == part["best"], *scores))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # nothing rated yet, or edited by hand
        return []
    return rows


def _cells(row: tuple[str, str, bool, str, str, str]) -> Html:
    span, name, best, *scores = row
    return tag("tr", [tag("td", value) for value in (span, tag("b", name) if best else name, *scores)])


def plates_sheet(root: Path, shots: Sequence[Shot]) -> Html:
    """All plates small, with where their pixels come from over them; evenly chosen where there are too many."""
    made = [row for shot in shots for row in shot.rows]
    if not made:
        return Html("")
    step = max(1.0, len(made) / PLATES_OF_THE_PAGE)
    chosen = [made[int(k * step)] for k in range(min(len(made), PLATES_OF_THE_PAGE))]
    part = len(chosen) < len(made)
    which = f"{len(chosen)} of {count(len(made), 'plate')}" if part else f"All {count(len(made), 'plate')}"
    return tag(
        "details",
        tag("summary", f"{which} at a glance{', evenly chosen' if part else ''}"),
        tag(
            "div",
            [_thumb(root, row) for row in chosen],
            class_="sheet plates",
            role="region",
            tabindex=0,
            aria_label="Contact sheet of all plates",
            data_gallery=True,
        ),
        class_="rated",
    )


def _thumb(root: Path, row: Row) -> Html:
    plate, origin = (
        next((name for name in row.outputs if name.startswith(below) and ".." not in name.split("/")), "")
        for below in ("plates/", "provenance/")
    )
    over = provenance_layer(root / origin, THUMB) if origin else None
    shown = picture(photo(root / plate, THUMB, 68), f"Plate {row.picture}", over=over)
    guessed = (row.record.get("guessed") or 0) + (row.record.get("untrusted") or 0)
    return figure(
        shown, [tag("b", row.picture), tag("span", f"{percent(guessed)} guessed", class_="said") if guessed else None]
    )


def _mean(rows: Sequence[Row], key: str) -> float:
    return fmean(float(row.record.get(key) or 0) for row in rows)


def _scores(rows: Sequence[Row], key: str) -> list[float]:
    """A score of the plates that have it."""
    found = (dict(row.record.get("scores") or {}).get(key) for row in rows)
    return [float(value) for value in found if isinstance(value, int | float)]
