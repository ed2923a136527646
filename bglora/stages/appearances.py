"""How often characters appear on test pictures whose prompts ask for none, and for one, by who looks over plates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bglora import backends

if TYPE_CHECKING:
    from bglora.engine.stage import Tools
    from bglora.settings import Settings
    from bglora.training.figures import Estimate

AT_ONCE = 8
"""Pictures handed to the detector together."""


def detectors_of(settings: Settings) -> list[tuple[str, str]]:
    """Role and name of the detector that looks over test pictures; empty if none does."""
    return [("detect", settings.segment.detector)] if settings.test.detector else []


def identity(settings: Settings) -> str:
    """The detector with its weights, as a part of an item's backend; empty if none looks."""
    return "".join(f" {backends.identity(role, name, settings.segment)}" for role, name in detectors_of(settings))


def empty_prompts(prompts: Sequence[str], names: Sequence[str]) -> list[int]:
    """Places of the prompts that ask for nobody.

    Args:
        names: of the film's characters.
    """
    from bglora.backends.caption.template import named_character

    return [k for k, prompt in enumerate(prompts) if not named_character(prompt.split(","), names)]


@dataclass(frozen=True)
class Rates:
    """Shares of pictures on which somebody is found, one for each scale, with Wilson's intervals.

    Attributes:
        unasked: where the prompt asks for nobody. asked: where it asks for somebody. Empty without such prompts.
    """

    unasked: Sequence[Estimate]
    asked: Sequence[Estimate]


def finder(tools: Tools) -> Callable[[Sequence[np.ndarray]], list[bool]] | None:
    """What says of RGB pictures whether somebody is on them; None if nobody looks."""
    settings = tools.settings
    if not settings.test.detector:
        return None
    name = settings.segment.detector
    detector = tools.once(f"detect {name}", lambda: backends.load("detect", name, settings.segment))

    def found(pictures: Sequence[np.ndarray]) -> list[bool]:
        parts = (pictures[start : start + AT_ONCE] for start in range(0, len(pictures), AT_ONCE))
        return [len(one) > 0 for part in parts for one in detector.find(part, settings.segment.targets)]

    return found


def rates(tools: Tools, pictures: np.ndarray, prompts: Sequence[str]) -> Rates | None:
    """How often somebody is found on a grid; None if nobody looks.

    Args:
        pictures: uint8 RGB (scales, prompts, seeds, H, W, 3).
    """
    from bglora.training.figures import wilson

    find = finder(tools)
    if find is None:
        return None
    empty = empty_prompts(prompts, tools.settings.caption.character_names)
    somebody = [k for k in range(len(prompts)) if k not in empty]
    hits = np.array([find(list(one.reshape(-1, *one.shape[2:]))) for one in pictures])
    hits = hits.reshape(pictures.shape[:3])

    def shares(places: Sequence[int]) -> list[Estimate]:
        chosen = hits[:, list(places)].reshape(len(hits), -1)
        return [wilson(int(row.sum()), row.size) for row in chosen] if places else []

    return Rates(shares(empty), shares(somebody))


def leaking(tools: Tools, root: Path, plates: Mapping[str, str]) -> list[str]:
    """Names of the plates on which somebody is found; none if nobody looks. `plates` are names to paths in `root`."""
    from bglora.training.pictures import read_picture

    find = finder(tools)
    return [] if find is None else [name for name, path in plates.items() if find([read_picture(root / path)])[0]]
