"""Speed and memory of `segment` and `inpaint`, each project in a process of its own.

python -m tests.bench.plate_speed PROJECT [SETTING ...]      one measurement, as JSON (the benchmark calls it)
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import bglora
from tests.bench.heldout import KINDS, draw
from tests.bench.projects import ALL_FRAMES, FILM, encode, frames_of, made, true_shots
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.plates --only speed"
SHOT = 2
"""Shot of the sample film: still camera, two characters, grain, 24 frames."""
ASKED = {"512 x 288": 6.0, "1280 x 720": 40.0}
"""Seconds of wall time that segment and inpaint of the shot may take."""
MOST_MB = 2048
LENGTHS = (60, 120, 240)
GROUPS = 64
"""Frames kept of the large shot: enough for two groups of frames that are looked at together; more add time alone."""
STEPS = (
    ("camera", "bglora.vision.camera", "estimate_camera"),
    ("exposure", "bglora.vision.exposure", "estimate_gains"),
    ("masks", "bglora.backends.masks.motion", "MotionMasks.masks"),
    ("recovery", "bglora.vision.plates", "ShotPlates.__post_init__"),
    ("recovery", "bglora.vision.plates", "ShotPlates.plate"),
    ("rating", "bglora.vision.rating", "rate_fill"),
    ("fill", "bglora.vision.filling", "ShotFill.apply"),
    ("audit", "bglora.vision.audit", "leaks"),
    ("reading", "bglora.film.png", "read_picture"),
    ("writing", "bglora.film.png", "write_png"),
)
"""Steps, and what does them. A step that another one calls counts as itself."""


def speed(folder: Path, given: argparse.Namespace) -> None:
    """Seconds with the share of each step, seconds by the number of frames, peak memory."""
    rows = []
    names = list(dict.fromkeys(step for step, _, _ in STEPS))
    for size, most in ASKED.items():
        width, height = (int(side) for side in size.split(" x "))
        one = _measured(
            _scaled(folder / "speed" / size.replace(" ", ""), width, height), folder / "speed" / f"p{width}"
        )
        shares = [f"{one['steps'].get(name, 0) / one['wall']:.0%}" for name in names]
        rest = 1 - sum(one["steps"].values()) / one["wall"]
        # One process that seldom uses a second core: on an idle machine its wall time is hardly above its CPU time.
        wall = f"{one['wall']:.1f}" if min(one["wall"], one["cpu"]) <= most else f"**{one['wall']:.1f} ✗**"
        rows.append([size, wall, f"{most:.0f}", f"{one['cpu']:.1f}", *shares, f"{rest:.0%}", f"{one['peak_mb']:.0f}"])
    head = ["24 frames, still camera", "wall s", "asked", "CPU s", *names, "else", "peak MB"]
    note = """\
`segment` and `inpaint` of shot 02 of the sample film, as it is and scaled up, all frames kept, one process; steps as
shares of the wall time. A cross: wall and CPU time are both above what is asked (on a busy machine only the CPU time
means anything). The peak is of the whole process, Python and libraries included."""
    write_section("Plates: seconds by step", COMMAND, table(head, rows), note)
    _growth(folder / "growth")


def _growth(folder: Path) -> None:
    rows = []
    for count in LENGTHS:
        one = _measured(_crossing(folder / f"short{count}.mp4", count, 1), folder / f"p{count}")
        rows.append([f"512 x 288, {count} frames", *_cells(one, count), ""])
    count = LENGTHS[-1]
    some = ("ingest.fps=0", f"ingest.max_per_shot={GROUPS}")
    one = _measured(_crossing(folder / "large.mp4", count, 4), folder / "large", *some)
    peak = f"{one['peak_mb']:.0f}"
    cells = _cells(one, GROUPS)
    cells[-1] = peak if one["peak_mb"] <= MOST_MB else f"**{peak} ✗**"
    rows.append([f"1920 x 1080, {count} frames, {GROUPS} of them kept", *cells, f"{MOST_MB}"])
    head = ["still camera, somebody walks by", "wall s", "CPU s", "CPU ms a plate", "peak MB", "asked"]
    note = """\
A drawn shot (tests/bench/heldout.py), all frames kept where nothing else is said, one process; `segment` and `inpaint`
alone."""
    write_section("Plates: long shots", COMMAND, table(head, rows), note)


def _cells(one: dict[str, Any], count: int) -> list[str]:
    milliseconds = 1000 * one["cpu"] / count
    return [f"{one['wall']:.1f}", f"{one['cpu']:.1f}", f"{milliseconds:.0f}", f"{one['peak_mb']:.0f}"]


def _scaled(folder: Path, width: int, height: int) -> Path:
    """The shot's frames as pictures of a size."""
    shot = true_shots()[SHOT]
    whole = frames_of(FILM, folder.with_name(folder.name + "-film"))
    folder.mkdir(parents=True)
    for number in range(shot["first"], shot["first"] + shot["count"]):
        picture = cv2.imread(str(whole / f"{number:06d}.png"))
        if picture.shape[1] != width:
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)
        cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


def _crossing(path: Path, count: int, times: int) -> Path:
    """A drawn shot of `count` frames as a film of 512 x 288, or, with `times` 4, of 1920 x 1080."""
    scale = 4 / 3 if times == 1 else 5 / 4
    shot = draw(replace(KINDS[0], count=count), scale=scale)

    def frames() -> Iterator[np.ndarray]:
        for frame in shot.frames:
            yield cv2.resize(frame, None, fx=times, fy=times, interpolation=cv2.INTER_LANCZOS4) if times > 1 else frame

    return encode(frames(), path, 18)


def _measured(source: Path, root: Path, *given: str) -> dict[str, Any]:
    """Ingests here, then segments and inpaints in a process of its own."""
    settings = given or ALL_FRAMES
    made(root, [source], [], "ingest", *settings)
    command = [sys.executable, "-m", "tests.bench.plate_speed", str(root), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class _Steps:
    """Wall seconds of each step, without those of the steps it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def watch(self, step: str, module: str, name: str) -> None:
        """Replaces a function or a method by one that is timed."""
        home: Any = importlib.import_module(module)
        *outer, last = name.split(".")
        for part in outer:
            home = getattr(home, part)
        setattr(home, last, self._timed(step, getattr(home, last)))

    def _timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[step] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return timed


def main() -> None:
    root = Path(sys.argv[1])
    steps = _Steps()
    for step, module, name in STEPS:
        steps.watch(step, module, name)
    project = bglora.open(root, given=sys.argv[2:], jobs=1)
    began, cpu = time.perf_counter(), time.process_time()
    result = project.run("segment", "inpaint")
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert result.exit_code == 0, result.failures
    plates = len(list((root / "plates").glob("*/*.png")))
    print(json.dumps({"wall": wall, "cpu": cpu, "steps": steps.seconds, "plates": plates, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    """Largest resident memory of this process. `ru_maxrss` would not do on Linux: it begins at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


if __name__ == "__main__":
    main()
