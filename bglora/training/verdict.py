"""Figures in, words out: what is wrong with a LoRA, what cures it, and at which scale to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from bglora.training.figures import Estimate, difference

FOLLOWS = 0.6
"""Share of the base's following of prompts that must be left."""
FEW = 6
FIRST_DATA = "First more plates, then test again."
"""The cure of every other fault where the data don't suffice: figures of so few plates advise nothing."""
NO_REMEDIES: Mapping[str, str] = MappingProxyType({})
COPIES = 0.1
GOOD = "good"
USUAL = 0.7
"""Scale at which a background LoRA usually stands beside a character's; what it does there is said of it."""
SHOWN = 5
"""Leaking plates that a cure names."""
TOLERANCE = 0.01
"""Likeness (cosine) that a smaller scale may lack to be preferred."""


@dataclass(frozen=True)
class ScaleFigures:
    """What the grid shows at one scale.

    Attributes:
        likeness: similarity to held-out plates.
        gain: likeness minus the base's, picture by picture.
        following: how much prompts are followed, as a share of the base's (`stages.judging.followed_prompts`).
        variety: difference between seeds, as a share of the base's.
        copies: share of pictures nearer to a training picture than held-out plates are.
        characters: share of the pictures with a character on them though the prompt asks for none; None if nobody
            looked.
        answered: share of the pictures with a character on them whose prompt asks for one; None if nobody looked.
    """

    scale: float
    likeness: Estimate
    gain: Estimate
    following: Estimate
    variety: Estimate
    copies: Estimate
    characters: Estimate | None = None
    answered: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        told = {name: value.to_json() for name, value in values.items() if isinstance(value, Estimate)}
        return {"scale": self.scale, **told}


def recommend(figures: Sequence[ScaleFigures]) -> float:
    """The smallest scale that is about as like the place as the best, among those that still follow the prompt and
    leave the character who is asked for in the picture.

    Only scales count that are surely nearer to the place than the base alone; where none is, the largest that obeys:
    what is weak wants more. Where none leaves the character, the smallest that follows the prompt; where none does so
    either, the smallest above 0; without any scale above 0, 0.
    """
    used = [figure for figure in figures if figure.scale > 0]
    if not used:
        return 0.0
    base = next((figure for figure in figures if figure.scale == 0), None)
    following = [figure for figure in used if figure.following.mean >= FOLLOWS]
    obedient = [figure for figure in following if not _paints_over(figure, base)]
    if not obedient:
        return min(figure.scale for figure in following or used)
    nearer = [figure for figure in obedient if figure.gain.low > 0]
    if not nearer:
        return max(figure.scale for figure in obedient)
    best = max(figure.likeness.mean for figure in nearer)
    return min(figure.scale for figure in nearer if figure.likeness.mean >= best - TOLERANCE)


def judge(
    figures: Sequence[ScaleFigures],
    pictures: int,
    held_out: int,
    copies: int = 0,
    limits: Sequence[str] = (),
    leaks: Callable[[], Sequence[str]] = tuple,
    on_plates: Callable[[], Estimate | None] = lambda: None,
    remedies: Mapping[str, str] = NO_REMEDIES,
) -> list[dict[str, Any]]:
    """Every fault found, as {"word", "cure", "figures"}; one {"word": "good"} where there is none.

    Args:
        figures: of all scales, the control (0) first.
        pictures: training pictures.
        held_out: plates that likeness was measured on; 0 if training pictures had to stand in.
        copies: plates of the scene that stayed out as near copies of others.
        limits: commands that let in more of them: `bglora set ingest.fps 0`.
        leaks: finds the training plates on which somebody is, `harbor-s003/000060`; called only where that is asked.
        on_plates: likewise, the share of plates of the place on which somebody is seen where they are painted as the
            base paints; None if nobody looks.
        remedies: commands for a training that is `longer`, `shorter` or of a `lower rank`, and for plates that may be
            `closer` to each other; those that aren't known are not told.
    """
    found = []
    if pictures < FEW or held_out == 0:
        cure = _more_data(pictures, held_out, copies, limits, remedies)
        found.append(_fault("not enough data", cure, pictures=pictures, held_out=held_out, near_copies=copies))
    base = next((figure for figure in figures if figure.scale == 0), None)
    used = [figure for figure in figures if figure.scale > 0]
    if not used:
        return found or [
            _fault("not enough data", "Give it a scale above 0: `bglora set test.scales '[0, 0.5, 0.7, 1]'`.", scales=0)
        ]
    recommended = next(figure for figure in used if figure.scale == recommend(figures))
    telling = _telling(used, recommended)
    overpowering = _overpowers(telling, recommended, used, remedies)
    conflicting = _conflicts(telling, recommended, base)
    faults = (
        None if overpowering or conflicting else _too_weak(recommended, used, remedies),
        overpowering,
        _hallucinates(_loudest(used, recommended), base, leaks, on_plates),
        _copies(recommended, remedies),
        conflicting,
    )
    lacking = bool(found)
    found += [{**fault, "cure": FIRST_DATA} if lacking else fault for fault in faults if fault]
    return found or [_fault(GOOD, f"Use it at scale {recommended.scale:g}.", **recommended.to_json())]


def faults(verdict: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words of a verdict that name a fault."""
    return [str(one["word"]) for one in verdict if one["word"] != GOOD]


def _telling(used: Sequence[ScaleFigures], recommended: ScaleFigures) -> ScaleFigures:
    """The scale that says whether a LoRA overpowers or conflicts: the usual one.

    But where the recommended one is too weak for sure figures, the least of those that surely are like the place.
    """
    strong = [figure for figure in used if figure.gain.low > 0]
    if strong and recommended.gain.low <= 0:
        return min(strong, key=lambda figure: figure.scale)
    return min(used, key=lambda figure: abs(figure.scale - USUAL)) if strong else recommended


def _loudest(used: Sequence[ScaleFigures], recommended: ScaleFigures) -> ScaleFigures:
    """The largest scale that follows the prompt: whom a LoRA has learned it shows the more, the larger its scale."""
    following = [figure for figure in used if figure.following.mean >= FOLLOWS]
    return max(following, key=lambda figure: figure.scale, default=recommended)


def _too_weak(
    recommended: ScaleFigures, used: Sequence[ScaleFigures], remedies: Mapping[str, str]
) -> dict[str, Any] | None:
    """Not surely like the place. Not said of what overpowers or conflicts: their cures are the opposite."""
    if recommended.gain.low > 0:
        return None
    cure = f"Use it above scale {max(figure.scale for figure in used):g}, or train longer{_typed(remedies, 'longer')}."
    return _fault("too weak", cure, scale=recommended.scale, gain=recommended.gain.to_json())


def _overpowers(
    telling: ScaleFigures, recommended: ScaleFigures, used: Sequence[ScaleFigures], remedies: Mapping[str, str]
) -> dict[str, Any] | None:
    """It surely doesn't follow the prompt at the scale that tells, or at some scale where none follows it."""
    failing = [figure for figure in used if figure.following.high < FOLLOWS]
    if not failing or (telling not in failing and recommended.following.mean >= FOLLOWS):
        return None
    shown = telling if telling in failing else failing[0]
    obeys = recommended.following.mean >= FOLLOWS and recommended.scale < shown.scale
    scale = f"at scale {recommended.scale:g}" if obeys else f"below scale {min(figure.scale for figure in used):g}"
    cure = f"Use it {scale}, or train shorter{_typed(remedies, 'shorter')}."
    return _fault("overpowers the prompt", cure, scale=shown.scale, following=shown.following.to_json())


def _hallucinates(
    loudest: ScaleFigures,
    base: ScaleFigures | None,
    leaks: Callable[[], Sequence[str]],
    on_plates: Callable[[], Estimate | None],
) -> dict[str, Any] | None:
    """Surely more characters than on the base's own pictures; and than on plates of the place, unless somebody is on
    one of them: whoever takes a statue for a person does so on its plates, too.
    """
    unasked, usual = loudest.characters, base.characters if base else None
    if unasked is None or usual is None or difference(unasked, usual).low <= 0:
        return None
    found = leaks()
    taken_for_somebody = None if found else on_plates()
    if taken_for_somebody is not None and difference(unasked, taken_for_somebody).low <= 0:
        return None
    if found:
        shown = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        cure = f"Somebody is found on these plates: {shown}. Mend their masks or `bglora drop` them, and train again."
    else:
        cure = "Look through the scene's contact sheet, `bglora drop` the plates that leak, and train again."
    rates = {"characters": unasked.to_json(), "base": usual.to_json()}
    return _fault("hallucinates characters", cure, scale=loudest.scale, **rates)


def _copies(recommended: ScaleFigures, remedies: Mapping[str, str]) -> dict[str, Any] | None:
    if recommended.copies.low <= COPIES:
        return None
    shorter, lower = _typed(remedies, "shorter"), _typed(remedies, "lower rank")
    cure = f"Train shorter{shorter}; or at a lower rank{lower}; or on more varied plates."
    copies = recommended.copies.to_json()
    return _fault("copies its training pictures", cure, scale=recommended.scale, copies=copies)


def _conflicts(telling: ScaleFigures, recommended: ScaleFigures, base: ScaleFigures | None) -> dict[str, Any] | None:
    there, usual = telling.answered, base.answered if base else None
    if there is None or usual is None or not _paints_over(telling, base):
        return None
    beside = recommended.scale < telling.scale and not _paints_over(recommended, base)
    scale = f"at scale {recommended.scale:g}" if beside else f"below scale {min(telling.scale, recommended.scale):g}"
    cure = (
        f"Use it {scale}, or beside the character alone (`bglora set compose.mode regional`); "
        "a character LoRA trained on more varied backgrounds holds its own better."
    )
    rates = {"answered": there.to_json(), "base": usual.to_json()}
    return _fault("conflicts with the character", cure, scale=telling.scale, **rates)


def _paints_over(figure: ScaleFigures, base: ScaleFigures | None) -> bool:
    """Surely fewer characters than there are without the LoRA, where a prompt asks for one."""
    if figure.answered is None or base is None or base.answered is None:
        return False
    return difference(figure.answered, base.answered).high < 0


def _typed(remedies: Mapping[str, str], end: str) -> str:
    """`: command`, where one is known."""
    return f": {remedies[end]}" if remedies.get(end) else ""


def _more_data(pictures: int, held_out: int, copies: int, limits: Sequence[str], remedies: Mapping[str, str]) -> str:
    """What would give more plates that differ: another threshold, other views, more frames, or a larger scene."""
    if pictures >= FEW:
        return "No plate was held out, so likeness is to plates it has seen: `bglora set caption.held_out 0.1`."
    few = f"It was trained on {pictures} {'plate' if pictures == 1 else 'plates'}" + (
        ", and none was held out to measure likeness on." if held_out == 0 else "."
    )
    if copies > pictures:
        total = pictures + held_out + copies
        few += (
            f" {copies} of {total} plates were near copies of others: it needs other views of the place, from more of "
            "the film or from another scene (`bglora merge`)."
        ) + (f" Near copies are let in by {remedies['closer']}." if remedies.get("closer") else "")
    elif not limits:
        few += (
            " Every usable frame is in: it needs more of the film, or another scene of the same place (`bglora merge`)."
        )
    if limits:
        few += f" More plates: {', '.join(limits)}."
        few += "" if copies > pictures else " Or merge it with another scene of the same place (`bglora merge`)."
    return few


def _fault(word: str, cure: str, **figures: Any) -> dict[str, Any]:
    return {"word": word, "cure": cure, "figures": figures}
