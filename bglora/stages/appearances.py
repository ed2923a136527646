"""How often characters appear on test pictures whose prompts ask for none, and for one.

Looked at by the detector that looks over plates where the settings ask for it, else, on pictures of `mini`, by the
small judge that comes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bglora import backends
from bglora.assets import asset
from bglora.backends import weights

if TYPE_CHECKING:
    from bglora.engine.stage import Tools
    from bglora.settings import Settings
    from bglora.training.figures import Estimate

JUDGE = "mini_judge.safetensors"
THERE, SURELY = 0.5, 0.9
"""What the judge must give for a character to be there: to be counted, and to be named as a leak."""
AT_ONCE = 8
"""Pictures handed to the detector together."""


def detectors_of(settings: Settings) -> list[tuple[str, str]]:
    """Role and name of the detector that looks over test pictures; empty if none does."""
    return [("detect", settings.segment.detector)] if settings.test.detector else []


def identity(settings: Settings) -> str:
    """Who looks, with the weights, as a part of an item's backend; empty if nobody does."""
    if _judged(settings):
        return f" {weights.identity(str(asset(JUDGE)))}"
    return "".join(f" {backends.identity(role, name, settings.segment)}" for role, name in detectors_of(settings))


def looker(settings: Settings) -> str:
    """Who looks, in words; empty if nobody does."""
    if _judged(settings):
        return "mini's small judge"
    return str(settings.segment.detector) if settings.test.detector else ""


def _judged(settings: Settings) -> bool:
    return bool(settings.train.base == "mini" and not settings.test.detector)


def asking_prompts(prompts: Sequence[str], names: Sequence[str], trigger: str = "") -> list[int]:
    """Places of the prompts that ask for somebody.

    Args:
        names: of the film's characters. trigger: of a character LoRA.
    """
    from bglora.backends.caption.template import named_character

    def asks(prompt: str) -> bool:
        return bool(trigger and trigger in prompt) or bool(named_character(prompt.split(","), names))

    return [k for k, prompt in enumerate(prompts) if asks(prompt)]


@dataclass(frozen=True)
class Rates:
    """Shares of pictures on which somebody is found, one for each scale, with Wilson's intervals.

    Attributes:
        unasked: where the prompt asks for nobody. asked: where it asks for somebody. Empty without such prompts.
    """

    unasked: Sequence[Estimate]
    asked: Sequence[Estimate]


def finder(tools: Tools, least: float = THERE) -> Callable[[Sequence[np.ndarray]], list[bool]] | None:
    """What says of RGB pictures whether somebody is on them; None if nobody looks.

    Args:
        least: what the small judge must give. A detector has a threshold of its own.
    """
    settings = tools.settings
    if _judged(settings):
        return _small_judge(tools, least)
    if not settings.test.detector:
        return None
    name = settings.segment.detector
    detector = tools.once(f"detect {name}", lambda: backends.load("detect", name, settings.segment))

    def found(pictures: Sequence[np.ndarray]) -> list[bool]:
        parts = (pictures[start : start + AT_ONCE] for start in range(0, len(pictures), AT_ONCE))
        return [len(one) > 0 for part in parts for one in detector.find(part, settings.segment.targets)]

    return found


def _small_judge(tools: Tools, least: float) -> Callable[[Sequence[np.ndarray]], list[bool]]:
    from bglora.nets.still_judge import load_judge

    judge = tools.once(JUDGE, lambda: load_judge(asset(JUDGE)))

    def found(pictures: Sequence[np.ndarray]) -> list[bool]:
        return [bool(one > least) for one in judge.judge(pictures).character]

    return found


def rates(tools: Tools, pictures: np.ndarray, asking: Sequence[int]) -> Rates | None:
    """How often somebody is found on a grid; None if nobody looks.

    Args:
        pictures: uint8 RGB (scales, prompts, seeds, H, W, 3). asking: places of the prompts that ask for somebody.
    """
    from bglora.training.figures import wilson

    find = finder(tools)
    if find is None:
        return None
    hits = np.array([find(list(one.reshape(-1, *one.shape[2:]))) for one in pictures])
    hits = hits.reshape(pictures.shape[:3])

    def shares(places: Sequence[int]) -> list[Estimate]:
        chosen = hits[:, list(places)].reshape(len(hits), -1)
        return [wilson(int(row.sum()), row.size) for row in chosen] if places else []

    return Rates(shares([k for k in range(pictures.shape[1]) if k not in asking]), shares(asking))


def share(tools: Tools, pictures: Sequence[np.ndarray]) -> Estimate | None:
    """On how many of these RGB pictures somebody is found; None if nobody looks, or there are none."""
    from bglora.training.figures import wilson

    find = finder(tools)
    return None if find is None or not len(pictures) else wilson(sum(find(pictures)), len(pictures))


def leaking(tools: Tools, root: Path, plates: Mapping[str, str]) -> list[str]:
    """Names of the plates on which somebody is found; none if nobody looks. `plates` are names to paths in `root`."""
    from bglora.training.pictures import read_picture

    find = finder(tools, SURELY)
    return [] if find is None else [name for name, path in plates.items() if find([read_picture(root / path)])[0]]
