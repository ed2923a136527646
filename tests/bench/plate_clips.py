"""Real clips: what became plates, and recovery beside simpler ways on pixels whose truth the film shows.

Truth in a real film: a figure's outline from one frame is laid over another frame of the shot, where the background is
in view. The masks in the project are edited so, as a person would edit them, the plates are made again, and what the
plates show under the laid outline is compared with the frame itself.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bglora.film.png import read_grey, read_picture, write_png
from tests.bench.projects import made, scorer
from tests.bench.table import table, write_section
from tests.shared import ROOT as SHARED

CLIPS = SHARED / "clips"
SETTINGS = ("ingest.fps=0", "ingest.max_per_shot=16")
TRIED = 6
"""Frames of a shot whose masks are edited, at most."""
SMALLEST = 200
"""Pixels of a withheld part at least."""
WAYS = ("bglora", "median over the shot", "Telea", "Navier-Stokes")
COMMAND = "python -m tests.bench.plates --only clips"


def clips(folder: Path, given: argparse.Namespace) -> None:
    """All real clips in one project: plates and reasons, and withheld pixels beside simpler ways."""
    films = sorted(CLIPS.glob("*.mp4"))
    began = time.perf_counter()
    project = made(folder / "clips", films, [], "cluster", *SETTINGS)
    seconds = time.perf_counter() - began
    truth = json.loads((CLIPS / "shots.json").read_text("utf-8"))
    rows = [_kept(project.root, film.stem, truth[film.name]) for film in films]
    head = ["clip", "frames kept", "plates", "nobody in them", "of fades and titles among the kept", "dropped because"]
    note = f"`{' '.join(SETTINGS)}`; {seconds:.0f} s to scenes."
    write_section("Real clips in one project", COMMAND, table(head, rows), note)
    sheet(project.root, folder / "clip-plates.jpg")
    probes = _withhold(project.root)
    if probes:
        result = project.run("inpaint")
        assert result.exit_code == 0, result.failures
    measured: dict[str, _Errors] = defaultdict(_Errors)
    for name, (frame, outline) in probes.items():
        _measure(project.root, name, frame, outline, measured[name.rpartition("-s")[0]])
    rows = [measured[film.stem].row(film.stem) for film in films]
    whole = _Errors()
    for one in measured.values():
        whole.add(one)
    rows.append(whole.row("**all**"))
    head = ["clip", "frames", "dropped", "withheld px", "of them recovered"]
    head += [f"{way}, recovered part" for way in WAYS] + [f"{way}, rest" for way in WAYS]
    note = """\
PSNR in dB against the frame itself, in outlines of the shot's own figures laid where the frame shows the background:
where bglora says that a pixel is recovered, and where it guesses. The median is of the shot's kept frames as they are;
Telea and Navier-Stokes (OpenCV, radius 3) see the one frame. A dash: no such pixels."""
    write_section("Recovery on real clips, beside simpler ways", COMMAND, table(head, rows), note)


def _kept(root: Path, source: str, truth: list[dict[str, Any]]) -> list[str]:
    soft = {n for row in truth if row["kind"] != "shot" for n in range(row["first"], row["last"] + 1)}
    kept = [int(path.stem) for path in (root / "frames").glob(f"{source}-s*/*.png")]
    plates = [row for row in _rows(root) if row["status"] == "made" and _source(row) == source]
    empty = sum(bool(row["record"]["natural"]) for row in plates)
    counts = [len(kept), len(plates), empty, len(soft.intersection(kept))]
    return [source, *map(str, counts), reasons_of(root, source)]


def _rows(root: Path) -> list[dict[str, Any]]:
    """What `inpaint` recorded of each picture."""
    return [json.loads(line) for line in (root / "plates" / "plates.jsonl").read_text("utf-8").splitlines()]


def _source(row: dict[str, Any]) -> str:
    source: str = row["picture"].rpartition("-s")[0]
    return source


def reasons_of(root: Path, source: str) -> str:
    """Why pictures of a source were dropped, with counts."""
    found: Counter[str] = Counter()
    for records in (root / "segmented" / "segmented.jsonl", root / "plates" / "plates.jsonl"):
        for line in records.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["status"] == "dropped" and _source(row) == source:
                found[row["reason"].partition(":")[0]] += 1
    return "; ".join(f"{reason} ({count})" for reason, count in sorted(found.items())) or "–"


def _withhold(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Edits masks; returns each picture's frame (uint8 RGB) and the outline (bool) that was added to its mask."""
    shots: dict[str, list[str]] = defaultdict(list)
    for row in _rows(root):
        if row["status"] == "made":
            shots[row["picture"].rpartition("/")[0]].append(row["picture"])
    masks = {name: read_grey(_mask_path(root, name)) for names in shots.values() for name in names}
    shapes = {shot: [masks[name] > 0 for name in names if masks[name].any()] for shot, names in shots.items()}
    probes = {}
    for shot, names in shots.items():
        if len(names) < 3:
            continue
        chosen = sorted({names[round(i)] for i in np.linspace(0, len(names) - 1, TRIED)})
        outlines = shapes[shot] or _of_other_shots(shapes, shot, masks[names[0]].shape)
        for number, name in enumerate(chosen):
            free = cv2.dilate((masks[name] > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
            parts = [outline & free for outline in outlines]
            parts.sort(key=lambda part: -int(part.sum()))
            if not parts or parts[0].sum() < SMALLEST:
                continue
            best = [part for part in parts if part.sum() > 0.7 * parts[0].sum()]
            outline = best[number % len(best)]
            probes[name] = (read_picture(root / "frames" / f"{name}.png"), outline)
            write_png(_mask_path(root, name), np.where(outline, np.uint8(255), masks[name]))
    return probes


def _mask_path(root: Path, name: str) -> Path:
    return root / "segmented" / "masks" / f"{name}.png"


def _of_other_shots(shapes: dict[str, list[np.ndarray]], shot: str, size: tuple[int, ...]) -> list[np.ndarray]:
    """Outlines of the other shots at this shot's size, where nobody is in it."""
    others = [outline for name in sorted(shapes) if name != shot for outline in shapes[name]]
    flat = [cv2.resize(outline.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) for outline in others]
    return [outline > 0 for outline in flat[:: max(1, len(flat) // 12)]]


@dataclass
class _Errors:
    """Squared errors summed over pixels, by way and by part (recovered, rest)."""

    frames: int = 0
    dropped: int = 0
    pixels: dict[str, int] = field(default_factory=lambda: {"recovered": 0, "rest": 0})
    squared: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: _Errors) -> None:
        self.frames += other.frames
        self.dropped += other.dropped
        for part, count in other.pixels.items():
            self.pixels[part] += count
        for key, value in other.squared.items():
            self.squared[key] += value

    def row(self, name: str) -> list[str]:
        known = sum(self.pixels.values())
        share = f"{self.pixels['recovered'] / known:.0%}" if known else "–"
        cells = [name, str(self.frames), str(self.dropped), f"{known:,}", share]
        for part in ("recovered", "rest"):
            count = self.pixels[part]
            decibels = [10 * np.log10(65025 * 3 * count / max(1e-9, self.squared[way, part])) for way in WAYS if count]
            best = max(decibels, default=0.0)
            cells += [f"**{value:.1f}**" if value == best else f"{value:.1f}" for value in decibels] or ["–"] * 4
        return cells


def _measure(root: Path, name: str, frame: np.ndarray, outline: np.ndarray, errors: _Errors) -> None:
    """Adds what each way made of the withheld pixels of one picture."""
    path = root / "plates" / f"{name}.png"
    errors.frames += 1
    if not path.exists():
        errors.dropped += 1
        return
    provenance = scorer().rd_index(str(root / "provenance" / f"{name}.png"))
    hole = (read_grey(_mask_path(root, name)) > 0).astype(np.uint8)
    others = [read_picture(one) for one in sorted((root / "frames" / name).parent.glob("*.png"))]
    pictures = {
        "bglora": read_picture(path),
        "median over the shot": np.median(np.stack(others)[:, outline], axis=0),
        "Telea": cv2.inpaint(frame, hole, 3, cv2.INPAINT_TELEA),
        "Navier-Stokes": cv2.inpaint(frame, hole, 3, cv2.INPAINT_NS),
    }
    recovered = provenance[outline] == 1
    for way, picture in pictures.items():
        values = picture if picture.ndim == 2 else picture[outline]
        squared = ((values.astype(np.float64) - frame[outline]) ** 2).sum(1)
        errors.squared[way, "recovered"] += float(squared[recovered].sum())
        errors.squared[way, "rest"] += float(squared[~recovered].sum())
    errors.pixels["recovered"] += int(recovered.sum())
    errors.pixels["rest"] += int((~recovered).sum())


def sheet(root: Path, path: Path) -> None:
    """A contact sheet of all plates: frame with the mask's outline, plate, provenance over it."""
    tiles = list(_tiles(root))
    if not tiles:
        return
    height = max(tile.shape[0] for tile in tiles)
    tiles = [cv2.copyMakeBorder(tile, 0, height - tile.shape[0], 0, 0, cv2.BORDER_CONSTANT) for tile in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 2)
    rows = [np.hstack(tiles[k : k + 2]) for k in range(0, len(tiles), 2)]
    cv2.imwrite(str(path), np.vstack(rows))


def _tiles(root: Path) -> Iterator[np.ndarray]:
    colors = np.array([(0, 0, 0), (107, 160, 34), (32, 160, 240), (49, 48, 214)], np.uint8)
    score = scorer()
    for row in _rows(root):
        name = row["picture"]
        if row["status"] != "made":
            continue
        frame = cv2.imread(str(root / "frames" / f"{name}.png"))
        plate = cv2.imread(str(root / "plates" / f"{name}.png"))
        contours, _ = cv2.findContours(read_grey(_mask_path(root, name)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, contours, -1, (0, 0, 255), 2)
        origin = colors[score.rd_index(str(root / "provenance" / f"{name}.png"))]
        tile = np.hstack([frame, plate, cv2.addWeighted(plate, 0.5, origin, 0.5, 0)])
        tile = cv2.resize(tile, (960, round(tile.shape[0] * 960 / tile.shape[1])), interpolation=cv2.INTER_AREA)
        yield cv2.putText(tile, name, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
