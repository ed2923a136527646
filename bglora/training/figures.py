"""What a grid of test pictures shows, in figures: likeness, prompt following, variety, copies. Arrays in, numbers out.

A grid has one picture per (scale, prompt, seed); `embeddings` is float32 (scales, prompts, seeds, D), every vector of
length 1, so that the product of two is their similarity (cosine). Scale number 0 is the control: the base alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

F32 = np.ndarray
DRAWS = 2000
COPY, TWIN = 0.9, 0.97
"""Correlation of layouts from which a picture may be a copy of another; and from which two plates show one view."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def bootstrap(values: F32, seed: int = 0) -> Estimate:
    """Mean of (n,) values with the percentile bootstrap's 95 % interval (Efron 1979)."""
    values = np.asarray(values, np.float64).ravel()
    draws = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    means = values[draws].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high))


def wilson(hits: int, total: int) -> Estimate:
    """A share with Wilson's 95 % interval (Wilson 1927)."""
    if total == 0:
        return Estimate(0.0, 0.0, 1.0)
    z = 1.959964
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Estimate(share, float(max(0.0, middle - half)), float(min(1.0, middle + half)))


def difference(here: Estimate, there: Estimate) -> Estimate:
    """Share `here` minus share `there`, of samples apart from each other, from their own Wilson intervals (Newcombe
    1998, method 10): intervals may overlap a little where the difference is sure.
    """
    gap = here.mean - there.mean
    below = np.hypot(here.mean - here.low, there.high - there.mean)
    above = np.hypot(here.high - here.mean, there.mean - there.low)
    return Estimate(gap, float(gap - below), float(gap + above))


def likeness(embeddings: F32, plates: F32) -> F32:
    """Similarity of every picture to the plate that it is most like, (scales, prompts, seeds); plates are (n, D)."""
    similar: F32 = embeddings @ plates.T
    return np.asarray(similar.max(axis=-1))


def following(embeddings: F32) -> F32:
    """How far apart the prompts' pictures of the same seed lie, (scales, seeds): 1 - similarity, mean over pairs."""
    return _spread(np.swapaxes(embeddings, 1, 2))


def place_retention(embeddings: F32, elsewhere: Sequence[int]) -> F32 | None:
    """By how much pictures of other places are more like the base's of their prompt than its of the other prompts are.

    A difference of similarities, (scales, n): one value a prompt and seed. A picture is compared with the base's of
    other seeds only, since an unchanged one of its own seed would say more than a faultless one of another. As a share
    of the base's own (`ratio`), 1 is the place that was asked for and 0 as strange to it as another prompt's. None
    where it can't be told: one seed, no such prompt, or a base that surely tells none of them apart.

    Args:
        embeddings: unit vectors (scales, prompts, seeds, D), the base alone first.
        elsewhere: numbers of the prompts that name other places.
    """
    base, seeds = embeddings[0], embeddings.shape[2]
    if seeds < 2:
        return None
    found = []
    for number in elsewhere:
        alike = embeddings[:, number] @ base[number].T  # (scales, seeds, seeds)
        within = alike[..., ~np.eye(seeds, dtype=bool)].reshape(len(embeddings), seeds, -1).mean(axis=-1)
        strangers = np.delete(base, number, axis=0).reshape(-1, base.shape[-1])
        retained = within - (base[number] @ strangers.T).mean()
        if bootstrap(retained[0]).low > 0:
            found.append(retained)
    return np.concatenate(found, axis=1) if found else None


def variety(embeddings: F32) -> F32:
    """How far apart the seeds' pictures of the same prompt lie, (scales, prompts): 1 - similarity, mean over pairs."""
    return _spread(embeddings)


def _spread(vectors: F32) -> F32:
    """Mean of 1 - similarity over pairs of the last but one axis; 0 where there is nothing to pair."""
    count = vectors.shape[-2]
    if count < 2:
        return np.zeros(vectors.shape[:-2])
    similar = vectors @ np.swapaxes(vectors, -1, -2)
    first, second = np.triu_indices(count, 1)
    return np.asarray(1.0 - similar[..., first, second].mean(axis=-1))


def ratio(values: F32, seed: int = 0) -> list[Estimate]:
    """Each scale's mean over the control's, bootstrapped over the second axis; values are (scales, n)."""
    draws = np.random.default_rng(seed).integers(0, values.shape[1], (DRAWS, values.shape[1]))
    control = np.maximum(values[0][draws].mean(axis=1), 1e-9)
    found = []
    for row in values:
        low, high = np.quantile(row[draws].mean(axis=1) / control, (0.025, 0.975))
        found.append(Estimate(float(row.mean() / max(values[0].mean(), 1e-9)), float(low), float(high)))
    return found


def layouts(pictures: np.ndarray, side: int = 24) -> F32:
    """uint8 (n, H, W, 3) to centered, normed luminance (n, side * side): what a copy shares with its original."""
    import cv2

    found = []
    for picture in pictures:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).ravel()
        small -= small.mean()
        found.append(small / max(float(np.linalg.norm(small)), 1e-6))
    return np.stack(found)


def nearest(pictures: np.ndarray, training: np.ndarray) -> F32:
    """Correlation of each picture's layout with the training picture (or its mirror image) that is nearest, (n,)."""
    own = layouts(pictures)
    known = np.concatenate([layouts(training), layouts(training[:, :, ::-1])])
    return np.asarray((own @ known.T).max(axis=1))


def copy_limit(held_out: np.ndarray, training: np.ndarray) -> float:
    """Correlation of layouts beyond which a picture is a copy: above that of every held-out plate. Held-out plates of a
    view that was trained on as well (a camera that stood still) are left out: they are as like as copies are.
    """
    if not len(held_out):
        return COPY
    found = nearest(held_out, training)
    return float(max([COPY, *found[found < TWIN]]))
