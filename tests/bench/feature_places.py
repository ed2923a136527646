"""Sorting 10,000 plates that are embedded already: seconds and memory, each case in a process of its own.

Drawn descriptors stand for plates of 40 places: scene after scene, each shot a view of its place, its plates near each
other. What `cluster` does besides is reading and embedding plates, and looking for matched points in up to 120 pairs of
runs (25 to 50 ms a plate of 512 x 288, 15 ms a pair).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from tests.bench.table import table, write_section

PLATES, PLACES = 10_000, 40
CASES = (
    ("descriptor, 24 numbers; shots of 2 to 8 plates", 24, 0),
    ("descriptor, plain colors, 653 numbers; the same", 653, 0),
    ("OpenCLIP ViT-L-14, 768 numbers; the same", 768, 0),
    ("descriptor, 24 numbers; shots of 1 or 2 plates", 24, 2),
)
"""What it stands for, length of a descriptor, plates of a shot at most (0: 8)."""


def plates(count: int, dimensions: int, most: int, seed: int = 0) -> tuple[np.ndarray, list[str], list[int]]:
    """Descriptors float32 (N, D) of length 1, and of each plate its shot and its place."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(PLACES, dimensions))
    found: list[np.ndarray] = []
    shots: list[str] = []
    places: list[int] = []
    while len(shots) < count:
        place = int(rng.integers(PLACES))
        for _ in range(rng.integers(4, 15)):
            view = centers[place] + 0.45 * rng.normal(size=dimensions)
            length = int(rng.integers(1 if most else 2, (most or 8) + 1))
            found.append(view + np.cumsum(0.08 * rng.normal(size=(length, dimensions)), 0))
            shots += [f"film-s{len(found):04d}"] * length
            places += [place] * length
    vectors = np.concatenate(found)[:count]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), shots[:count], places[:count]


def measured(dimensions: int, most: int) -> dict[str, float]:
    """Sorts them in this process."""
    from pathlib import Path

    from sklearn.metrics import adjusted_rand_score

    from bglora.backends.embed.descriptor import Descriptor
    from bglora.stages.sameplace import Views
    from bglora.vision.places import Rules, sort_places

    vectors, shots, truth = plates(PLATES, dimensions, most)
    likeness = Descriptor().likeness
    views = Views(Path(), [], vectors, likeness)
    began, wall = time.process_time(), time.perf_counter()
    places = sort_places(vectors, shots, likeness, Rules(), views.compare, lambda pairs: [False] * len(pairs))
    seconds, waited = time.process_time() - began, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    of = {plate: at for at, group in enumerate(places.groups) for plate in group}
    ari = adjusted_rand_score([truth[plate] for plate in of], list(of.values()))
    shown = {"shots": len(set(shots)), "cpu": seconds, "wall": waited, "peak": peak}
    return {**shown, "scenes": len(places.groups), "ari": ari, "noise": 1 - len(of) / PLATES}


def many_plates() -> None:
    """Writes the table."""
    rows = []
    for name, dimensions, most in CASES:
        words = [sys.executable, "-m", "tests.bench.feature_places", str(dimensions), str(most)]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        figures = [f"{found['shots']:.0f}", *(f"{found[key]:.1f}" for key in ("cpu", "wall")), f"{found['peak']:.0f}"]
        scenes = [f"{found['scenes']:.0f} of {PLACES}", f"{found['ari']:.3f}", f"{found['noise']:.1%}"]
        rows.append([name, *figures, *scenes])
    head = ["10,000 plates", "shots", "CPU s", "wall s", "peak MB", "scenes of places", "ARI", "noise"]
    note = (__doc__ or "").partition("\n\n")[2].strip() + " Asked: 10 s and 500 MB, libraries included."
    write_section("Places of 10,000 plates", "python -m tests.bench.feature --only places", table(head, rows), note)


def main(arguments: Sequence[str]) -> None:
    print(json.dumps(measured(int(arguments[0]), int(arguments[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
