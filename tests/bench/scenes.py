"""Scenes against the truth: the sample film's clean plates as they are, in other light, and among the real clips.

    python -m tests.bench.scenes

Plates are laid ready, so that sorting alone is measured: `Laid` (tests/stages/drawn_plates.py) stands for the rest.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

import bglora
from bglora.film.png import read_picture
from tests.bench.table import table, write_section
from tests.shared import ROOT as SHARED
from tests.stages.drawn_plates import lay, run, scenes

TRUTH = SHARED / "films" / "harbor" / "truth"
SEEDS = range(3)
BUILT, FEWEST = 8, 2
"""Places of a film made of stills, each seen by at least FEWEST cameras."""
Plates = dict[str, np.ndarray]


def harbor() -> tuple[Plates, dict[str, str]]:
    """The film's clean plates by name, and the place of each."""
    plates, places = {}, {}
    for shot in json.loads((TRUTH / "truth.json").read_text("utf-8"))["shots"]:
        for k in range(shot["count"]):
            name = f"harbor-s{shot['shot']:03d}/{shot['first'] + k:06d}"
            plates[name] = _read(TRUTH / shot["plates"][0 if len(shot["plates"]) == 1 else k])
            places[name] = shot["place"]
    return plates, places


def stills(seed: int) -> tuple[Plates, dict[str, str]]:
    """A film of built places, camera after camera: three plates each. The descriptor was learned on these stills."""
    cameras: dict[str, list[list[Path]]] = {}
    files = sorted(path for path in (SHARED / "stills").glob("*.jpg") if path.stem[-1] in "abc")
    for camera, views in groupby(files, lambda path: path.stem[:-1]):
        cameras.setdefault(camera.rpartition("-")[0], []).append(list(views))
    rng = np.random.default_rng(1000 + seed)
    several = [place for place, views in cameras.items() if len(views) >= FEWEST]
    plates, places, shot = {}, {}, 0
    for place in rng.permutation(several)[:BUILT]:
        for views in cameras[str(place)]:
            for k, file in enumerate(views):
                name = f"stills-s{shot:03d}/{k:06d}"
                plates[name], places[name] = _read(file), str(place)
            shot += 1
    return plates, places


def graded(plates: Plates, seed: int) -> Plates:
    """Each shot in another exposure (gamma 0.75 to 1.3) and white balance (10 % per channel)."""
    found = {}
    for name, picture in plates.items():
        rng = np.random.default_rng([seed, *name.rpartition("/")[0].encode()])
        changed = (picture / 255) ** rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3)
        found[name] = (np.clip(changed, 0, 1) * 255).round().astype(np.uint8)
    return found


def clips(folder: Path) -> Plates:
    """Kept frames of the real clips, characters and all."""
    project = bglora.init(folder, films=sorted((SHARED / "clips").glob("*.mp4")))
    assert bglora.open(project.root).run(to="ingest").exit_code == 0
    return {f"{p.parent.name}/{p.stem}": read_picture(p) for p in sorted((folder / "frames").glob("*/*.png"))}


def sorted_as(folder: Path, plates: Plates, places: Mapping[str, str]) -> list[str]:
    """Sorts plates in a project of their own; scenes, ARI and noise among those whose place is known, and seconds."""
    from sklearn.metrics import adjusted_rand_score

    lay(folder, plates)
    began = time.perf_counter()
    assert run(folder, "inpaint", "cluster").exit_code == 0
    seconds = time.perf_counter() - began
    of = {plate: scene["id"] for scene in scenes(folder)["scenes"] for plate in scene["plates"] if plate in places}
    found = sorted(of)
    ari = adjusted_rand_score([places[name] for name in found], [of[name] for name in found])
    noise = 1 - len(found) / len(places)
    shutil.rmtree(folder)
    return [f"{len(set(of.values()))} of {len(set(places.values()))}", f"{ari:.3f}", f"{noise:.1%}", f"{seconds:.0f}"]


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-scenes-"))
    try:
        plates, places = harbor()
        others = clips(folder / "clips")
        rows = [["sample film", *sorted_as(folder / "p", plates, places)]]
        rows += [[f"in other light, seed {s}", *sorted_as(folder / "p", graded(plates, s), places)] for s in SEEDS]
        rows.append(["among the real clips", *sorted_as(folder / "p", {**plates, **others}, places)])
        for seed in SEEDS:
            built, where = stills(seed)
            rows.append([f"film of stills {seed}", *sorted_as(folder / "p", built, where)])
            rows.append(
                [f"film of stills {seed}, in other light", *sorted_as(folder / "p", graded(built, seed), where)]
            )
        head = ["plates", "scenes of places", "ARI", "noise", "seconds"]
        note = (
            "ARI is the adjusted Rand index of scenes against places, 1 if they are the same; noise is left out of it."
        )
        write_section("Scenes", "python -m tests.bench.scenes", table(head, rows), note)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(file: Path) -> np.ndarray:
    return np.asarray(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB))


if __name__ == "__main__":
    main()
