"""Evidence that runs of plates show one place: how alike their likest views are, and matched geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bglora.film.png import read_picture
from bglora.vision.linking import Run
from bglora.vision.matching import Points, find_points, same_place

MOVED = 0.985
"""Cosine of a run's first and last plate below which the camera moved in between."""


class Views:
    """The plates of all runs; each is opened once at most."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        vectors: np.ndarray,
        likeness: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.root, self.files, self.vectors = root, files, vectors
        self.likeness = likeness
        self.points: dict[int, Points] = {}

    def compare(self, rows: Sequence[Run], columns: Sequence[Run]) -> np.ndarray:
        """How alike the likest two views of runs are, (M, N)."""
        if not rows or not columns:
            return np.zeros((len(rows), len(columns)))
        (one, begins), (other, ends) = self._vectors(rows), self._vectors(columns)
        best = np.maximum.reduceat(np.maximum.reduceat(one @ other.T, begins, 0), ends, 1)
        return self.likeness(best)

    def confirm(self, pairs: list[tuple[Run, Run]]) -> list[bool]:
        """Per pair of runs whether matched points agree on one geometry."""
        return [self._same(one, other) for one, other in pairs]

    def _same(self, one: Run, other: Run) -> bool:
        return any(same_place(self._of(a), self._of(b)) for a in self._ends(one) for b in self._ends(other))

    def _vectors(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """The views of runs, float64 (V, D), and where those of each begin."""
        views = [self._views(run) for run in runs]
        found = self.vectors[[plate for own in views for plate in own]].astype(np.float64)
        return found, np.cumsum([0, *map(len, views)])[:-1]

    def _views(self, run: Run) -> list[int]:
        """The first plate of a run, the one in the middle, and the last."""
        return sorted({run.members[0], run.members[len(run.members) // 2], run.members[-1]})

    def _ends(self, run: Run) -> list[int]:
        """The first plate of a run, and the last where the camera moved in between."""
        first, last = run.members[0], run.members[-1]
        moved = first != last and float(self.vectors[first] @ self.vectors[last]) < MOVED
        return [first, last] if moved else [first]

    def _of(self, plate: int) -> Points:
        if plate not in self.points:
            self.points[plate] = find_points(read_picture(self.root / self.files[plate]))
        return self.points[plate]
