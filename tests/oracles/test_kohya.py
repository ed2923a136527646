"""The trainer against what sd-scripts computed; see tests/oracles/manifests.py and the parts beside this file."""

from __future__ import annotations

import pytest

from tests.oracles import kohya_facts, kohya_network, kohya_numbers, kohya_runs, kohya_text, manifests
from tests.oracles.kohya_oracle import SUBJECT, Part, informative, judge
from tests.oracles.manifests import Check, Variant

PARTS = {**kohya_numbers.PARTS, **kohya_network.PARTS, **kohya_text.PARTS, **kohya_facts.PARTS}


def part_of(variant: Variant, check: Check) -> Part | None:
    """What computes a check; runs are found by their files."""
    return PARTS.get(check.name) or kohya_runs.part_of(variant, check)


def missing(variant: Variant, check: Check) -> list[str]:
    part = part_of(variant, check)
    return part.missing(variant) if part else [f"anything known as {check.name!r}"]


@pytest.mark.parametrize(("variant", "check"), manifests.checks(SUBJECT))
def test_numbers(variant: Variant, check: Check) -> None:
    absent = missing(variant, check)
    if absent:
        pytest.skip(f"{variant.folder} lacks {', '.join(absent)}")
    part = part_of(variant, check)
    assert part is not None
    bad = judge(check, part.compare(variant))
    if not informative(check):
        assert bad == []


@pytest.mark.parametrize("variant", manifests.variants(SUBJECT), ids=str)
def test_some_check_runs(variant: Variant) -> None:
    assert variant.runnable(missing)
