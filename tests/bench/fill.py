"""Fill: every frame of the sample film that shows a character, filled from that frame alone, beside OpenCV.

    python -m tests.bench.fill [--every N]

Needs the folder `shared` beside the checkout (see tests/shared.py): the film, its truth and the scorer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bglora import backends
from bglora.film.video import VideoFile
from bglora.settings.plates import InpaintSettings
from bglora.vision.metrics import ssim_map
from tests.bench.projects import FILM, TRUTH, scorer
from tests.bench.table import table, write_section

COMMAND = "python -m tests.bench.fill"
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class Sums:
    """Sums over the hole pixels of some frames."""

    pixels: int = 0
    squares: float = 0.0
    likeness: float = 0.0
    seconds: float = 0.0
    slowest: float = 0.0
    frames: int = 0

    def add(self, filled: np.ndarray, clean: np.ndarray, hole: np.ndarray, seconds: float) -> None:
        """Counts one frame in."""
        self.pixels += int(hole.sum())
        self.squares += float(((filled.astype(np.float64) - clean)[hole] ** 2).mean(1).sum())
        self.likeness += float(ssim_map(filled, clean)[hole].sum())
        self.seconds += seconds
        self.slowest = max(self.slowest, seconds)
        self.frames += 1

    @property
    def psnr_db(self) -> float:
        """Pooled over all hole pixels."""
        return float(10 * np.log10(65025 / (self.squares / self.pixels)))

    @property
    def ssim(self) -> float:
        """Mean of the map over all hole pixels."""
        return self.likeness / self.pixels


def engines() -> dict[str, Fill]:
    """Who fills, by name."""
    patch = backends.load("fill", "patch", InpaintSettings())

    def opencv(flag: int, grown: int) -> Fill:
        def fill(frame: np.ndarray, hole: np.ndarray) -> np.ndarray:
            mask = cv2.dilate(hole.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1,) * 2))
            return np.where(hole[..., None], cv2.inpaint(frame, mask, 5, flag), frame)

        return fill

    return {
        "patch": lambda frame, hole: patch.fill(frame, hole, seed=1),
        "Telea": opencv(cv2.INPAINT_TELEA, 0),
        "Navier-Stokes": opencv(cv2.INPAINT_NS, 0),
        "Telea, hole grown by 2": opencv(cv2.INPAINT_TELEA, 2),
        "Navier-Stokes, hole grown by 2": opencv(cv2.INPAINT_NS, 2),
    }


def holes(every: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Shot type, frame, hole (object and effect) and clean plate of every N-th frame that shows a character."""
    truth = scorer().Truth(str(TRUTH))
    seen = 0
    with VideoFile(FILM, threads=1) as video:
        for number, coded in video.decode():
            objects = truth.mask(number, "objects")
            if not objects.any():
                continue
            seen += 1
            if (seen - 1) % every:
                continue
            shot = truth.shots[truth.of[number][0]]
            clean = np.ascontiguousarray(truth.plate(number)[..., ::-1])
            yield shot["type"], video.picture(coded), objects | truth.mask(number, "effects"), clean


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take every N-th of the frames with a character")
    every = parser.parse_args().every
    if not FILM.exists():
        raise SystemExit(f"{FILM} is not there; set BGLORA_SHARED")
    cv2.setNumThreads(1)
    fills = engines()
    sums: dict[tuple[str, str], Sums] = {}
    for kind, frame, hole, clean in holes(every):
        for name, fill in fills.items():
            started = time.process_time()
            filled = fill(frame, hole)
            seconds = time.process_time() - started
            for group in ("all", kind):
                sums.setdefault((group, name), Sums()).add(filled, clean, hole, seconds)
    rows = []
    for group in dict.fromkeys(group for group, _ in sums):
        for name in fills if group == "all" else list(fills)[:3]:
            one = sums[group, name]
            figures = (f"{one.psnr_db:.2f}", f"{one.ssim:.3f}", f"{one.seconds / one.frames:.2f}", f"{one.slowest:.2f}")
            rows.append([f"{group}: {name}", str(one.frames), *figures])
    head = ["true holes, 512 x 288", "frames", "PSNR dB", "SSIM in the hole", "CPU s a frame", "slowest"]
    note = """\
PSNR is pooled over all hole pixels, SSIM is the map's mean over them; both against the clean plate.
OpenCV's radius is 5."""
    command = COMMAND if every == 1 else f"{COMMAND} --every {every}"
    write_section("Fill of the sample film's true holes", command, table(head, rows), note)


if __name__ == "__main__":
    main()
