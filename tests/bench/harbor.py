"""The sample film in other forms: as a folder of frames, with layers of an earlier segmentation, and by these alone.

    python -m tests.bench.harbor

Needs the folder `shared` beside the checkout (see tests/shared.py). The film itself: tests/bench/plates.py.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.bench.acceptance import COLUMNS, completed
from tests.bench.projects import ALL_FRAMES, FILM, TRUTH, frames_of, made, scorer, true_holes
from tests.bench.table import table, write_section


def forms(folder: Path) -> None:
    """Scores each form over all shots."""
    score = scorer()
    frames = frames_of(FILM, folder / "source" / "harbor")
    layers = frames_of(FILM, folder / "layers" / "harbor" / "background", true_holes()).parent
    projects = {
        "frames in a folder": made(folder / "frames" / "harbor", [frames], [], "inpaint", *ALL_FRAMES),
        "film, and layers with holes": made(folder / "both" / "harbor", [FILM], [layers], "inpaint", *ALL_FRAMES),
        "layers with holes alone": made(folder / "alone" / "harbor", [], [layers], "inpaint", *ALL_FRAMES),
    }
    rows = []
    for name, project in projects.items():
        figures = completed(score.score(str(project.root), str(TRUTH), quiet=True)["overall"], "still")
        rows.append([name, *("–" if figures[key] is None else f"{figures[key]:.{n}f}" for _, key, n in COLUMNS)])
    head = ["all shots", *(title for title, _, _ in COLUMNS)]
    write_section("Sample film in other forms", "python -m tests.bench.harbor", table(head, rows))


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bglora-harbor-"))
    try:
        forms(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
