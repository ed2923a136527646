"""Which frames of a shot `segment` and `inpaint` look at, and how they get them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np


def groups(kept: Sequence[int], others: Sequence[int], limit: int) -> list[list[int]]:
    """Frames looked at together: numbers in ascending order, every kept frame in exactly one group.

    A shot with more kept frames than `limit` is gone through in interleaved groups, each spread over the whole shot, so
    that memory is bounded and time grows linearly. A smaller one is filled up with other frames, evenly chosen.

    Args:
        kept: numbers of the kept frames.
        others: numbers of further frames of the shot that may be looked at.
        limit: frames of a group at most.
    """
    if len(kept) > limit:
        count = -(-len(kept) // limit)
        return [list(kept[k::count]) for k in range(count)]
    room = limit - len(kept)
    free = [number for number in others if number not in set(kept)]
    if len(free) > room:
        free = _filling(kept, free, room)
    return [sorted({*kept, *free})]


def _filling(kept: Sequence[int], free: Sequence[int], room: int) -> list[int]:
    """`room` of the free frames such that they and the kept ones cover the shot evenly: the widest gap first."""
    chosen: list[int] = []
    taken = sorted(kept)
    for _ in range(room):
        best = max(free, key=lambda n: (min((abs(n - t) for t in taken), default=0), -n))
        chosen.append(best)
        taken.append(best)
        free = [n for n in free if n != best]
    return chosen


def usable(first: int, last: int, left_out: Iterable[Mapping[str, Any]]) -> list[int]:
    """Numbers of a shot's frames outside the parts that were left out (fades, titles, blurred, duplicates)."""
    out = {n for part in left_out for n in range(part["first"], part["last"] + 1)}
    return [n for n in range(first, last + 1) if n not in out]


def source_of_shot(remark: Mapping[str, Any], layers: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What reading a shot's frames needs of its source's remark; an item of a long film doesn't carry all of the film.

    Args:
        remark: what `ingest` recorded of the source.
        layers: the entries of `remark["layers"]` that are the shot's own.
    """
    needed = {key: value for key, value in remark.items() if key not in ("shots", "layers")}
    return {**needed, "layers": {**remark["layers"], "frames": list(layers)}} if layers else needed


def read_frames(
    root: Path,
    remark: Mapping[str, Any],
    shot: str,
    numbers: Sequence[int],
    kept: Iterable[int],
    size: tuple[int, ...] | None = None,
) -> dict[int, np.ndarray]:
    """Frames of one shot by number: kept ones from frames/, the others decoded from the source.

    Pictures of another `size` (height, width; by default that of most kept ones) and those that can't be read are left
    out.
    """
    from bglora.film import open_source
    from bglora.film.png import read_picture

    own = set(kept) & set(numbers)
    frames = {number: read_picture(root / "frames" / shot / f"{number:06d}.png") for number in sorted(own)}
    size = size or Counter(picture.shape[:2] for picture in frames.values()).most_common(1)[0][0]
    rest = [number for number in numbers if number not in own]
    if rest:
        with open_source(root, remark) as reader:
            frames.update(reader.pick(rest))
    return {number: frames[number] for number in sorted(frames) if frames[number].shape[:2] == size}


class ShotFrames(Sequence["np.ndarray"]):
    """Frames of a shot that are read when they are asked for; none is kept.

    Pictures that can't be read or have another size than the first kept one stand as black ones, so that the places of
    the others are known.

    Args:
        numbers: frame numbers, ascending. kept: the kept ones among them, one at least.
    """

    def __init__(
        self, root: Path, remark: Mapping[str, Any], shot: str, numbers: Sequence[int], kept: Iterable[int]
    ) -> None:
        self.root, self.remark, self.shot, self.numbers, self.kept = root, remark, shot, list(numbers), set(kept)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        from bglora.film.png import read_picture

        first = min(self.kept & set(self.numbers))
        height, width = read_picture(self.root / "frames" / self.shot / f"{first:06d}.png").shape[:2]
        return height, width

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> Any:
        import numpy as np

        if not isinstance(place, slice):
            return self[place : place + 1 or None][0]
        wanted = self.numbers[place]
        frames = read_frames(self.root, self.remark, self.shot, wanted, self.kept & set(wanted), self.size)
        return [frames.get(n, np.zeros((*self.size, 3), np.uint8)) for n in wanted]
