"""How long a training is, what each step of it shows, and at which learning rate."""

from __future__ import annotations

from typing import Any

import pytest

from bglora.errors import UserError
from bglora.training.job import Recipe
from bglora.training.plan import Plan


def test_an_epoch_shows_every_picture_as_often_as_its_repeats() -> None:
    plan = Plan([(64, 96)] * 3 + [(96, 64)] * 2, 3, True, Recipe(batch_size=2, accumulation=2, epochs=2, seed=5))
    first = [batch for step in range(plan.steps_per_epoch) for batch in plan.batches(step)]
    second = [batch for step in range(plan.steps_per_epoch, plan.steps) for batch in plan.batches(step)]
    for epoch in (first, second):
        shown = [draw.picture for batch in epoch for draw in batch]
        assert sorted(shown) == sorted(list(range(5)) * 3)
        assert all(len({plan.buckets[draw.picture] for draw in batch}) == 1 for batch in epoch)
    assert first != second
    assert plan.pictures_seen(plan.steps) == 2 * 5 * 3


@pytest.mark.parametrize(("scheduler", "last"), [("cosine", 0.0), ("constant_with_warmup", 1e-3)])
def test_the_learning_rate_warms_up_from_zero_and_then_follows_its_schedule(scheduler: Any, last: float) -> None:
    recipe = Recipe(batch_size=1, accumulation=1, epochs=10, learning_rate=1e-3, warmup_steps=4, lr_scheduler=scheduler)
    plan = Plan([(64, 64)] * 10, 1, False, recipe)
    assert plan.learning_rate(0) == 0.0
    assert plan.learning_rate(4) == pytest.approx(1e-3)
    assert plan.learning_rate(99) == pytest.approx(last, abs=1e-6)


def test_a_constant_rate_with_a_warm_up_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match="no warm-up"):
        Plan([(64, 64)], 1, False, Recipe(lr_scheduler="constant", warmup_steps=3))


def test_a_warm_up_may_be_a_share_of_all_steps() -> None:
    plan = Plan([(64, 64)] * 10, 1, False, Recipe(accumulation=1, epochs=10, learning_rate=1.0, warmup_steps=0.1))
    assert [plan.learning_rate(step) for step in (0, 5, 10)] == [0.0, 0.5, 1.0]


def test_pictures_may_have_repeats_of_their_own() -> None:
    plan = Plan([(64, 64)] * 3, (1, 4, 2), False, Recipe(batch_size=2, accumulation=1, epochs=1))
    shown = [draw.picture for step in range(plan.steps) for batch in plan.batches(step) for draw in batch]
    assert sorted(shown) == [0, 1, 1, 1, 1, 2, 2]
    assert plan.pictures_seen(plan.steps) == 7
