"""The page on 10,000 plates: how long the state takes, an act, and a thumbnail.

python -m tests.bench.review
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

import bglora
from bglora.assets import asset
from bglora.engine.runner import Runner
from bglora.engine.stage import Item, Outcome, Tools
from bglora.review.routes import Page, make_app
from tests.bench.engine_large import FRAMES, _Caption, _Cluster, _Ingest, _Inpaint, _put, _Segment
from tests.bench.table import table, write_section

PLATES = 10_000
BASE = "http://127.0.0.1:8000"


class _Masked(_Segment):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        tools.remark({"camera": "still", "unknown": "", "shift_px": 0.0})
        for name in item.pictures:
            record = {"object": 0.1, "effect": 0.01, "tracks": [1]}
            yield Outcome(name, outputs=(_put(tools, f"segmented/masks/{name}.png"),), record=record)


class _Traced(_Inpaint):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        for one in super().make(item, tools):
            outputs = (*one.outputs, _put(tools, f"provenance/{one.picture}.png"))
            yield Outcome(one.picture, outputs=outputs, record=one.record)


def made_project(folder: Path, plates: int) -> Path:
    """A project with so many plates, and a frame, a mask and provenance of each; captions are its last stage."""
    project = bglora.init(folder / f"film-{plates}", films=[asset("harbor.mp4")])
    ingest = _Ingest()
    ingest.shots = plates // FRAMES
    stages = (ingest, _Masked(), _Traced(), _Cluster(), _Caption())
    result = Runner(project.root, stages, project.settings, project.decisions, jobs=1).run()
    assert not result.failures, result.failures[:3]
    project.status()  # as `bglora review` does before it serves
    return project.root


def _timed(call: Callable[[], Any], times: int = 3) -> tuple[float, float]:
    """Wall and CPU seconds, the best of a few."""
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(found)


def measure(root: Path) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    with TestClient(make_app(Page(bglora.open(root)), "token", 8000), base_url=BASE) as client:
        client.get("/?token=token", follow_redirects=False)
        headers = {"Origin": BASE, "X-Bglora": "1"}
        state: dict[str, Any] = client.get("/api/state").json()

        def row(what: str, figures: tuple[float, float], size: int | None = None) -> None:
            rows.append([what, f"{figures[0]:.3f}", f"{figures[1]:.3f}", f"{size / 1e6:.2f}" if size else ""])

        def act() -> None:
            answer = client.post("/api/act", json={"revision": state["revision"], **wanted}, headers=headers)
            assert answer.status_code == 200, answer.text
            state["revision"] = answer.json()["revision"]

        row("state, first look at every file", _timed(lambda: Page(bglora.open(root)).looks.now()))
        row(
            "state, looked at just before",
            _timed(lambda: client.get("/api/state")),
            len(client.get("/api/state").content),
        )
        wanted: dict[str, Any] = {"act": "drop", "items": [f"{state['shots'][3]['name']}/*"]}
        row("drop a shot, and what that makes again", _timed(act))
        row("state after that", _timed(lambda: client.get("/api/state")))
        wanted = {"act": "drop", "items": sorted(state["plates"])[:1000]}
        row("drop 1,000 plates by name", _timed(act, 1))
        row("state after that", _timed(lambda: client.get("/api/state")))
        wanted = {"act": "drop", "items": sorted(state["plates"])[1000:1001]}
        row("drop one more", _timed(act, 1))
        wanted = {"act": "undo"}
        row("undo", _timed(act, 1))
        names = sorted(state["plates"])[:20]
        noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
        for name in names:
            Image.fromarray(noise).resize((1920, 1080)).save(root / f"plates/{name}.png", compress_level=1)
        asked = iter(names)
        row("thumbnail of 1920 × 1080, made", _timed(lambda: client.get(f"/picture/plate/{next(asked)}?w=320"), 10))
        row("thumbnail, kept", _timed(lambda: client.get(f"/picture/plate/{names[0]}?w=320"), 20))
    return rows


def main() -> None:
    """Makes the project and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(made_project(Path(folder), PLATES))
    note = """\
Questions to the page's server within one process, the best of a few. An act answers with what it makes stale, so every
stage is listed anew; the state after it needs no second look. Pictures are files of a few bytes but for thumbnails."""
    head = ["10,000 plates", "wall s", "CPU s", "MB"]
    write_section("The page with hands", "python -m tests.bench.review", table(head, rows), note)


if __name__ == "__main__":
    main()
