"""Pictures that wait on disk until they are needed again: a shot's plates in full size don't fit into memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np


class Shelf(Sequence["np.ndarray"]):
    """A sequence of arrays, each in a file of its own in `folder`; one at a time is read into memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, picture: np.ndarray) -> None:
        """Puts a picture behind the others."""
        self._count += 1
        self[self._count - 1] = picture

    def clear(self) -> None:
        """Removes all pictures and the folder."""
        shutil.rmtree(self.folder)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> Any:
        import numpy as np

        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(self._count))]
        return np.load(self._path(place), allow_pickle=False)

    def __setitem__(self, place: int, picture: np.ndarray) -> None:
        import numpy as np

        np.save(self._path(place), picture, allow_pickle=False)

    def _path(self, place: int) -> Path:
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self.folder / f"{place % self._count}.npy"
