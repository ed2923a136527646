"""The sample film with truth, in three forms, and the real clips: from the source to places, scored.

    python -m tests.bench.harbor

Needs the folder `shared` beside the checkout (see tests/shared.py): the truth, its scorer and the clips.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2

import bglora
from tests.bench.table import table, write_section
from tests.shared import ROOT as SHARED

FILM = SHARED / "films" / "harbor" / "harbor.mp4"
TRUTH = SHARED / "films" / "harbor" / "truth"
ALL_FRAMES = ("ingest.fps=0", "ingest.max_per_shot=0")
COLUMNS = (
    ("recall", "recall", 3), ("IoU", "iou", 3), ("effect", "effect", 2), ("clearly visible", "effect_strong", 2),
    ("far excess", "excess_far", 4), ("leak kept", "leak_kept", 4), ("recovered", "rec_able", 3),
    ("P_rec dB", "psnr_rec", 1), ("floor dB", "floor", 1), ("sharpness", "sharp", 2), ("P_all dB", "psnr_all", 1),
    ("wrong", "wrong", 4),
)  # fmt: skip
"""Title in the table, the scorer's name, digits."""


def scorer() -> ModuleType:
    """The scorer as a module; it is no package."""
    spec = importlib.util.spec_from_file_location("score_film", SHARED / "films" / "score_film.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def frames_of(film: Path, folder: Path, holes: Mapping[int, str] | None = None) -> Path:
    """Writes every frame of a film as a PNG named by its number, black where `holes` (mask files) says."""
    folder.mkdir(parents=True)
    with av.open(str(film)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="bgr24")
            if holes is not None and number in holes:
                picture[cv2.imread(holes[number], cv2.IMREAD_GRAYSCALE) > 0] = 0
            cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


def true_holes() -> dict[int, str]:
    """Frame number to the mask of its characters; frames without any are left out."""
    shots = json.loads((TRUTH / "truth.json").read_text("utf-8"))["shots"]
    return {
        shot["first"] + number: str(TRUTH / name)
        for shot in shots
        for number, name in enumerate(shot["objects"] or [])
        if name
    }


def made(root: Path, films: list[Path], layers: list[Path], to: str, *given: str) -> tuple[bglora.Project, float]:
    """A project run up to a stage, and the seconds that took."""
    project = bglora.open(bglora.init(root, films=films, layers=layers).root, given=given)
    began = time.perf_counter()
    result = project.run(to=to)
    assert result.exit_code == 0, result.failures
    return project, time.perf_counter() - began


def figures(name: str, of: Mapping[str, Any]) -> list[str]:
    cells = ["–" if of[key] is None else f"{of[key]:.{digits}f}" for _, key, digits in COLUMNS]
    return [name, f"{of['frames'] - of['dropped']} of {of['frames']}", *cells, str(of["changed"])]


def harbor(folder: Path, score: ModuleType) -> None:
    head = ["shots", "plates", *(title for title, _, _ in COLUMNS), "original pixels changed"]
    film, seconds = made(folder / "film" / "harbor", [FILM], [], "cluster", *ALL_FRAMES)
    whole = score.score(str(film.root), str(TRUTH), quiet=True)
    rows = [figures(kind, of) for kind, of in whole["types"].items()] + [figures("OVERALL", whole["overall"])]
    found, scenes = whole["boundaries"], whole["scenes"]
    note = f"""\
Cuts found {found["found"]} of {found["true"]}, invented {len(found["extra"])}; {scenes["number"]} scenes, ARI
{scenes["ari_place"]:.3f}, noise {scenes["noise_share"]:.3f}. All 276 frames kept, {seconds:.0f} s from film to scenes.
What the figures mean stands in the head of the scorer."""
    write_section("Sample film, scored against its truth", "python -m tests.bench.harbor", table(head, rows), note)
    frames = frames_of(FILM, folder / "source" / "harbor")
    layers = frames_of(FILM, folder / "layers" / "harbor" / "background", true_holes()).parent
    forms = {
        "frames in a folder": made(folder / "frames" / "harbor", [frames], [], "cluster", *ALL_FRAMES)[0],
        "film, and layers with holes": made(folder / "both" / "harbor", [FILM], [layers], "cluster", *ALL_FRAMES)[0],
        "layers with holes alone": made(folder / "alone" / "harbor", [], [layers], "inpaint", *ALL_FRAMES)[0],
    }  # fmt: skip
    rows = [figures(name, score.score(str(one.root), str(TRUTH), quiet=True)["overall"]) for name, one in forms.items()]
    write_section("Sample film in other forms", "python -m tests.bench.harbor", table(head, rows))


def clips(folder: Path) -> None:
    """All real clips in one project: what became plates, and what was left out or dropped and why."""
    films = sorted((SHARED / "clips").glob("*.mp4"))
    project, seconds = made(folder / "clips", films, [], "cluster")
    truth = json.loads((SHARED / "clips" / "shots.json").read_text("utf-8"))
    rows = []
    for film in films:
        soft = {n for row in truth[film.name] if row["kind"] != "shot" for n in range(row["first"], row["last"] + 1)}
        kept = [int(path.stem) for path in (project.root / "frames").glob(f"{film.stem}-s*/*.png")]
        plates = [int(path.stem) for path in (project.root / "plates").glob(f"{film.stem}-s*/*.png")]
        reasons = reasons_of(project.root, film.stem)
        rows.append([film.stem, str(len(kept)), str(len(plates)), str(len(soft.intersection(kept))), reasons])
    head = ["clip", "frames kept", "plates", "of fades and titles among them", "dropped because"]
    write_section(
        "Real clips in one project", "python -m tests.bench.harbor", table(head, rows), f"{seconds:.0f} s to scenes."
    )


def reasons_of(root: Path, source: str) -> str:
    """Why pictures of a source were dropped, with counts."""
    found: Counter[str] = Counter()
    for records in (root / "segmented" / "segmented.jsonl", root / "plates" / "plates.jsonl"):
        for line in records.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["status"] == "dropped" and row["picture"].rpartition("-s")[0] == source:
                found[row["reason"].partition(":")[0]] += 1
    return "; ".join(f"{reason} ({count})" for reason, count in sorted(found.items())) or "–"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-harbor-"))
    try:
        harbor(folder, scorer())
        clips(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
