"""Which LoRA file of a background is painted with, and at which scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bglora.engine.stage import View
from bglora.stages.test import checkpoints, trained_as

UNTESTED = 0.7
"""The scale where nobody and nothing says another."""
LACKING = "not enough data"


@dataclass(frozen=True)
class Chosen:
    """A background as it is used.

    Attributes:
        file: the LoRA, relative to the project.
        why: whose choice it is, in words: `as test recommends`; empty for the finished LoRA at the usual scale.
        settled: a person chose this scale for this background, so that `compose.background_scale` counts for nothing.
    """

    file: str
    scale: float = UNTESTED
    why: str = ""
    settled: bool = False


def recommended(view: View, name: str, lora: str) -> Chosen | None:
    """What `test` recommends. None: it wasn't tested, or before it was trained anew, or on too little data to say."""
    scene = lora.rpartition("/")[2].removesuffix(".safetensors")
    for row in view.rows("test"):
        record = row.record
        words = {fault["word"] for fault in record.get("verdict", ())}
        if row.picture != name or not words or LACKING in words or record.get("trained") != trained_as(view, scene):
            continue
        if record["recommended_lora"] in (lora, *checkpoints(view, scene).values()):
            return Chosen(record["recommended_lora"], float(record["recommended_scale"]), "as test recommends")
    return None


Source = Callable[[View, str, str], Chosen | None]
SOURCES: Sequence[Source] = (recommended,)
"""Who may say which one it is; the first that does counts."""


def lora_for(view: View, name: str, lora: str, sources: Sequence[Source] = SOURCES) -> Chosen:
    """What to paint a background with: what the first of the sources says that says something, at the scale that the
    settings name, if they do.

    Args:
        name: of the background, as `test` and `compose` call it. lora: the finished LoRA.
    """
    found = (source(view, name, lora) for source in sources)
    chosen = next((one for one in found if one), Chosen(lora))
    scale = view.settings.compose.background_scale
    if scale == "auto" or chosen.settled:
        return chosen
    why = "scale by compose.background_scale"
    return replace(chosen, scale=scale, why=f"checkpoint {chosen.why}, {why}" if chosen.file != lora else why)
