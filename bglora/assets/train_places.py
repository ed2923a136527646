"""Learns the projection of the backend `descriptor`: what differs between places, not within one.

    python -m bglora.assets.train_places --stills FOLDER --out FILE

Fisher's discriminants of the places of rendered stills, each seen by up to three cameras, as a whole and in parts, and
in RELIT other exposures and white balances a camera.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.linalg import eigh

from bglora.vision.descriptor import measure

RELIT = 6
GAMMA, GAIN = (0.75, 1.3), 0.1
DIRECTIONS = 24
SHRINK = 0.1
"""Share of the identity in the covariance within places (Ledoit and Wolf's form): 762 views do not fill 1354 axes."""
LAYOUT, LAYOUT_SHARE = slice(1258, 1306), 0.04
"""Measurements in CIELAB units, and their weight in standard deviations beside histograms of length 1."""


def place_of(file: Path) -> str:
    """The built place of a still: its name without camera and part."""
    return file.stem.rpartition("-")[0]


def relit(picture: np.ndarray, camera: str) -> Iterator[np.ndarray]:
    """A picture as it is and in RELIT other lights, the same for all pictures of a camera."""
    yield picture
    for number in range(1, RELIT + 1):
        rng = np.random.default_rng([number, *camera.encode()])
        changed = (picture / 255) ** rng.uniform(*GAMMA) * rng.uniform(1 - GAIN, 1 + GAIN, 3)
        yield (np.clip(changed, 0, 1) * 255).round().astype(np.uint8)


def learn(vectors: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and discriminants (D, DIRECTIONS) of vectors (N, D) and their places (N,).

    Directions are scaled so that the covariance within places is 1, then by what share of their variance is between
    places, as in probabilistic LDA (Ioffe 2006).
    """
    scale = np.ones(vectors.shape[1])
    scale[LAYOUT] = LAYOUT_SHARE / vectors[:, LAYOUT].std(0)
    mean = vectors.mean(0)
    centered = (vectors - mean) * scale
    names, at = np.unique(places, return_inverse=True)
    centers = np.stack([centered[at == k].mean(0) for k in range(len(names))])
    apart = centered - centers[at]
    within = apart.T @ apart / (len(vectors) - len(names))
    within = (1 - SHRINK) * within + SHRINK * np.trace(within) / len(within) * np.eye(len(within))
    ratio, directions = eigh(np.cov(centers.T), within)
    ratio, directions = ratio[::-1][:DIRECTIONS], directions[:, ::-1][:, :DIRECTIONS]
    return mean, scale[:, None] * directions * np.sqrt(ratio / (1 + ratio))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stills", type=Path, required=True, help="folder of PLACE-CAMERA(a|b|c).jpg")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    given = parser.parse_args()
    files = sorted(path for path in given.stills.glob("*.jpg") if path.stem[-1] in "abc")
    vectors, places = [], []
    for file in files:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        vectors += [measure(view) for view in relit(picture, file.stem[:-1])]
        places += [place_of(file)] * (RELIT + 1)
    mean, basis = learn(np.stack(vectors).astype(np.float64), np.array(places))
    np.savez(given.out, mean=mean.astype(np.float32), basis=basis.astype(np.float32))
    print(f"{len(set(places))} places, {len(places)} pictures")


if __name__ == "__main__":
    main()
