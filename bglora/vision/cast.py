"""The cast of a film: which cut-outs show the same character, told by their colors; and cut-outs put on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from bglora.vision.arrays import U8

BINS = np.linspace(-60.0, 80.0, 15)
"""Edges of a and b in CIELAB; lightness is left out, for shots are lit differently."""
APART = 0.36
"""Mean Hellinger distance of color histograms above which two groups of tracks are different characters."""
STRAY = 1.5
"""Tracks farther from the middle of a group of four or more than so many times the median are lit too differently to be
sure of."""
OPAQUE = 200
SMALLEST = 50


def groups(tracks: Mapping[str, Sequence[U8]]) -> list[list[str]]:
    """Names of tracks by character, the character with the most cut-outs first; strays are left out.

    Average linkage of Hellinger distances between mean chroma histograms.

    Args:
        tracks: name to cut-outs, uint8 RGBA (H, W, 4).
    """
    looks = {name: look for name, cutouts in tracks.items() if (look := colors(cutouts)) is not None}
    names = list(looks)
    if len(names) < 2:
        return [names] if names else []
    values = np.stack([looks[name] for name in names])
    distances = np.sqrt(np.maximum(0.0, 1.0 - values @ values.T))
    upper = distances[np.triu_indices(len(names), 1)]
    labels = fcluster(linkage(upper, "average"), APART, "distance")
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        middle = values[members].mean(axis=0)
        away = np.sqrt(np.maximum(0.0, 1.0 - values[members] @ (middle / np.linalg.norm(middle))))
        limit = STRAY * float(np.median(away)) if len(members) > 3 else np.inf
        found.append([names[member] for member, far in zip(members, away, strict=True) if far <= limit])
    return sorted(found, key=lambda group: (-sum(len(tracks[name]) for name in group), group[0]))


def colors(cutouts: Sequence[U8]) -> np.ndarray | None:
    """Unit vector of square roots of the mean chroma histogram (14 x 14); None if next to nothing is opaque."""
    histograms = []
    for cutout in cutouts:
        inside = cutout[..., 3] > OPAQUE
        if inside.sum() < SMALLEST:
            continue
        lab = cv2.cvtColor(np.ascontiguousarray(cutout[..., :3], np.float32) / 255.0, cv2.COLOR_RGB2LAB)[inside]
        counts, _, _ = np.histogram2d(lab[:, 1], lab[:, 2], bins=(BINS, BINS))
        soft = cv2.GaussianBlur(counts, (0, 0), 1.0)
        histograms.append(np.sqrt(soft / max(soft.sum(), 1e-9)).ravel())
    if not histograms:
        return None
    mean = np.mean(histograms, axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))


def placed(cutout: U8, background: U8, height: float, across: float, down: float) -> tuple[U8, U8]:
    """A cut-out on a picture: the picture (H, W, 3) and the cut-out's alpha there (H, W), both uint8.

    Args:
        cutout: uint8 RGBA. background: uint8 (H, W, 3).
        height: share of the picture's height that it takes; less where its width would not fit.
        across, down: where in the room that is left, 0 to 1.
    """
    rows, columns = background.shape[:2]
    scale = min(height * rows / cutout.shape[0], 0.95 * columns / cutout.shape[1])
    size = (max(1, round(cutout.shape[1] * scale)), max(1, round(cutout.shape[0] * scale)))
    # colors are weighted by alpha, or the transparent pixels' color would stain the edges
    weighted = cutout.astype(np.float32)
    weighted[..., :3] *= weighted[..., 3:] / 255.0
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = int(across * (columns - size[0])), int(down * (rows - size[1]))
    picture, alpha = background.astype(np.float32), np.zeros((rows, columns), np.float32)
    area = slice(top, top + size[1]), slice(left, left + size[0])
    opaque = np.clip(small[..., 3:], 0, 255) / 255.0
    picture[area] = picture[area] * (1.0 - opaque) + small[..., :3]
    alpha[area] = opaque[..., 0] * 255.0
    return np.clip(np.round(picture), 0, 255).astype(np.uint8), np.round(alpha).astype(np.uint8)
