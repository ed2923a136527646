"""A project with 100,000 frames and 100,000 plates in 5,000 shots: `bglora status` and a no-op `bglora run --all`.

The project is made by the pipeline's own stages, which list their items as always; only the making is replaced: files
of a few bytes take the place of pictures, so that the project is there in a minute and not in days.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bglora
from bglora.assets import asset
from bglora.engine.runner import Runner
from bglora.engine.stage import Item, Outcome, Stage, Tools
from bglora.stages.caption import Caption
from bglora.stages.cluster import Cluster
from bglora.stages.compose import Compose
from bglora.stages.ingest import Ingest
from bglora.stages.inpaint import Inpaint
from bglora.stages.segment import Segment
from bglora.stages.test import Test
from bglora.stages.train import Train
from tests.bench.table import table, write_section

SHOTS, FRAMES = 5_000, 20
SCENES = 20


def _put(tools: Tools, path: str) -> str:
    target = tools.scratch / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.encode())
    return path


class _Ingest(Ingest):
    shots = SHOTS

    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        shots: list[dict[str, Any]] = [
            {
                "name": f"{item.name}-s{k:04d}",
                "source": item.name,
                "first": 100 * k,
                "last": 100 * k + 99,
                "left_out": [],
            }
            for k in range(self.shots)
        ]
        video = {"fps": 24.0, "size": [1080, 1920], "crop": [0, 0, 0, 0], "count": 100 * self.shots, "lost": []}
        tools.remark(
            {"kind": "video", "titles": "x", "path": item.hints["path"], "digest": "0", "count": 1, "index": [],
             "video": video, "shots": shots}
        )  # fmt: skip
        for shot in shots:
            for number in range(shot["first"], shot["first"] + 100, 100 // FRAMES):
                name = f"{shot['name']}/{number:06d}"
                record = {
                    "shot": shot["name"],
                    "frame": number,
                    "time": number / 24,
                    "size": [1080, 1920],
                    "blur": 99.0,
                }
                yield Outcome(name, outputs=(_put(tools, f"frames/{name}.png"),), record=record)


class _Segment(Segment):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        tools.remark({"camera": "still", "unknown": "", "shift_px": 0.0})
        for name in item.pictures:
            yield Outcome(name, record={"object": 0.1, "effect": 0.01, "tracks": [1]})


class _Inpaint(Inpaint):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        for name in item.pictures:
            record = {"engine": "patch", "prompt": "", "seed": 1, "hole": 0.1, "recovered": 0.1, "guessed": 0.0,
                      "untrusted": 0.0, "scores": {"psnr_db": 30.0}, "tries": 1, "natural": False}  # fmt: skip
            yield Outcome(name, outputs=(_put(tools, f"plates/{name}.png"),), record=record)


class _Cluster(Cluster):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        scenes: list[dict[str, Any]] = [
            {"id": f"scene-{k:02d}", "title": f"Place {k}", "plates": []} for k in range(SCENES)
        ]
        for k, name in enumerate(item.pictures):
            scene = scenes[k * SCENES // len(item.pictures)]
            scene["plates"].append(name)
            yield Outcome(name, record={"scene": scene["id"], "score": 1.0})
        tools.remark({"scenes": scenes, "noise": [], "moved": {}, "split": [], "retired": [], "next": SCENES})


class _Caption(Caption):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        tools.remark({"trigger": "t", "prefix": "p", "repeats": 5, "keep_tokens": 2, "flip": True, "held_out": []})
        for name in item.pictures[:300]:
            stem = f"datasets/{item.name}/5_t/{name.replace('/', '_')}"
            yield Outcome(
                name, outputs=(_put(tools, f"{stem}.png"), _put(tools, f"{stem}.txt")), record={"caption": "t"}
            )


class _Train(Train):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        outputs = (_put(tools, f"loras/{item.name}.safetensors"), _put(tools, f"loras/{item.name}.json"))
        yield Outcome(item.name, outputs=outputs, record={"trigger": "t"})


class _Test(Test):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        yield Outcome(item.name, outputs=(_put(tools, f"grids/{item.name}/scores.json"),))


class _Compose(Compose):
    def make(self, item: Item, tools: Tools) -> Iterator[Outcome]:
        yield Outcome(item.name, outputs=(_put(tools, f"compositions/{item.name}-0.png"),))


def made_project(folder: Path, shots: int) -> Path:
    """A whole project with `shots` shots of 20 frames; nothing in it is left to do."""
    project = bglora.init(folder / f"film-{shots}", films=[asset("harbor.mp4")], preset="cpu")
    ingest = _Ingest()
    ingest.shots = shots
    stages: Sequence[Stage] = (
        ingest, _Segment(), _Inpaint(), _Cluster(), _Caption(), _Train(), _Test(), _Compose()
    )  # fmt: skip
    result = Runner(project.root, stages, project.settings, project.decisions, jobs=1).run()
    assert not result.failures, result.failures[:3]
    return project.root


LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run([sys.executable, "-m", "bglora", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss, done.stdout]))
"""
"""A small process that starts the command: the peak memory of a child counts from the size of its parent."""


def measured(root: Path, *words: str) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds, peak MB and stdout of a command, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, "-C", str(root), *words], check=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    code, wall, cpu, peak, text = json.loads(done.stdout)
    assert code == 0, text
    return wall, cpu, peak / (1024 if sys.platform != "darwin" else 1024**2), text


def large(folder: Path) -> None:
    """Makes two large projects and writes their table."""
    measure({shots: made_project(folder, shots) for shots in (SHOTS // 4, SHOTS)})


def measure(projects: Mapping[int, Path]) -> None:
    """Writes the table of large projects; number of shots to folder."""
    rows = []
    for shots, root in projects.items():
        measured(root, "run", "--all")  # the second run is the one that has nothing to learn
        label = f"{shots * FRAMES:,} frames and plates, {shots:,} shots"
        for words in (("status", "--json"), ("plan", "--json"), ("run", "--all", "--json")):
            runs = [measured(root, *words) for _ in range(3)]
            wall, cpu, peak, text = sorted(runs)[0]
            if words[0] == "run":
                ended = [json.loads(line) for line in text.splitlines() if "stage-finished" in line]
                assert all(one.get("items", 0) == 0 for one in ended), "something was made again"
            rows.append([f"`bglora {' '.join(words[:2 if words[0] == 'run' else 1])}`, {label}",
                         f"{wall:.2f}", f"{cpu:.2f}", f"{peak:.0f}"])  # fmt: skip
    head = ["nothing to do", "wall s", "CPU s", "peak MB"]
    note = """\
Whole commands in fresh processes, best of three. The project is listed by the pipeline's own stages; its pictures are
files of a few bytes. With more than 50,000 pictures `status` does not look at files in folders in which none came or
went since the last look (`plan` and `run` do)."""
    write_section("A large project", "python -m tests.bench.engine", table(head, rows), note)
