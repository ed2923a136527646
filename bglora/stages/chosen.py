"""Which LoRA file of a background is painted with, and at which scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bglora.engine.stage import View
from bglora.errors import UserError
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


def decided(view: View, name: str, lora: str) -> Chosen | None:
    """What a person chose for this scene; what he left open is as `test` recommends. None: he chose nothing.

    Raises:
        UserError: the file that he chose is none of the scene's LoRAs any more.
    """
    choice = view.decisions.choice(name) if view.decisions is not None else None
    if choice is None:
        return None
    file, scale = choice
    there = (lora, *checkpoints(view, lora.rpartition("/")[2].removesuffix(".safetensors")).values())
    if file and file not in there:
        raise UserError(
            f"The LoRA file that you chose for {name} is no more: {file}.",
            where=f"decisions.toml, choose = {name!r}; there are: {', '.join(there)}",
            cure="Choose another one in `bglora review`, or delete that decision.",
        )
    usual = recommended(view, name, lora) or Chosen(lora)
    return Chosen(file or usual.file, scale or usual.scale, "as you chose", settled=bool(scale))


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


def lora_for(view: View, name: str, lora: str) -> Chosen:
    """What to paint a background with: what a person chose, else what `test` recommends, else the finished LoRA.

    The scale that the settings name for all backgrounds counts before what `test` recommends.

    Args:
        name: of the background, as `test` and `compose` call it. lora: the finished LoRA.
    """
    chosen = decided(view, name, lora) or recommended(view, name, lora) or Chosen(lora)
    scale = view.settings.compose.background_scale
    if scale == "auto" or chosen.settled:
        return chosen
    why = "scale by compose.background_scale"
    return replace(chosen, scale=scale, why=f"checkpoint {chosen.why}, {why}" if chosen.file != lora else why)
