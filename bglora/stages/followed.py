"""Who is who in a shot, by a mask backend that follows characters, and whom a person pointed out there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bglora import backends
from bglora.engine.stage import Item
from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from bglora.settings.plates import SegmentSettings
    from bglora.vision.following import Prompt
    from bglora.vision.tracks import Thing


def settings_of(backend: str, settings: SegmentSettings) -> dict[str, Any]:
    """The settings of `segment` that a backend's masks depend on, as an item's: not those of other backends."""
    own = backend in backends.REGISTRY["masks"]
    foreign = backends.unread("masks", [backend]) if own else set()
    names = [name for name in type(settings).model_fields if name not in foreign]
    return {f"segment.{name}": getattr(settings, name) for name in names}


def detectors_of(settings: SegmentSettings) -> list[tuple[str, str]]:
    """Role and name of the detector that the masks backend works with; empty if it needs none."""
    return [("detect", settings.detector)] if settings.backend == "sam2" and settings.targets else []


def pointed_out(item: Item) -> dict[int, list[Prompt]]:
    """By frame number whom a person pointed out in a shot."""
    from bglora.vision.following import Prompt

    found: dict[int, list[Prompt]] = {}
    for picture, given in item.decisions.get("prompts", {}).items():
        found[int(picture.rsplit("/", 1)[1])] = [
            Prompt(
                tuple(one["box"]) if one["box"] else None,  # type: ignore[arg-type]
                tuple((float(x), float(y), bool(on)) for x, y, on in one["points"]),
            )
            for one in given
        ]
    return found


@dataclass(frozen=True)
class Who:
    """The characters of a shot by number. `labels`: per looked-at frame uint16 (H, W), see `FollowingBackend`."""

    places: Mapping[int, int]
    labels: Sequence[np.ndarray]

    def at(self, number: int) -> np.ndarray:
        """Labels of a frame."""
        return self.labels[self.places[number]]

    def mask(self, number: int) -> np.ndarray:
        """Mask of a frame for `MaskBackend.masks`: uint8 (H, W), 0 or 255."""
        import numpy as np

        return np.where(self.at(number) > 0, 255, 0).astype(np.uint8)

    def things(self, number: int, picture: np.ndarray) -> tuple[list[Thing], np.ndarray, list[int]]:
        """The characters of a frame, a label map int32 (H, W) whose value k + 1 marks the k-th, and their numbers."""
        import numpy as np

        from bglora.vision.tracks import thing

        labels = self.at(number)
        numbers = [int(n) for n in np.unique(labels) if n]
        places = np.zeros(int(labels.max()) + 1, np.int32)
        places[numbers] = np.arange(1, len(numbers) + 1)
        return [thing(picture, labels == n) for n in numbers], places[labels], numbers


def followed(
    backend: Any,
    item: Item,
    numbers: Sequence[int],
    frames: Sequence[np.ndarray],
    progress: Callable[[float], None],
) -> Who | None:
    """Follows the characters of a shot; None where the backend doesn't know who is who.

    Args:
        numbers, frames: frame numbers, ascending, and their pictures, which may be read when asked for.

    Raises:
        UserError: a person pointed somebody out, and the backend can't be told, or sees nobody there.
    """
    prompts = pointed_out(item)
    if not hasattr(backend, "follow"):
        if prompts:
            first = f"{item.name}/{min(prompts):06d}"
            raise UserError(
                f"You pointed somebody out in {first}; the masks backend {item.settings['segment.backend']} "
                "can't be told.",
                where=f"decisions.toml, prompt = {first!r}",
                cure="Delete that decision: the shot has masks of its own."
                if "layers" in item.payload
                else "bglora set segment.backend sam2, or delete that decision",
            )
        return None
    places = {number: k for k, number in enumerate(numbers)}
    given = {places[number]: one for number, one in prompts.items() if number in places}
    labels = backend.follow(frames, given, progress)
    for place in getattr(labels, "nobody", ()):
        first = f"{item.name}/{numbers[place]:06d}"
        raise UserError(
            f"Nobody is seen where you pointed somebody out in {first}.",
            where=f"decisions.toml, prompt = {first!r}",
            cure="Draw the box closer around him, or add points on him and beside him.",
        )
    return Who(places, labels)
