"""`--max-time` in every stage: what is at hand ends or keeps its state, and the same command goes on from there."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest

import bglora
from bglora.engine.events import Event, ItemFinished, ItemStarted, StageStarted
from bglora.errors import TimeIsUp
from bglora.stages import NAMES
from tests.whole.drawn_film import place, shot, write_film

FAST = (
    "train.max_steps=3", "train.resolution=64", "train.samples=0", "train.checkpoint_every=1", "test.seeds=1",
    "test.steps=1", "test.scales=[0.0]", "compose.pictures=1", "compose.steps=1",
)  # fmt: skip
LIMIT = 60.0
"""Seconds a run is given, by a clock that the test moves: however slow the machine is, they end with its first item."""


class Watch:
    """Hears a run, has its time end as its first item begins, and counts items."""

    def __init__(self) -> None:
        self.now = 0.0
        self.items = 0
        self.ended: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.items = event.items
        elif isinstance(event, ItemStarted):
            self.now = LIMIT + 1
        elif isinstance(event, ItemFinished):
            self.ended[event.item] += 1


def test_a_run_whose_time_is_up_stops_in_every_stage_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [shot(place(seed), 24, walker=False, seed=seed) for seed in (11, 22)]
    root = bglora.init(tmp_path / "project", films=[write_film(tmp_path / "two.mp4", chain(*shots))]).root
    for stage in NAMES:
        first, second = Watch(), Watch()
        monkeypatch.setattr("bglora.engine.stopping.time", SimpleNamespace(monotonic=partial(getattr, first, "now")))
        stopped = bglora.open(root, given=FAST, jobs=1, listener=first)
        if stage == "cluster":  # one item, and not a long one: it ends
            assert stopped.run(stage, max_time=LIMIT).exit_code == 0
            continue
        with pytest.raises(TimeIsUp) as caught:
            stopped.run(stage, max_time=LIMIT)
        assert caught.value.exit_code == 75 and stage in caught.value.where
        assert len(first.ended) < max(1, first.items)
        assert bglora.open(root, given=FAST, jobs=1, listener=second).run(stage).exit_code == 0
        assert not first.ended & second.ended, "what was done is not done again"
        assert second.ended, stage
    assert bglora.open(root, given=FAST, jobs=1).run().items == 0
    assert not (root / ".bglora" / "scratch").exists()
