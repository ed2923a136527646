"""What stages decided is told with commands that can be typed, and that change something."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bglora.engine.stage import Row
from bglora.project.decided import decided
from bglora.settings import Settings
from bglora.stages.remedies import remedies
from tests.stages.trained_project import ProjectView

TYPED = re.compile(r"`bglora set (\S+) ([^`]+)`")

USUAL: dict[str, dict[str, Any]] = {"ingest": {"max_per_shot": 8}, "train": {"base": "x"}}
AT_THEIR_ENDS: dict[str, dict[str, Any]] = {
    "ingest": {"fps": 0.0, "max_per_shot": 0},
    "segment": {"dilate": 63, "min_area": 1},
    "inpaint": {"max_guessed": 0.0},
    "cluster": {"min_cluster_size": 3},
    "caption": {"min_difference": 0.0},
    "train": {"base": "x", "dim": 1, "epochs": 1, "epochs_small": 1},
    "compose": {"pictures": 64, "background_scale": 0.0},
}


def told(settings: Settings, frames: int) -> str:
    """All that is told of a project whose film has so many frames, one of them kept and none left out."""
    row = Row("a", "a-s000/000000", "made", "", (), {"scene": "scene-00", "loras": ()})
    stages = {stage: [row] for stage in ("ingest", "segment", "inpaint", "cluster", "caption", "train", "compose")}
    stages["caption"] = [row, *(Row("a", "b", "dropped", why, (), {}) for why in ("near copy of a", "not among 300"))]
    view = ProjectView(Path(), settings, stages, {("ingest", "a"): {"video": {"count": frames}}})
    return " ".join(one.change for one in decided(view, stages) if one.change)


@pytest.mark.parametrize(("values", "commands"), [(USUAL, 10), (AT_THEIR_ENDS, 2)])
@pytest.mark.parametrize("frames", [1, 48])
def test_every_command_is_taken_and_changes_something(
    values: dict[str, dict[str, Any]], commands: int, frames: int
) -> None:
    settings = Settings.model_validate(values)
    text = " ".join([told(settings, frames), *remedies(settings, {}, 9).values()])
    assert len(TYPED.findall(text)) >= commands, text
    assert ": ." not in text and "  " not in text
    for key, value in TYPED.findall(text):
        table, _, name = key.partition(".")
        now = getattr(settings, table)
        then = type(now).model_validate({**now.model_dump(), name: float(value)})
        assert then != now, (key, value)


def test_more_frames_are_offered_where_some_lie_between_those_kept() -> None:
    settings = Settings.model_validate(USUAL)
    assert "More: `bglora set ingest.fps 4`, `bglora set ingest.max_per_shot 16`." in told(settings, 48)
    assert "Fewer: `bglora set ingest.fps 1`." in told(settings, 1)
