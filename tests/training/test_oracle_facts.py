"""Names, buckets, steps and hashes are those that sd-scripts computed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from bglora.training import tensor_file
from bglora.training.adapter import lora_name
from bglora.training.buckets import area_buckets, cut_picture
from bglora.training.job import Recipe
from bglora.training.plan import Plan
from tests.shared import shared


def oracle(name: str) -> Any:
    return json.loads(shared("oracles", "kohya", "dev", name).read_text("utf-8"))


def test_every_unet_module_of_sdxl_has_the_name_that_sd_scripts_gives_it() -> None:
    modules = [module for module in oracle("full_sdxl_keys.json")["modules"] if module[1] == "unet"]
    assert len(modules) == 722
    assert [lora_name(path, 2) for _, _, path, *_ in modules] == [name for name, *_ in modules]


def test_bucket_lists_are_those_of_sd_scripts() -> None:
    cases = [c for c in oracle("bucketing.json")["make_bucket_resolutions"] if c["max_reso"][0] == c["max_reso"][1]]
    assert len(cases) >= 5
    for case in cases:
        sizes = area_buckets(case["max_reso"][0], case["min_size"], case["max_size"], case["steps"])
        assert [[width, height] for height, width in sizes] == case["resolutions_w_h"]


def test_pictures_are_cut_and_conditioned_as_in_sd_scripts() -> None:
    seen = 0
    for case in oracle("bucketing.json")["assignment"]:
        if case["bucket_no_upscale"] or case["resolution"][0] != case["resolution"][1]:
            continue
        buckets = area_buckets(
            case["resolution"][0], case["min_bucket_reso"], case["max_bucket_reso"], case["bucket_reso_steps"]
        )
        for image in case["images"]:
            width, height = image["image_w_h"]
            cut = cut_picture((height, width), buckets)
            assert list(cut.bucket[::-1]) == image["bucket_w_h"]
            assert list(cut.resized[::-1]) == image["resized_w_h"]
            assert list(cut.offset[::-1]) == image["pixel_crop_left_top"]
            for flipped, wanted in ((False, image["plain"]), (True, image["flipped"])):
                ids = (*wanted["original_hw"], *wanted["crop_top_left"], *wanted["target_hw"])
                assert cut.time_ids(flipped) == ids
            seen += 1
    assert seen >= 80


def test_steps_are_counted_as_in_sd_scripts() -> None:
    seen = 0
    for case in oracle("bucketing.json")["steps"]:
        groups = case["groups (w,h,images,repeats)"]
        if case["processes"] != 1 or case["max_train_steps_given"] or len({group[3] for group in groups}) != 1:
            continue
        buckets = [(height, width) for width, height, count, _ in groups for _ in range(count)]
        recipe = Recipe(
            batch_size=case["batch_size"],
            accumulation=case["gradient_accumulation_steps"],
            epochs=case["max_train_epochs"],
        )
        plan = Plan(buckets, groups[0][3], False, recipe)
        assert plan.batches_per_epoch == case["batches_per_epoch"]
        assert plan.steps_per_epoch == case["optimizer_steps_per_epoch"]
        assert plan.steps == case["max_train_steps"]
        seen += 1
    assert seen >= 3


def test_hashes_are_those_of_sd_scripts() -> None:
    for case in oracle("hash_cases.json"):
        count = 100 if case["case"].startswith("small") else 400_000
        tensors = {
            "a.lora_down.weight": torch.arange(count, dtype=torch.float32),
            "a.alpha": torch.tensor(3.0),
            "b.lora_up.weight": torch.ones(3, dtype=torch.float16),
        }
        assert tensor_file.model_hash(tensors) == case["sshs_model_hash"]
        assert tensor_file.legacy_hash(tensors, case["metadata"]) == case["sshs_legacy_hash"]


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


@pytest.mark.parametrize(("scheduler", "last"), [("cosine", 0.0), ("constant", 1e-3)])
def test_the_learning_rate_warms_up_from_zero_and_then_follows_its_schedule(scheduler: Any, last: float) -> None:
    recipe = Recipe(batch_size=1, accumulation=1, epochs=10, learning_rate=1e-3, warmup_steps=4, lr_scheduler=scheduler)
    plan = Plan([(64, 64)] * 10, 1, False, recipe)
    assert plan.learning_rate(0) == 0.0
    assert plan.learning_rate(4) == pytest.approx(1e-3)
    assert plan.learning_rate(99) == pytest.approx(last, abs=1e-6)
