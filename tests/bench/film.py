"""Films: decoding in exact colors, writing PNG, and shots beside PySceneDetect.

    python -m tests.bench.film

PySceneDetect is left out where it is not installed, and the clips where they are not beside the checkout.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bglora.film.choice import Rule
from bglora.film.ingestion import Ingestion
from bglora.film.png import write_png
from bglora.film.video import VideoFile
from tests.bench.table import table, write_section
from tests.shared import ROOT

ROUNDS = 5
HD = ("bbb_burrow_hd", "sintel_snow_hut")
CLIPS = ("bbb_opening", "bbb_burrow", "bbb_burrow_hd", "sintel_rooftop", "sintel_snow_hut")
EVERY = Rule(fps=0, min_per_shot=1, max_per_shot=0, blur_threshold=0)
COMMAND = "python -m tests.bench.film"


def cpu(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """CPU seconds, all threads together: the least of some rounds after one to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def clip(name: str) -> Path:
    return ROOT / "clips" / f"{name}.mp4"


def decoding() -> None:
    """Frames per second of CPU at 720p."""
    rows = []
    for name in HD:
        frames = 0

        def bare(name: str = name) -> None:
            with VideoFile(clip(name), threads=1) as video:
                for _ in video.decode():
                    pass

        def exact(name: str = name) -> None:
            nonlocal frames
            frames = 0
            with VideoFile(clip(name), threads=1) as video:
                for _, frame in video.decode():
                    video.picture(frame)
                    frames += 1

        def survey(name: str = name) -> None:
            Ingestion(name, clip(name), None, EVERY, True, lambda *_: None).survey()

        seconds = [cpu(work, 3) for work in (exact, bare)] + [cpu(survey, 1)]
        rows.append([f"{name}, 1280 x 720", *(f"{frames / second:.0f}" for second in seconds)])
    head = ["frames per second of CPU", "exact colors", "decoding alone", "survey (shots, titles, sharpness, bars)"]
    note = """\
One thread. Exact colors: FFmpeg's scaler with accurate rounding and full chroma interpolation, within 2 grey levels of
the definition (tests/film/test_color.py). The survey decodes as well; kept frames are decoded again when written."""
    write_section("Decoding a film", COMMAND, table(head, rows), note)


def writing() -> None:
    """Milliseconds of CPU to write one 720p frame losslessly."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.png"
        for name in HD:
            picture = _middle(clip(name))
            bgr, image = np.ascontiguousarray(picture[..., ::-1]), Image.fromarray(picture)
            ways: dict[str, Callable[[], Any]] = {
                "bglora": lambda picture=picture: write_png(path, picture),
                "OpenCV": lambda bgr=bgr: cv2.imwrite(str(path), bgr),
                "OpenCV, level 1": lambda bgr=bgr: cv2.imwrite(str(path), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
                "Pillow": lambda image=image: image.save(path),
                "Pillow, level 1": lambda image=image: image.save(path, compress_level=1),
            }
            for way, work in ways.items():
                milliseconds = 1000 * cpu(work)
                rows.append([f"{way}, {name}", f"{milliseconds:.1f}", f"{path.stat().st_size / 1e6:.2f}"])
    write_section("Writing a frame", COMMAND, table(["one 1280 x 720 frame as PNG", "ms of CPU", "MB"], rows))


def _middle(path: Path) -> np.ndarray:
    with VideoFile(path, threads=1) as video:
        middle = video.announced // 2
        for number, frame in video.decode():
            if number == middle:
                return video.picture(frame)
    raise ValueError(f"{path} has no frame {middle}")


def shots() -> None:
    """Hard cuts found, missed and invented on harbor and the clips; fades, dissolves and titles marked."""
    films = {name: clip(name) for name in CLIPS} | {"harbor": ROOT / "films" / "harbor" / "harbor.mp4"}
    truth = {name: _cuts(name) for name in films}
    facts = {name: Ingestion(name, path, None, EVERY, True, lambda *_: None).survey() for name, path in films.items()}
    own = {
        name: {shot["first"] for shot in fact["shots"] if shot["begins_by"] == "cut"} for name, fact in facts.items()
    }
    marked, wrong = _marked(facts)
    rows = [["bglora", *_score(truth, own), f"{100 * marked:.0f} %", f"{100 * wrong:.1f} %"]]
    for name, found in _scenedetect(films).items():
        # A fade's or dissolve's frames are no hard cuts: what is found there counts neither way.
        hard = {film: {cut for cut in cuts if cut not in _soft(film)} for film, cuts in found.items()}
        rows.append([f"PySceneDetect, {name}", *_score(truth, hard), "–", "–"])
    if importlib.util.find_spec("scenedetect") is None:
        rows.append(["PySceneDetect: not installed here", *["–"] * 5])
    head = ["harbor and the clips", "cuts found", "missed", "invented", "soft frames marked", "other frames marked"]
    note = """\
Hard cuts to the frame. Soft frames: fades, dissolves, black and titles of the clips' tables."""
    write_section("Shots", COMMAND, table(head, rows), note)


def _rows(name: str) -> list[dict[str, Any]]:
    if name == "harbor":
        return []
    return json.loads((ROOT / "clips" / "shots.json").read_text(encoding="utf-8"))[f"{name}.mp4"]


def _cuts(name: str) -> set[int]:
    if name == "harbor":
        path = ROOT / "films" / "harbor" / "truth" / "truth.json"
        return {shot["first"] for shot in json.loads(path.read_text(encoding="utf-8"))["shots"]} - {0}
    return {row["first"] for row in _rows(name) if row["begins_by"] == "cut"}


def _soft(name: str) -> set[int]:
    """Frames of fades and dissolves, and where a shot begins by one; a hard cut's frame is not among them."""
    rows = [row for row in _rows(name) if row["kind"] == "fade"]
    return {number for row in rows for number in range(row["first"], row["last"] + 2)} - _cuts(name)


def _score(truth: dict[str, set[int]], found: dict[str, set[int]]) -> list[str]:
    hits = sum(len(truth[name] & found[name]) for name in truth)
    total = sum(len(cuts) for cuts in truth.values())
    invented = sum(len(found[name] - truth[name]) for name in truth)
    return [f"{hits} of {total}", str(total - hits), str(invented)]


def _marked(facts: dict[str, dict[str, Any]]) -> tuple[float, float]:
    hits = total = wrong = others = 0
    for name in CLIPS:
        parts = [part for shot in facts[name]["shots"] for part in shot["left_out"]]
        found = {number for part in parts for number in range(part["first"], part["last"] + 1)}
        for row in _rows(name):
            numbers = set(range(row["first"], row["last"] + 1))
            if row["kind"] == "shot":
                others, wrong = others + len(numbers), wrong + len(numbers & found)
            else:
                total, hits = total + len(numbers), hits + len(numbers & found)
    return hits / total, wrong / others


def _scenedetect(films: dict[str, Path]) -> dict[str, dict[str, set[int]]]:
    if importlib.util.find_spec("scenedetect") is None:
        return {}
    import scenedetect

    kinds = ("ContentDetector", "AdaptiveDetector", "HistogramDetector", "HashDetector")
    return {
        kind: {
            name: {
                start.frame_num
                for start, _ in scenedetect.detect(str(path), getattr(scenedetect, kind)(), start_in_scene=True)
            }
            - {0}
            for name, path in films.items()
        }
        for kind in kinds
    }


def main() -> None:
    if not clip(CLIPS[0]).exists():
        raise SystemExit(f"the clips are not in {ROOT}; set BGLORA_SHARED")
    cv2.setNumThreads(1)
    decoding()
    writing()
    shots()


if __name__ == "__main__":
    main()
