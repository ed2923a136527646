"""Runs of plates become places: part by part, with the same end as all at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from bglora.vision.linking import CONFIRMED, DENSE, DOUBT, FARTHEST, MAX_PAIRS, NEIGHBOR, Run, linked

THRESHOLD = 0.75


def film(runs: int, places: int, seed: int) -> tuple[list[Run], np.ndarray]:
    """Runs of two sources at some places that look more or less alike, and the dense group of each."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(places, 6))
    at = rng.integers(places, size=runs)
    vectors = centers[at] + 0.5 * rng.normal(size=(runs, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    dense = np.where(rng.random(runs) < 0.5, at, -1)
    return [Run(f"{'ab'[k % 7 == 0]}-s{k:03d}", (k,), vector) for k, vector in enumerate(vectors)], dense


def compare(rows: Sequence[Run], columns: Sequence[Run]) -> np.ndarray:
    one, other = (np.stack([run.mean for run in runs]) for runs in (rows, columns))
    return np.clip((one @ other.T + 0.6) / 1.6, 0, 1)


def same(pair: tuple[Run, Run]) -> bool:
    return sum(run.members[0] for run in pair) % 3 == 0


def at_once(runs: list[Run], dense: np.ndarray) -> np.ndarray:
    """The same by the whole matrix."""
    total, plain = compare(runs, runs), compare(runs, runs)
    for k in range(len(runs) - 1):
        if runs[k].shot[0] == runs[k + 1].shot[0]:
            total[[k, k + 1], [k + 1, k]] += NEIGHBOR
    total += DENSE * ((dense[:, None] == dense) & (dense >= 0) & (plain >= THRESHOLD - DENSE))
    pairs = sorted(
        (-total[i, j], i, j)
        for i in range(len(runs))
        for j in range(i + 1, len(runs))
        if total[i, j] >= THRESHOLD - DOUBT
    )
    for _, i, j in pairs[:MAX_PAIRS]:
        if same((runs[i], runs[j])):
            total[[i, j], [j, i]] = max(CONFIRMED, total[i, j])
    distance = np.maximum(FARTHEST - total, 0)
    np.fill_diagonal(distance, 0)
    return np.asarray(
        fcluster(linkage(squareform(distance, checks=False), "average"), FARTHEST - THRESHOLD, "distance")
    )


@pytest.mark.parametrize("runs", [2, 40, 300])
def test_parts_of_a_film_linked_one_by_one_are_the_places_of_the_whole(runs: int) -> None:
    for seed in range(3):
        found, dense = film(runs, max(2, runs // 8), seed)
        labels = linked(found, dense, THRESHOLD, compare, lambda pairs: [same(pair) for pair in pairs])
        wanted = at_once(found, dense)
        assert ((labels[:, None] == labels) == (wanted[:, None] == wanted)).all()
        assert runs < 40 or 2 < len(set(labels.tolist())) < runs


def test_nothing_is_held_for_all_pairs_of_a_long_film() -> None:
    runs, dense = film(600, 60, 0)
    asked = []

    def watched(rows: Sequence[Run], columns: Sequence[Run]) -> np.ndarray:
        asked.append(len(rows) * len(columns))
        return compare(rows, columns)

    linked(runs, dense, 0.99, watched, lambda pairs: [False] * len(pairs))
    assert max(asked) < 600 * 600 / 2


def test_one_run_is_one_place() -> None:
    runs, dense = film(1, 1, 0)
    assert linked(runs, dense, THRESHOLD, compare, lambda pairs: []).tolist() == [1]
