"""The camera returns to a viewpoint: which other shots may show what a shot never does, and plates mended from there.

`segment` records for every shot a few kept frames that together show most of it, with a sketch of each (`Sketchbook`,
remark `views`). `inpaint` compares the sketches when it lists its items (`candidates`), so that the frames and masks
it may look at are inputs of the item, and looks at them only where something was never revealed (`Revisits`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.engine.stage import Row, View

if TYPE_CHECKING:
    import numpy as np

    from bglora.vision.revisit import Pose, Seen

VIEWS = 3
"""Frames of a shot that others may look at."""
CANDIDATES = 3
"""Shots that a shot may look at."""
LEAST_ALIKE = 0.7
"""Correlation of sketches from which two shots may show the same view."""
SMALLEST = 0.0002
"""Share of the frame never revealed from which other shots are asked."""
PATIENCE = 2
"""Frames of a camera at rest that don't match another one before it isn't asked any more."""

SHOTS_AT_ONCE = 128
"""Shots whose sketches are compared with all others at once: memory doesn't grow with the square of the film."""

Views = Mapping[str, Sequence[int]]
"""Shot to numbers of frames."""


class Sketchbook:
    """Collects sketches of a shot's frames and chooses those that others may look at."""

    def __init__(self) -> None:
        self._pages: dict[int, np.ndarray] = {}

    def add(self, number: int, picture: np.ndarray, masked: np.ndarray) -> None:
        """Sketches frame `number`: picture uint8 (H, W, 3), masked bool (H, W)."""
        from bglora.vision.sketch import sketch

        self._pages[number] = sketch(picture, masked)

    def views(self) -> list[dict[str, Any]]:
        """For the shot's remark: frame numbers, each with its sketch in hexadecimal digits."""
        from bglora.vision.sketch import choose_views

        numbers = sorted(self._pages)
        chosen = choose_views([self._pages[number] for number in numbers], VIEWS)
        return [{"frame": numbers[k], "sketch": self._pages[numbers[k]].tobytes().hex()} for k in chosen]


def candidates(view: View, rows: Iterable[Row]) -> dict[str, dict[str, list[int]]]:
    """For each shot the shots that may show the same view, likest first, with the frames to look at.

    Args:
        rows: outcomes of `segment`. Only frames whose masks were made are offered.
    """
    import numpy as np

    from bglora.vision.sketch import COLUMNS, ROWS, likeness

    made: dict[str, set[int]] = {}
    for row in rows:
        if row.status == "made":
            made.setdefault(row.item, set()).add(int(row.picture.rsplit("/", 1)[1]))
    owners, frames, sketches = [], [], []
    for shot, numbers in sorted(made.items()):
        for one in view.item_record("segment", shot).get("views", []):
            if one["frame"] in numbers:
                owners.append(shot)
                frames.append(one["frame"])
                sketches.append(np.frombuffer(bytes.fromhex(one["sketch"]), np.uint8).reshape(ROWS, COLUMNS))
    if not sketches:
        return {}
    names, begins = np.unique(np.array(owners), return_index=True)
    ends = [*begins[1:].tolist(), len(sketches)]
    found: dict[str, dict[str, list[int]]] = {}
    for at in range(0, len(names), SHOTS_AT_ONCE):
        some = begins[at : at + SHOTS_AT_ONCE]
        own = sketches[some[0] : ends[at + len(some) - 1]]
        alike = np.maximum.reduceat(np.maximum.reduceat(likeness(own, sketches), some - some[0], 0), begins, 1)
        for k, row_of in enumerate(alike, start=at):
            row_of[k] = -1
            likest = [j for j in np.argsort(-row_of, kind="stable")[:CANDIDATES] if row_of[j] >= LEAST_ALIKE]
            if likest:
                found[str(names[k])] = {str(names[j]): frames[begins[j] : ends[j]] for j in likest}
    return found


def files_of(views: Views) -> list[str]:
    """The frames and masks that an item with these views depends on."""
    pictures = [f"{shot}/{number:06d}.png" for shot, numbers in views.items() for number in numbers]
    return [f"{home}/{picture}" for picture in pictures for home in ("frames", "segmented/masks")]


class Revisits:
    """Gives plates of one shot what other shots show of it.

    Args:
        views: shots to ask, likest first, and their frames. still: the shot's camera is at rest.
    """

    def __init__(self, root: Path, views: Views, still: bool) -> None:
        self.root, self.still = root, still
        self.views = {shot: list(numbers) for shot, numbers in views.items()}
        self.frames: dict[tuple[str, int], Seen] = {}
        self.poses: dict[tuple[str, int], Pose] = {}
        self.failures: dict[tuple[str, int], int] = {}

    def may_show(self, provenance: np.ndarray) -> bool:
        """Whether it is worth asking other shots about a plate: there are any, and enough of it was never revealed."""
        from bglora.vision.recovery import GUESSED

        return bool(self.views) and float((provenance == GUESSED).mean()) >= SMALLEST

    def mend(self, picture: np.ndarray, provenance: np.ndarray, hole: np.ndarray) -> dict[str, float]:
        """Puts what other shots show into the pixels of a plate that were never revealed, and into those at their edge.

        For plates that are not filled yet.

        Args:
            picture: uint8 (H, W, 3), provenance: uint8 (H, W), hole: bool (H, W), what is left to fill; all three are
                changed in place.

        Returns:
            Shots that gave something, and the share of the frame that each gave.
        """
        import numpy as np

        from bglora.vision.arrays import grow
        from bglora.vision.recovery import GUESSED, RECOVERED
        from bglora.vision.revisit import EDGE, Seen

        # What the shot showed only right at the edge of what it never did has something of the character in it.
        missing = grow((provenance == GUESSED) & hole, EDGE) & (provenance > 0)
        given: dict[str, float] = {}
        target = Seen(picture.copy(), (provenance <= RECOVERED) & ~missing)
        for shot in self.views:
            offer = self._offer(shot, target, missing)
            if offer is None or not offer.taken.any():
                continue
            picture[offer.taken] = np.clip(np.rint(offer.picture[offer.taken]), 0, 255).astype(np.uint8)
            provenance[offer.taken] = RECOVERED
            hole &= ~offer.taken
            missing &= ~offer.taken
            given[shot] = round(float(offer.taken.mean()), 5)
            if not missing.any():
                break
        return given

    def _offer(self, shot: str, target: Seen, missing: np.ndarray) -> Any:
        """What the frames of one shot agree on; None where none of them shows the view."""
        from bglora.vision.revisit import agreed, seen_again

        found = []
        for number in self.views[shot]:
            pose = self._pose(shot, number, target)
            if pose is not None:
                found.append(seen_again(target, missing, self._frame(shot, number), pose))
        return agreed(found) if found else None

    def _pose(self, shot: str, number: int, target: Seen) -> Pose | None:
        """How a frame lies on this one, found once for a camera at rest. None where it doesn't, or didn't before."""
        from bglora.vision.revisit import find_pose

        key = (shot, number)
        if key in self.poses:
            return self.poses[key]
        if self.still and self.failures.get(key, 0) >= PATIENCE:
            return None
        pose = find_pose(target, self._frame(shot, number))
        if pose is None:
            self.failures[key] = self.failures.get(key, 0) + 1
        elif self.still:
            self.poses[key] = pose
        return pose

    def _frame(self, shot: str, number: int) -> Seen:
        from bglora.film.png import read_picture
        from bglora.stages.sampled import read_mask
        from bglora.vision.revisit import Seen

        key = (shot, number)
        if key not in self.frames:
            name = f"{shot}/{number:06d}.png"
            picture = read_picture(self.root / "frames" / name)
            masked = read_mask(self.root / "segmented" / "masks" / name, (picture.shape[0], picture.shape[1]))
            self.frames[key] = Seen(picture, ~masked)
        return self.frames[key]
