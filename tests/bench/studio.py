"""The preset `studio` on the sample film with tiny random checkpoints, and what it recovers where masks are true.

    python -m tests.bench.studio [--only film,layers]

What such checkpoints see, paint and say is noise; that the whole job runs on them, and how long, is what is shown.
The second part needs the folder `shared` beside the checkout (see tests/shared.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bglora
from bglora.engine.events import Event, StageFinished, StageStarted
from bglora.film.png import read_grey, read_picture
from tests.bench.projects import ALL_FRAMES, FILM, film_in, true_layers
from tests.bench.table import table, write_section
from tests.whole.tiny_studio import settings

COMMAND = "python -m tests.bench.studio"
SAMPLE = Path(bglora.__file__).parent / "assets" / "harbor.mp4"
SHOTS = {"harbor-s000": "still", "harbor-s008": "pan", "harbor-s007": "somebody who stays"}


class Clock:
    """CPU and wall seconds of each stage, and how its pictures ended."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.since = (0.0, 0.0)

    def __call__(self, event: Event) -> None:
        now = (time.process_time(), time.perf_counter())
        if isinstance(event, StageStarted):
            self.since = now
        elif isinstance(event, StageFinished):
            cpu, wall = (late - early for late, early in zip(now, self.since, strict=True))
            counts = [str(n) for n in (event.items, event.made, event.dropped, event.failed)]
            self.rows.append([event.stage, *counts, f"{cpu:.1f}", f"{wall:.1f}"])


def film(folder: Path) -> None:
    """All stages, in one process."""
    clock = Clock()
    root = bglora.init(folder / "harbor", films=[SAMPLE], preset="studio").root
    project = bglora.open(root, given=settings(folder / "models"), jobs=1, listener=clock)
    result = project.run()
    assert result.exit_code == 0, result.failures
    rows = list(clock.rows)
    assert project.run().items == 0
    plates = _records(root, "plates/plates.jsonl")
    engines = Counter(row["record"]["engine"] for row in plates if row["status"] == "made")
    sent_back = [row for row in plates if row["record"].get("detected")]
    scenes = json.loads((root / "scenes" / "scenes.json").read_text("utf-8"))["scenes"]
    captions = [row["record"] for row in _records(root, "datasets/caption.jsonl") if row["status"] == "made"]
    own = sum("said" not in one for one in captions)
    note = f"""\
Plates by who filled them: {", ".join(f"{name} {count}" for name, count in sorted(engines.items()))}. The detector sent
{len(sent_back)} plates back; {sum(row["status"] == "made" for row in sent_back)} of them came out well, the others were
dropped. Scenes: {", ".join(scene["title"] for scene in scenes)}. {own} of {len(captions)} captions are the model's own.
A second run makes nothing. One process; importing the libraries counts where a stage first needs them."""
    head = ["stage", "items", "made", "dropped", "failed", "CPU s", "wall s"]
    write_section("The studio on tiny random checkpoints", f"{COMMAND} --only film", table(head, rows), note)


def layers(folder: Path) -> None:
    """Plates of two shots from true masks under both presets, pixel by pixel."""
    source, truth = film_in(FILM.parent)
    given = true_layers(source, truth, folder / "layers" / source.stem)
    # The noise of a random detector would have characters found on plates, and holes grow.
    studio = [*settings(folder / "models"), "inpaint.detector=false", "inpaint.simple_below=0.01"]
    roots = {}
    for preset, own in (("cpu", []), ("studio", studio)):
        root = bglora.init(folder / preset / source.stem, films=[source], layers=[given], preset=preset).root
        project = bglora.open(root, given=[*own, "inpaint.audit=true", *ALL_FRAMES], jobs=1)
        project.run("ingest")
        for shot in SHOTS:
            result = project.run("segment", "inpaint", only=f"{shot}*")
            assert result.exit_code == 0, result.failures
        roots[preset] = root
    rows = [_compared(shot, kind, roots) for shot, kind in SHOTS.items()]
    head = ["shot", "plates", "recovered %", "guessed %", "recovered otherwise", "by lama", "by brushnet"]
    note = """\
Plates that both presets made, from layers with the film's true masks. "Recovered otherwise": pixels that are a frame's
own or recovered from other frames under either preset, and differ in color or provenance under the other."""
    write_section("True masks under both presets", f"{COMMAND} --only layers", table(head, rows), note)


def _compared(shot: str, kind: str, roots: dict[str, Path]) -> list[str]:
    found = {preset: {row["picture"]: row for row in _plates(root, shot)} for preset, root in roots.items()}
    both = sorted(found["cpu"].keys() & found["studio"].keys())
    differing, recovered, guessed, pixels = 0, 0, 0, 0
    for name in both:
        one, other = (read_picture(root / "plates" / f"{name}.png") for root in roots.values())
        mine, theirs = (read_grey(root / "provenance" / f"{name}.png") for root in roots.values())
        real = (mine <= 1) | (theirs <= 1)
        differing += int((real & ((one != other).any(2) | (mine != theirs))).sum())
        recovered, guessed, pixels = (
            recovered + int((mine == 1).sum()),
            guessed + int((mine > 1).sum()),
            pixels + mine.size,
        )
    engines = Counter(row["record"]["engine"] for row in found["studio"].values())
    shares = [f"{100 * part / max(1, pixels):.2f}" for part in (recovered, guessed)]
    return [
        f"{shot}, {kind}",
        str(len(both)),
        *shares,
        str(differing),
        *(str(engines[e]) for e in ("lama", "brushnet")),
    ]


def _plates(root: Path, shot: str) -> list[dict[str, Any]]:
    return [row for row in _records(root, "plates/plates.jsonl") if row["status"] == "made" and row["item"] == shot]


def _records(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / name).read_text("utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="film,layers")
    chosen = parser.parse_args().only.split(",")
    for part in (film, layers):
        if part.__name__ in chosen:
            folder = Path(tempfile.mkdtemp(prefix="bglora-studio-"))
            try:
                part(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
