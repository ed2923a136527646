"""Evidence that runs of plates show one place: how alike their views are in any light, and matched geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bglora.film.png import read_picture
from bglora.vision.matching import Points, find_points, same_place
from bglora.vision.places import Likeness, Run
from bglora.vision.relight import compare, thumbnail

MOVED = 0.985
"""Cosine of a run's first and last plate below which the camera moved in between."""


class Views:
    """The plates of all runs; each is opened once for either question."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        vectors: np.ndarray,
        embed: Any,
        likeness: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.root, self.files, self.vectors = root, files, vectors
        self.embed, self.likeness = embed, likeness
        self.points: dict[int, Points] = {}

    def compare(self, runs: list[Run]) -> Likeness:
        """How alike runs are: the mean over their views, and the likest two."""
        views = [self._views(run) for run in runs]
        alike = self._alike([plate for own in views for plate in own])
        begins = np.cumsum([0, *map(len, views)])[:-1]
        sizes = np.array([len(own) for own in views], np.float64)
        sums = np.add.reduceat(np.add.reduceat(alike, begins, 0), begins, 1)
        best = np.maximum.reduceat(np.maximum.reduceat(alike, begins, 0), begins, 1)
        return Likeness(self.likeness(sums / np.outer(sizes, sizes)), self.likeness(best))

    def confirm(self, pairs: list[tuple[Run, Run]]) -> list[bool]:
        """Per pair of runs whether matched points agree on one geometry."""
        return [self._same(one, other) for one, other in pairs]

    def _alike(self, plates: list[int]) -> np.ndarray:
        """Cosines of plates, (N, N); of a backend that light misleads, in the light that makes them likest."""
        if not getattr(self.embed, "sees_light", False):
            vectors = self.vectors[plates].astype(np.float64)
            return np.asarray(vectors @ vectors.T)
        thumbs = [thumbnail(read_picture(self.root / self.files[plate])) for plate in plates]
        return compare(thumbs, self.embed.embed).astype(np.float64)

    def _same(self, one: Run, other: Run) -> bool:
        return any(same_place(self._of(a), self._of(b)) for a in self._ends(one) for b in self._ends(other))

    def _views(self, run: Run) -> list[int]:
        """The plate in the middle of a run, and those at its ends where the camera moved in between."""
        middle = run.members[len(run.members) // 2]
        return sorted({*self._ends(run), middle}) if len(self._ends(run)) > 1 else [middle]

    def _ends(self, run: Run) -> list[int]:
        """The first plate of a run, and the last where the camera moved in between."""
        first, last = run.members[0], run.members[-1]
        moved = first != last and float(self.vectors[first] @ self.vectors[last]) < MOVED
        return [first, last] if moved else [first]

    def _of(self, plate: int) -> Points:
        if plate not in self.points:
            self.points[plate] = find_points(read_picture(self.root / self.files[plate]))
        return self.points[plate]
