"""The pipeline, in order. A stage's module is imported when the stage is used, not when it is named."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from bglora.engine.stage import Stage

PIPELINE: dict[str, str] = {
    "ingest": "bglora.stages.ingest:Ingest",
    "segment": "bglora.stages.segment:Segment",
    "inpaint": "bglora.stages.inpaint:Inpaint",
    "cluster": "bglora.stages.cluster:Cluster",
    "caption": "bglora.stages.caption:Caption",
    "train": "bglora.stages.train:Train",
    "test": "bglora.stages.test:Test",
    "compose": "bglora.stages.compose:Compose",
}
"""Stage name to `module:class`."""

NAMES: tuple[str, ...] = tuple(PIPELINE)


def load(names: Iterable[str] = NAMES) -> list[Stage]:
    """Instances of the named stages, in pipeline order."""
    wanted = set(names)
    return [_stage(target) for name, target in PIPELINE.items() if name in wanted]


def upto(last: str) -> tuple[str, ...]:
    """Stages from the first to `last`."""
    return NAMES[: NAMES.index(last) + 1]


def since(first: str) -> tuple[str, ...]:
    """Stages from `first` to the last."""
    return NAMES[NAMES.index(first) :]


def _stage(target: str) -> Stage:
    module, _, name = target.partition(":")
    stage: Stage = getattr(import_module(module), name)()
    return stage
