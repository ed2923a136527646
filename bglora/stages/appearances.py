"""How often characters appear on test pictures whose prompts ask for none, by the detector that looks over plates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bglora import backends

if TYPE_CHECKING:
    import numpy as np

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


def rates(tools: Tools, pictures: np.ndarray, prompts: Sequence[str]) -> list[Estimate] | None:
    """Per scale the share of pictures on which somebody is found, with Wilson's interval; None if nobody looks.

    Args:
        pictures: uint8 RGB (scales, prompts, seeds, H, W, 3). prompts: those that ask for somebody don't count.
    """
    from bglora.training.figures import wilson

    settings = tools.settings
    places = empty_prompts(prompts, settings.caption.character_names)
    if not settings.test.detector or not places:
        return None
    name = settings.segment.detector
    detector = tools.once(f"detect {name}", lambda: backends.load("detect", name, settings.segment))
    found = []
    for at_scale in pictures:
        flat = list(at_scale[places].reshape(-1, *at_scale.shape[2:]))
        hits = [len(one) > 0 for one in _finds(detector, flat, settings.segment.targets)]
        found.append(wilson(sum(hits), len(hits)))
    return found


def _finds(detector: Any, pictures: Sequence[np.ndarray], targets: Sequence[str]) -> list[Any]:
    return [
        one
        for start in range(0, len(pictures), AT_ONCE)
        for one in detector.find(pictures[start : start + AT_ONCE], targets)
    ]
