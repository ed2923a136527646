"""The report of a film with 10,000 plates: how large it is, how long it takes to build, and to open in Chromium.

The project is made by the pipeline's own stages, which list their items as always; only the making is replaced: the
sample film's frames, true masks and plates, over and over, stand for those of a long film.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import bglora
from bglora.assets import asset
from bglora.engine.runner import Runner
from bglora.engine.stage import Item, Outcome, Tools
from bglora.film.png import write_png
from bglora.stages.caption import Caption
from bglora.stages.cluster import Cluster
from bglora.stages.ingest import Ingest
from bglora.stages.inpaint import Inpaint
from bglora.stages.segment import Segment
from bglora.vision.sheet import write_sheet
from tests.bench.projects import FILM, TRUTH, true_holes, true_shots
from tests.bench.table import table, write_section
from tests.browser.chromium import Browser, executable

SHOTS, FRAMES, SCENES = 2_000, 5, 40
EVERY = 7
"""Frames of the sample film from one that is used to the next: 40 pictures of each kind."""


@cache
def pictures() -> list[dict[str, Path]]:
    """Frame, mask, plate and provenance of some frames of the sample film, as files."""
    folder = Path(tempfile.mkdtemp(prefix="bglora-pictures-"))
    holes, plates = true_holes(), {}
    for shot in true_shots():
        for k in range(shot["count"]):
            plates[shot["first"] + k] = TRUTH / shot["plates"][0 if len(shot["plates"]) == 1 else k]
    capture, found = cv2.VideoCapture(str(FILM)), []
    for number in range(sum(shot["count"] for shot in true_shots())):
        _, frame = capture.read()
        if number % EVERY:
            continue
        hole = (
            cv2.imread(holes[number], cv2.IMREAD_GRAYSCALE) > 0 if number in holes else np.zeros(frame.shape[:2], bool)
        )
        plate = cv2.imread(str(plates[number]))
        kinds = {"frames": frame[..., ::-1], "plates": plate[..., ::-1], "provenance": hole.astype(np.uint8)}
        kinds["segmented/masks"] = hole.astype(np.uint8) * 255
        found.append({kind: folder / f"{kind.replace('/', '-')}-{number}.png" for kind in kinds})
        for kind, picture in kinds.items():
            write_png(found[-1][kind], np.ascontiguousarray(picture))
    return found


def _put(tools: Tools, kind: str, name: str) -> str:
    """Lays the picture of a kind that belongs to a name into scratch, as a hard link."""
    shot, number = name.rpartition("-s")[2].split("/")
    path = f"{kind}/{name}.png"
    (tools.scratch / path).parent.mkdir(parents=True, exist_ok=True)
    os.link(pictures()[(int(shot) * 3 + int(number)) % len(pictures())][kind], tools.scratch / path)
    return path


class _Ingest(Ingest):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        shots: list[dict[str, Any]] = [
            {"name": f"{item.name}-s{k:04d}", "source": item.name, "first": 70 * k, "last": 70 * k + 69, "left_out": []}
            for k in range(SHOTS)
        ]
        video = {"fps": 24.0, "size": [288, 512], "crop": [0, 0, 0, 0], "count": 70 * SHOTS, "lost": []}
        tools.remark({"kind": "video", "titles": "x", "path": item.hints["path"], "digest": "0", "count": 1,
                      "index": [], "video": video, "shots": shots})  # fmt: skip
        for shot in shots:
            for number in range(shot["first"], shot["first"] + 70, 70 // FRAMES):
                name = f"{shot['name']}/{number:06d}"
                record = {"shot": shot["name"], "frame": number, "time": number / 24, "size": [288, 512], "blur": 99.0}
                yield Outcome(name, outputs=(_put(tools, "frames", name),), record=record)


class _Segment(Segment):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        tools.remark({"camera": "still", "unknown": "", "shift_px": 0.0})
        for name in item.pictures:
            outputs = (_put(tools, "segmented/masks", name),)
            yield Outcome(name, outputs=outputs, record={"object": 0.1, "effect": 0.01, "tracks": [1]})


class _Inpaint(Inpaint):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        for name in item.pictures:
            record = {"engine": "patch", "prompt": "", "seed": 1, "hole": 0.1, "recovered": 0.1, "guessed": 0.0,
                      "untrusted": 0.0, "scores": {"psnr_db": 30.0}, "tries": 1, "natural": False}  # fmt: skip
            outputs = (_put(tools, "plates", name), _put(tools, "provenance", name))
            yield Outcome(name, outputs=outputs, record=record)


class _Cluster(Cluster):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        scenes = [{"id": f"scene-{k:02d}", "title": f"Place {k}", "plates": []} for k in range(SCENES)]
        for k, name in enumerate(item.pictures):
            scenes[k * SCENES // len(item.pictures)]["plates"].append(name)  # type: ignore[attr-defined]
        for scene in scenes:
            write_sheet(tools.scratch / f"scenes/{scene['id']}.webp", [pictures()[0]["plates"]])
            for at, name in enumerate(scene["plates"]):
                outputs = (f"scenes/{scene['id']}.webp",) if at == 0 else ()
                yield Outcome(name, outputs=outputs, record={"scene": scene["id"], "score": 1.0})
        tools.remark({"scenes": scenes, "noise": [], "moved": {}, "split": [], "retired": [], "next": SCENES})


class _Caption(Caption):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        tools.remark({"trigger": "t", "prefix": "p", "repeats": 5, "keep_tokens": 2, "flip": True, "held_out": []})
        for at, name in enumerate(item.pictures):
            stem, words = f"datasets/{item.name}/5_t/{name.replace('/', '_')}", f"t, p, view {at}, no characters"
            (tools.scratch / stem).parent.mkdir(parents=True, exist_ok=True)
            os.link(pictures()[at % len(pictures())]["plates"], tools.scratch / f"{stem}.png")
            (tools.scratch / f"{stem}.txt").write_text(words, "utf-8")
            yield Outcome(name, outputs=(f"{stem}.png", f"{stem}.txt"), record={"caption": words})


def made_project(folder: Path) -> Runner:
    """A project with 10,000 plates in 40 scenes."""
    root = bglora.init(folder / "film", films=[asset("harbor.mp4")], preset="cpu").root
    project = bglora.open(root)
    stages = (_Ingest(), _Segment(), _Inpaint(), _Cluster(), _Caption())
    runner = Runner(root, stages, project.settings, project.decisions, jobs=1)
    result = runner.run()
    assert not result.failures, result.failures[:3]
    return runner


def opened(page: Path, profile: Path) -> tuple[float, float]:
    """Seconds until Chromium has loaded the page, and until its last picture was decoded after a jump to the end."""
    with Browser(executable(), profile) as browser:
        began = time.perf_counter()
        browser.open(page, 1280)
        loaded = time.perf_counter() - began
        browser.evaluate(
            "new Promise((done) => { scrollTo(0, 1e9); requestAnimationFrame(() => setTimeout(done, 0)); })"
        )
        return loaded, time.perf_counter() - began


def long_report() -> None:
    """Writes the table."""
    folder = Path(tempfile.mkdtemp(prefix="bglora-report-"))
    try:
        runner = made_project(folder)
        project = bglora.open(runner.root)
        cpu, wall = time.process_time(), time.perf_counter()
        page = project.report()
        spent = [time.process_time() - cpu, time.perf_counter() - wall]
        loads = sorted(opened(page, folder / f"profile-{k}") for k in range(3))
        text = page.read_text("utf-8")
        row = [f"{spent[0]:.1f}", f"{spent[1]:.1f}", f"{page.stat().st_size / 1e6:.1f}", str(text.count("<img "))]
        row += [f"{loads[0][0]:.2f}", f"{loads[0][1]:.2f}"]
        head = ["project", "build CPU s", "build wall s", "page MB", "pictures in it", "open s", "at its end s"]
        shown = table(head, [[f"10,000 plates, {SHOTS:,} shots, {SCENES} scenes", *row]])
        write_section("The report of 10,000 plates", "python -m tests.bench.feature --only report", shown, NOTE)
    finally:
        for place in (folder, pictures()[0]["frames"].parent):
            shutil.rmtree(place, ignore_errors=True)


NOTE = """\
One file with everything in it. Of a long film it shows a part, evenly chosen, and says so: at most 320 frames with mask
and plate, 240 plates by place and 240 at a glance; that is why it stays as small as this. Opened in headless Chromium
from disk: seconds until all is loaded, the browser's own new page included, and until the end of the page was scrolled
to; the best of three. Asked: 3 s."""
