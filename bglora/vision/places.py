"""Sorts plates into places, from their descriptors, their shots, and matched geometry.

    plates of a shot ─► runs        a shot is one place, unless its plates change from one to the next
    all plates ───────► HDBSCAN     dense groups across the whole film (Campello, Moulavi, Sander 2013)
    pairs of runs ────► likeness    of their likest views
                                    + neighbors in the film, + in one dense group, + geometry confirmed
    average linkage ──► groups      cut at `threshold`
    groups ───────────► scenes      at least `min_size` plates; what is smaller is noise

HDBSCAN alone finds shots, not places: plates of one still shot are near copies of each other, and a place seen from two
sides is two dense groups. So its groups are one witness among three, and runs are what is merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bglora.vision.linking import Compare, Run, blocks, linked

BREAK = 0.44
"""Likeness of plates next to each other in a shot below which a new run begins: as good as unrelated."""
WIDE = 1000
"""From so many plates on, descriptors are reduced to COMPONENTS principal components before HDBSCAN."""
COMPONENTS = 64
SMALL_FILM = 30
"""A film with fewer plates than SMALL_FILM x min_size is small: the minimum follows what is there."""
COVERED, FEW = 0.9, 12
"""Share of a small film's plates that scenes shall hold; a scene needs at most a FEWth of them."""


@dataclass(frozen=True)
class Rules:
    """Settings of `cluster` that matter here; see there."""

    min_size: int = 15
    min_samples: int = 3
    threshold: float = 0.75


@dataclass(frozen=True)
class Places:
    """How plates were sorted.

    Attributes:
        groups: indices of plates, largest minimum met; in order of first appearance.
        scores: per plate 0 to 1: likeness to its own place, for noise to the nearest one.
        nearest: per plate the index of the group it is nearest to.
        too_small: per plate that is in no group, how many plates look like it.
        min_size: the minimum that was used.
    """

    groups: tuple[tuple[int, ...], ...]
    scores: np.ndarray
    nearest: np.ndarray
    too_small: dict[int, int] = field(default_factory=dict)
    min_size: int = 1


def sort_places(
    vectors: np.ndarray,
    shots: Sequence[str],
    likeness: Callable[[np.ndarray], np.ndarray],
    rules: Rules,
    compare: Compare,
    confirm: Callable[[list[tuple[Run, Run]]], list[bool]],
) -> Places:
    """Sorts plates into places. Memory grows with the plates, and with the square of the runs that are linked at all.

    Args:
        vectors: float32 (N, D), rows of length 1, in film order; at least one.
        shots: the shot of each plate, `<source>-s<NNN>`.
        likeness: cosines to likeness; `rules.threshold` is on its scale.
        compare: how alike runs are by their likest views, on the scale of `likeness`.
        confirm: for pairs of runs, whether matched geometry shows the same place.
    """
    runs = find_runs(vectors, shots, likeness)
    labels = linked(runs, _majority(dense_groups(vectors, rules), runs), rules.threshold, compare, confirm)
    members: dict[int, list[int]] = {}
    for at, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(at)
    found = [tuple(sorted(i for at in own for i in runs[at].members)) for own in members.values()]
    least = effective_minimum([len(group) for group in found], rules.min_size)
    groups = tuple(sorted(group for group in found if len(group) >= least))
    nearest, scores = _nearest(runs, groups, compare)
    small = {i: len(group) for group in found if len(group) < least for i in group}
    return Places(groups, scores, nearest, small, least)


def _nearest(runs: list[Run], groups: Sequence[Sequence[int]], compare: Compare) -> tuple[np.ndarray, np.ndarray]:
    """Per plate the group that it is in, or whose likest run is nearest to its own; and how alike they are."""
    count = sum(len(run.members) for run in runs)
    places, scores = np.zeros(count, int), np.zeros(count)
    place_of = {plate: at for at, group in enumerate(groups) for plate in group}
    of = np.array([place_of.get(run.members[0], -1) for run in runs])
    for place in sorted({-1, *of.tolist()}):
        mine = np.flatnonzero(of == place)
        others = mine if place >= 0 else np.flatnonzero(of >= 0)
        for rows in blocks(mine):
            alike = np.array(compare([runs[at] for at in rows], [runs[at] for at in others]), np.float64)
            if len(others) > 1:
                alike[rows[:, None] == others[None]] = -1.0  # a run alone in its place is like itself
            best = alike.argmax(1)
            for k, at in enumerate(rows.tolist()):
                places[list(runs[at].members)] = of[others[best[k]]]
                scores[list(runs[at].members)] = alike[k, best[k]]
    return places, scores


def find_runs(vectors: np.ndarray, shots: Sequence[str], likeness: Callable[[np.ndarray], np.ndarray]) -> list[Run]:
    """Consecutive plates of a shot, divided where neighbors are unlike; order of the film."""
    runs: list[list[int]] = []
    for i, shot in enumerate(shots):
        if i and shots[i - 1] == shot and likeness(vectors[i - 1] @ vectors[i]) >= BREAK:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [Run(shots[members[0]], tuple(members), _unit(vectors[members].mean(0))) for members in runs]


def effective_minimum(sizes: Sequence[int], wanted: int) -> int:
    """The smallest size of a place that is used: `wanted`, or less where the film is small or nothing reaches it.

    In a small film it is the largest minimum with which scenes hold COVERED of all plates, but no more than a
    FEWth of them.
    """
    total = sum(sizes)
    small = total < SMALL_FILM * wanted
    if not small and max(sizes) >= wanted:
        return wanted
    for least in range(min(wanted, max(1, total // FEW)), 1, -1):
        if sum(size for size in sizes if size >= least) >= COVERED * total:
            return least
    return 1


def dense_groups(vectors: np.ndarray, rules: Rules) -> np.ndarray:
    """HDBSCAN's labels, int (N,); -1 is in no dense group. Too few plates for it: all -1."""
    count = len(vectors)
    if count < max(5, 2 * rules.min_samples):
        return np.full(count, -1)
    import hdbscan

    if count > WIDE:
        vectors = _reduced(vectors)
    model: Any = hdbscan.HDBSCAN(
        min_cluster_size=max(2, min(rules.min_size, count // 8)),
        min_samples=rules.min_samples,
        cluster_selection_method="leaf",  # small dense groups: merging them is the linkage's work
        core_dist_n_jobs=1,
    )
    return np.asarray(model.fit_predict(vectors.astype(np.float64)))


def _majority(labels: np.ndarray, runs: list[Run]) -> np.ndarray:
    """Per run the dense group that more than half of its plates are in, else -1."""
    found = np.full(len(runs), -1)
    for at, run in enumerate(runs):
        values, counts = np.unique(labels[list(run.members)], return_counts=True)
        if values[counts.argmax()] >= 0 and counts.max() * 2 > len(run.members):
            found[at] = values[counts.argmax()]
    return found


def _reduced(vectors: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    # by the covariance: a singular value decomposition of all plates takes ten times the memory
    model = PCA(min(COMPONENTS, *vectors.shape), svd_solver="covariance_eigh")
    return np.asarray(model.fit_transform(vectors.astype(np.float64)))


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / (np.linalg.norm(vector) + 1e-9))
