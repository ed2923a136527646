"""Plates, measured: the sample film, held-out drawn shots, real clips, speed.

    python -m tests.bench.plates [--only film,layers,drawn,clips,speed] [--seed N] [--keep DIR]
    python -m tests.bench.plates --only film,layers --film DIR      another film with truth: prints, writes no section

Needs the folder `shared` beside the checkout (see tests/shared.py): the truth, its scorer, stills and clips.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from tests.bench import plate_clips, plate_speed
from tests.bench.acceptance import (
    ASKED,
    WITH_TRUE_MASKS,
    bound_row,
    by_type,
    completed,
    figure_row,
    figure_table,
)
from tests.bench.heldout import KINDS, Drawn, draw
from tests.bench.projects import ALL_FRAMES, FILM, encode, film_in, made, scorer, true_layers
from tests.bench.table import write_section
from tests.shared import ROOT as SHARED

COMMAND = "python -m tests.bench.plates"
MARKS = "Bold with a cross misses what stands in the row above; a dash is a figure that could not be measured."


def film(folder: Path, given: argparse.Namespace) -> None:
    """A film as mp4."""
    source, truth = film_in(Path(given.film))
    began = time.perf_counter()
    project = made(folder / "film" / source.stem, [source], [], "cluster", *ALL_FRAMES)
    seconds = time.perf_counter() - began
    result = scorer().score(str(project.root), str(truth), quiet=True)
    rows, met = by_type(result)
    found, scenes = result["boundaries"], result["scenes"]
    note = f"""\
{MARKS} {met}
Cuts found {found["found"]} of {found["true"]}, invented {len(found["extra"])}; {scenes["number"]} scenes, ARI
{_figure(scenes["ari_place"])}, noise {_figure(scenes["noise_share"])}. All {result["kept_frames"]} frames kept,
{seconds:.0f} s from film to scenes. What the figures mean stands in the head of the scorer; `recovered` is its `able`
where the camera stands, its `rec` where it moves."""
    _say(given, "Sample film, scored against its truth", f"{COMMAND} --only film", rows, note)


def layers(folder: Path, given: argparse.Namespace) -> None:
    """A film with true masks given as layers: recovery alone."""
    source, truth = film_in(Path(given.film))
    imported = true_layers(source, truth, folder / "layers" / "source" / source.stem)
    project = made(folder / "layers" / source.stem, [source], [imported], "inpaint", *ALL_FRAMES)
    rows, met = by_type(scorer().score(str(project.root), str(truth), quiet=True), WITH_TRUE_MASKS)
    note = f"""\
{MARKS} {met}
Backgrounds with transparent holes and masks of 0, 128 and 255, made from the film's truth."""
    _say(given, "Sample film with true masks", f"{COMMAND} --only layers", rows, note)


def _say(given: argparse.Namespace, title: str, command: str, rows: str, note: str) -> None:
    """Writes a section on the sample film; of another film the table is only printed."""
    if Path(given.film) == FILM.parent:
        write_section(title, command, rows, note)
    else:
        print(f"{given.film}: {title}\n\n{rows}\n\n{note}\n")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def drawn(folder: Path, given: argparse.Namespace) -> None:
    """Shots drawn by code, each a film of its own."""
    shots = {f"drawn{k:02d}": draw(kind, given.seed) for k, kind in enumerate(KINDS)}
    films = [encode(shot.frames, folder / "drawn" / f"{name}.mp4", shot.kind.crf) for name, shot in shots.items()]
    project = made(folder / "drawn" / "project", films, [], "inpaint", *ALL_FRAMES)
    score = scorer()
    rows: list[list[str]] = []
    kind = ""
    reasons = []
    misses = total = 0
    for name, shot in shots.items():
        if shot.kind.type != kind:
            kind = shot.kind.type
            rows.append(bound_row(kind))
        figures = completed(score.aggregate(list(_scored(project.root, name, shot, score))), kind)
        figures["iou_least"] = figures["iou"]
        rows.append(figure_row(shot.kind.name, figures, kind))
        misses += sum(cell.startswith("**") for cell in rows[-1][1:])
        total += len(ASKED[kind]) + 1
        if figures["dropped"]:
            reasons.append(f"{shot.kind.name}: {plate_clips.reasons_of(project.root, name)}")
    note = f"""\
{MARKS} {total - misses} of {total} figures meet what is asked of their shot type, which was asked of the sample film.
Drawn by tests/bench/heldout.py at 384 x 216, 18 to 24 frames, seed {given.seed}; another `--seed` draws other shots.
Dropped: {"; ".join(reasons) or "nothing"}."""
    command = f"{COMMAND} --only drawn --seed {given.seed}"
    write_section("Held-out drawn shots", command, figure_table(rows), note)


def _scored(root: Path, name: str, shot: Drawn, score: Any) -> Iterator[Mapping[str, Any]]:
    """The scorer's figures of each frame of a drawn shot."""
    never = shot.never_clean() if shot.kind.type != "pan" else None
    for path in sorted((root / "frames").glob(f"{name}-s*/*.png")):
        k, where = int(path.stem), f"{path.parent.name}/{path.name}"
        frame = cv2.imread(str(path))
        plate = score.rd(str(root / "plates" / where))
        figures = score.frame_figures(
            frame,
            score.rd(str(root / "segmented" / "masks" / where), cv2.IMREAD_GRAYSCALE),
            plate,
            score.rd_index(str(root / "provenance" / where)),
            shot.clean[k],
            shot.objects[k],
            shot.effects[k],
            never,
        )
        if frame.shape != shot.clean[k].shape:
            raise AssertionError(
                f"{where} is {frame.shape}, its truth {shot.clean[k].shape}: bars were cropped wrongly"
            )
        yield {**figures, "_dropped": plate is None}


SECTIONS = {
    "film": film,
    "layers": layers,
    "drawn": drawn,
    "clips": plate_clips.clips,
    "speed": plate_speed.speed,
}


@contextmanager
def _folder(keep: str) -> Iterator[Path]:
    """A folder for the projects: the one to keep, or one that is removed afterwards."""
    if keep:
        yield Path(keep)
        return
    folder = Path(tempfile.mkdtemp(prefix="bglora-plates-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma separated")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn shots")
    parser.add_argument("--film", default=str(FILM.parent), help="folder of a film and its truth, for film and layers")
    parser.add_argument("--keep", default="", help="an empty folder in which the projects are left, to look at")
    given = parser.parse_args()
    if not FILM.exists():
        raise SystemExit(f"the sample film is not in {SHARED}; set BGLORA_SHARED")
    with _folder(given.keep) as folder:
        for name in given.only.split(","):
            SECTIONS[name](folder, given)


if __name__ == "__main__":
    main()
