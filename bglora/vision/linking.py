"""Which runs of plates are one place: three witnesses, and average linkage cut at a threshold.

Groups of average linkage (UPGMA) that are less alike on average than the threshold are not merged, and where no pair of
two groups reaches it, neither does the average. So runs fall apart into parts without such a pair between them, and the
linkage of each part alone is that of all: nothing grows with the square of a film's length. Likeness is computed anew
where it is needed, some rows at a time, and never held for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOR = 0.125
"""Likeness that being neighbors in the film adds: consecutive shots mostly stay at a place. Half of the way from
unrelated to one place is too little to join places that look unrelated."""
DENSE = 0.06
"""Likeness that being in one dense group of HDBSCAN adds to runs that are not far below the threshold."""
CONFIRMED = 1.0
DOUBT = 0.25
"""Pairs of runs from `threshold - DOUBT` on are looked at for matched geometry."""
MAX_PAIRS = 120
FARTHEST = 2.0
ROUNDING = 1e-9
BLOCK = 256
"""Runs that are compared with others at once."""


@dataclass(frozen=True)
class Run:
    """Consecutive plates of one shot that look alike: indices of plates, and their mean direction (D,)."""

    shot: str
    members: tuple[int, ...]
    mean: np.ndarray


Compare = Callable[[Sequence[Run], Sequence[Run]], np.ndarray]
"""How alike the likest views of M and N runs are, (M, N)."""
Confirm = Callable[[list[tuple[Run, Run]]], list[bool]]


def linked(runs: Sequence[Run], dense: np.ndarray, threshold: float, compare: Compare, confirm: Confirm) -> np.ndarray:
    """Labels of runs, int (R,); those of one place have the same.

    Args:
        dense: int (R,), the dense group of each run; -1 for none.
        threshold: likeness on average from which groups are merged.
        compare: how alike runs are. confirm: for pairs of runs, whether matched geometry shows the same place.
    """
    witnesses = _Witnesses(runs, dense, threshold, compare)
    parts, doubtful = witnesses.looked_over()
    answers = confirm([(runs[i], runs[j]) for i, j in doubtful])
    witnesses.confirmed = [pair for pair, same in zip(doubtful, answers, strict=True) if same]
    parts = _joined(parts, np.array(witnesses.confirmed, int).reshape(-1, 2).T)
    labels, used = np.zeros(len(runs), int), 0
    for part in range(parts.max() + 1):
        members = np.flatnonzero(parts == part)
        own = _merged(witnesses.distances(members), threshold) if len(members) > 1 else np.ones(1, int)
        labels[members] = own + used
        used += int(own.max())
    return labels


def blocks(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Some of the numbers after another, in order."""
    for begin in range(0, len(numbers), BLOCK):
        yield numbers[begin : begin + BLOCK]


class _Witnesses:
    """Likeness of runs with what else speaks for one place."""

    def __init__(self, runs: Sequence[Run], dense: np.ndarray, threshold: float, compare: Compare) -> None:
        self.runs, self.dense, self.threshold, self.compare = runs, dense, threshold, compare
        _, self.source = np.unique([run.shot.rpartition("-s")[0] for run in runs], return_inverse=True)
        self.confirmed: list[tuple[int, int]] = []

    def affinity(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """For runs by number, ascending: float64 (rows, columns)."""
        one, other = rows[:, None], columns[None]
        total = np.array(self.compare([self.runs[i] for i in rows], [self.runs[j] for j in columns]), np.float64)
        near = total >= self.threshold - DENSE
        total += NEIGHBOR * ((np.abs(one - other) == 1) & (self.source[one] == self.source[other]))
        total += DENSE * (near & (self.dense[one] == self.dense[other]) & (self.dense[one] >= 0))
        for pair in self.confirmed:
            for i, j in (pair, pair[::-1]):
                at = np.searchsorted(rows, i), np.searchsorted(columns, j)
                if at[0] < len(rows) and at[1] < len(columns) and rows[at[0]] == i and columns[at[1]] == j:
                    total[at] = max(CONFIRMED, total[at])
        return total

    def looked_over(self) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Parts of the film, int (R,), and the pairs that geometry shall decide.

        Those are the likest MAX_PAIRS, without pairs that are as alike already as geometry could make them.
        """
        everything = np.arange(len(self.runs))
        parts, pairs, worth = everything, np.zeros((2, 0), int), np.zeros(0)
        for rows in blocks(everything):
            columns = everything[rows[0] :]
            total = self.affinity(rows, columns)
            total[columns[None] <= rows[:, None]] = -1.0
            parts = _joined(parts, _numbered(np.nonzero(total >= self.threshold - ROUNDING), rows, columns))
            at = np.nonzero(total >= self.threshold - DOUBT)
            worth, pairs = np.r_[worth, total[at]], np.hstack([pairs, _numbered(at, rows, columns)])
            order = np.argsort(-worth, kind="stable")[:MAX_PAIRS]
            worth, pairs = worth[order], pairs[:, order]
        return parts, sorted((int(i), int(j)) for i, j in pairs[:, worth < CONFIRMED].T)

    def distances(self, members: np.ndarray) -> np.ndarray:
        """Distances of all pairs of some runs as scipy wants them: the upper triangle, row after row."""
        found, at = np.zeros(len(members) * (len(members) - 1) // 2), 0
        for rows in blocks(members):
            columns = members[np.searchsorted(members, rows[0]) :]
            total = self.affinity(rows, columns)
            for k in range(len(rows)):
                part = np.maximum(FARTHEST - total[k, k + 1 :], 0.0)
                found[at : at + len(part)] = part
                at += len(part)
        return found


def _numbered(at: tuple[np.ndarray, ...], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Places in a block as numbers of runs, (2, N)."""
    return np.stack([rows[at[0]], columns[at[1]]])


def _joined(parts: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Parts after runs of some pairs, int (2, N), are in the same: int (R,), from 0."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, first, own = np.unique(parts, return_index=True, return_inverse=True)
    ones, others = np.r_[pairs[0], np.arange(len(parts))], np.r_[pairs[1], first[own]]
    graph = coo_matrix((np.ones(len(ones), bool), (ones, others)), (len(parts), len(parts)))
    return np.asarray(connected_components(graph, directed=False)[1])


def _merged(distances: np.ndarray, threshold: float) -> np.ndarray:
    """Labels from 1 of average linkage, cut where groups are less alike than `threshold`."""
    from scipy.cluster.hierarchy import fcluster, linkage

    return np.asarray(fcluster(linkage(distances, "average"), FARTHEST - threshold, "distance"), int)
