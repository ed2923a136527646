"""Real clips: what became plates, and recovery beside simpler ways where the film shows the truth.

Truth in a real film: a walking figure with its shadow is painted over frames in which everything behind it stands still
or moves as the film made it. Its masks are given as layers, so that recovery alone is measured, and what the plates
show in their place is compared with the frames before they were painted over.
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

from bglora.film.png import read_grey
from bglora.film.video import VideoFile
from tests.bench.heldout import Actor, across, painted
from tests.bench.projects import made, scorer
from tests.bench.table import table, write_section
from tests.shared import ROOT as SHARED

CLIPS = SHARED / "clips"
SETTINGS = ("ingest.fps=0", "ingest.max_per_shot=16")
PAINTED = ("ingest.fps=0", "ingest.max_per_shot=8")
LONGEST = 32
"""Frames of a part that are painted over, evenly chosen."""
WALKS = (Actor(across(60, 330, 176), 92.0),)
PARTS = (
    ("bbb_opening", 51, 283, "landscape, the camera tilts and pulls back"),
    ("bbb_opening", 284, 376, "stream and grass that move, the camera drifts"),
    ("bbb_burrow", 0, 8, "tree, the camera pushes in"),
    ("bbb_burrow", 62, 200, "burrow, its owner asleep, the camera pushes in"),
    ("bbb_burrow", 485, 545, "meadow, the camera at rest, somebody scratches himself"),
    ("sintel_rooftop", 121, 160, "flight past ruins"),
    ("sintel_snow_hut", 140, 146, "mountains in mist, the camera moves in"),
)
"""Clip, first and last frame, what is seen."""
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
    rows, whole = [], _Errors()
    for number, part in enumerate(PARTS):
        errors, reason = _beside(folder / f"part{number}", *part[:3])
        whole.add(errors)
        rows.append(errors.row(f"{part[0]} {part[1]}–{part[2]}: {part[3]}", reason))
    rows.append(whole.row("**all**", ""))
    head = ["clip, frames, what is seen", "frames", "dropped", "covered px", "of them recovered"]
    head += [f"{way}, recovered part" for way in WAYS] + [f"{way}, rest" for way in WAYS] + ["dropped because"]
    note = f"""\
PSNR in dB against the film's own frames where a figure and its shadow were painted over them, its masks given as
layers: where bglora says that a pixel is recovered, and where it guesses. At most {LONGEST} frames of each part, 8 of
them plates. The median is of all these frames as they are, figure and all; Telea and Navier-Stokes (OpenCV, radius 3)
see the one frame. A dash: no such pixels."""
    write_section("Recovery on real clips, beside simpler ways", COMMAND, table(head, rows), note)


def _beside(folder: Path, clip: str, first: int, last: int) -> tuple[_Errors, str]:
    """A part of a clip painted over and made into plates: errors of all ways, and why plates were dropped."""
    numbers = sorted({round(n) for n in np.linspace(first, last, min(LONGEST, last - first + 1))})
    with VideoFile(CLIPS / f"{clip}.mp4", threads=1) as video:
        real = {number: video.picture(frame) for number, frame in video.decode() if number in numbers}
    shot = painted([cv2.cvtColor(real[number], cv2.COLOR_RGB2BGR) for number in numbers], WALKS)
    source, layers = folder / "part", folder / "layers" / "part"
    for path in (source, layers / "background", layers / "masks"):
        path.mkdir(parents=True)
    masks = []
    for k, (picture, objects, effects) in enumerate(zip(shot.frames, shot.objects, shot.effects, strict=True)):
        mask = np.where(objects, np.uint8(255), np.where(effects, np.uint8(128), np.uint8(0)))
        holed = np.dstack([np.where(mask[..., None] > 0, np.uint8(0), picture), 255 * (mask == 0).astype(np.uint8)])
        for path, what in ((source, picture), (layers / "background", holed), (layers / "masks", mask)):
            cv2.imwrite(str(path / f"{k:06d}.png"), what)
        masks.append(mask > 0)
    project = made(folder / "project", [source], [layers], "inpaint", *PAINTED)
    typical = np.median(np.stack(shot.frames), axis=0)
    errors = _Errors()
    for path in sorted((project.root / "frames").glob("part-s*/*.png")):
        k = int(path.stem)
        _measure(
            project.root, f"{path.parent.name}/{path.stem}", shot.frames[k], typical, shot.clean[k], masks[k], errors
        )
    return errors, reasons_of(project.root, "part")


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

    def row(self, name: str, reason: str) -> list[str]:
        known = sum(self.pixels.values())
        share = f"{self.pixels['recovered'] / known:.0%}" if known else "–"
        cells = [name, str(self.frames), str(self.dropped), f"{known:,}", share]
        for part in ("recovered", "rest"):
            count = self.pixels[part]
            decibels = [10 * np.log10(65025 * 3 * count / max(1e-9, self.squared[way, part])) for way in WAYS if count]
            best = max(decibels, default=0.0)
            cells += [f"**{value:.1f}**" if value == best else f"{value:.1f}" for value in decibels] or ["–"] * 4
        return [*cells, reason]


def _measure(
    root: Path, name: str, frame: np.ndarray, typical: np.ndarray, clean: np.ndarray, hole: np.ndarray, errors: _Errors
) -> None:
    """Adds what each way made of the hole of one frame (all uint8 BGR, bool)."""
    path = root / "plates" / f"{name}.png"
    errors.frames += 1
    if not path.exists():
        errors.dropped += 1
        return
    recovered = scorer().rd_index(str(root / "provenance" / f"{name}.png"))[hole] == 1
    pictures = {
        "bglora": cv2.imread(str(path)),
        "median over the shot": typical,
        "Telea": cv2.inpaint(frame, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA),
        "Navier-Stokes": cv2.inpaint(frame, hole.astype(np.uint8), 3, cv2.INPAINT_NS),
    }
    for way, picture in pictures.items():
        squared = ((picture[hole].astype(np.float64) - clean[hole]) ** 2).sum(1)
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
        contours, _ = cv2.findContours(
            read_grey(root / "segmented" / "masks" / f"{name}.png"), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(frame, contours, -1, (0, 0, 255), 2)
        origin = colors[score.rd_index(str(root / "provenance" / f"{name}.png"))]
        tile = np.hstack([frame, plate, cv2.addWeighted(plate, 0.5, origin, 0.5, 0)])
        tile = cv2.resize(tile, (960, round(tile.shape[0] * 960 / tile.shape[1])), interpolation=cv2.INTER_AREA)
        yield cv2.putText(tile, name, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
