"""What `segment` wrote about the frames of a shot that were looked at together, read again for `inpaint`."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bglora.vision.camera import Camera


@dataclass(frozen=True)
class Group:
    """Frames of a shot that were looked at together.

    Attributes:
        numbers: frame numbers, ascending. kept: those among them that are kept frames.
        camera, gains: pose and exposure of each frame.
        masks: removal mask of each frame, bool (H, W).
        told: bool (H, W), where masks of kept frames tell shade away from characters, see `told_shade`.
    """

    numbers: Sequence[int]
    kept: frozenset[int]
    camera: Camera
    gains: np.ndarray
    masks: Sequence[np.ndarray]
    told: np.ndarray | None = None

    def only(self, numbers: Container[int]) -> Group:
        """The group without the frames that are not among `numbers`."""
        return self.part([k for k, number in enumerate(self.numbers) if number in numbers])

    def part(self, places: Sequence[int]) -> Group:
        """The frames at some places of the group."""
        camera = replace(self.camera, to_reference=self.camera.to_reference[list(places)], reference=0)
        numbers = [self.numbers[k] for k in places]
        masks = [self.masks[k] for k in places]
        return Group(numbers, self.kept & set(numbers), camera, self.gains[list(places)], masks, self.told)

    def without(self, more: Mapping[int, np.ndarray]) -> Group:
        """The group with more masked at some places, bool (H, W) each."""
        return replace(self, masks=[mask | more[k] if k in more else mask for k, mask in enumerate(self.masks)])


def read_groups(root: Path, shot: str, kept: Sequence[int]) -> list[Group]:
    """The groups of a shot. Masks of kept frames come from segmented/masks: a person may have edited them."""
    import numpy as np

    with np.load(root / "segmented" / "sampled" / f"{shot}.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    places = sorted(int(name.split("_")[1]) for name in arrays if name.startswith("numbers_"))
    return [_group(root, shot, arrays, place, frozenset(kept)) for place in places]


def _group(root: Path, shot: str, arrays: dict[str, np.ndarray], place: int, kept: frozenset[int]) -> Group:
    import numpy as np

    from bglora.vision.camera import Camera
    from bglora.vision.lasting import told_shade

    height, width = (int(v) for v in arrays["size"])
    others = {int(n): k for k, n in enumerate(arrays[f"others_{place}"])}
    numbers, masks, rows, told = [], [], [], np.zeros((height, width), bool)
    for row, number in enumerate(int(n) for n in arrays[f"numbers_{place}"]):
        if number in others:
            bits = arrays[f"masks_{place}"][others[number]]
            mask = np.unpackbits(bits, count=height * width).reshape(height, width) > 0
        elif number in kept:
            values = _read_values(root / "segmented" / "masks" / shot / f"{number:06d}.png", (height, width))
            mask = values > 0
            told |= told_shade(values)
        else:
            continue
        numbers.append(number)
        masks.append(mask)
        rows.append(row)
    poses = arrays[f"poses_{place}"][rows]
    reference = min(int(arrays[f"reference_{place}"]), len(rows) - 1)
    kind = str(arrays[f"camera_{place}"])
    camera = Camera(kind, poses, reference, 0.0)  # type: ignore[arg-type]
    return Group(numbers, frozenset(numbers) & kept, camera, arrays[f"gains_{place}"][rows], masks, told)


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A removal mask, bool (H, W). Raises `UserError` if it isn't of `size` (height, width)."""
    return _read_values(path, size) > 0


def _read_values(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask's values, uint8 (H, W). Raises `UserError` if it isn't of `size` (height, width)."""
    from bglora.film.png import read_grey

    mask = read_grey(path)
    if mask.shape != size:
        raise UserError(
            f"The mask is {mask.shape[1]} x {mask.shape[0]}, its frame {size[1]} x {size[0]}.",
            where=str(path),
            cure="save it at the frame's size, or delete it and run: bglora segment",
        )
    return mask
