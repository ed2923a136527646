"""Reading what the original code computed: folders of tensors with a manifest of checks.

A variant is a folder below `BGLORA_ORACLES/<subject>/` with a manifest.json; its checks decide what is compared. A test
file brings two functions, what of a check's tensors and files is missing and what our own code computes, and:

    @pytest.mark.parametrize("variant, check", manifests.checks("lama"))
    def test_numbers(variant, check):
        manifests.run(variant, check, missing(variant, check), lambda: computed(variant, check))

    @pytest.mark.parametrize("variant", manifests.variants("lama"), ids=str)
    def test_some_check_runs(variant):
        assert variant.runnable(missing)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.shared import ROOT

ORACLES = Path(os.environ.get("BGLORA_ORACLES") or ROOT / "oracles")

Pairs = Sequence[tuple[str, Tensor, Tensor]]
"""Name, what we computed, what is expected."""


@dataclass(frozen=True)
class Check:
    """One entry of a manifest's list.

    Attributes:
        name: its name. told: everything that the manifest says of it.
    """

    name: str
    told: Mapping[str, Any]

    @property
    def informative(self) -> bool:
        """Printed only; it can't fail."""
        marks = [self.told.get(key) for key in ("compare", "kind", "level", "status", "type")]
        return bool(self.told.get("informative")) or "informative" in marks

    def excess(self, got: Tensor, expected: Tensor) -> tuple[float, str]:
        """How far off: largest difference over what is tolerated (above 1 fails), and the same in words."""
        if got.shape != expected.shape:
            return float("inf"), f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        off = (got.double() - expected.double()).abs()
        if not off.numel():
            return 0.0, "empty"
        if not bool(torch.isfinite(off).all()):
            return float("inf"), "not finite"
        largest, share = float(off.max()), float((off > 0).double().mean())
        words = f"differs by {largest:.3g} at most, {share:.2%} of the values differ"
        if self.told.get("compare") == "exact":
            return (0.0 if largest == 0 else float("inf")), words
        if self.told.get("compare") == "uint8":
            least, few = self.told.get("max_difference", 0), self.told.get("max_share_differing", 1.0)
            return max(_over(largest, least), _over(share, few)), words
        tolerated = self.told.get("atol", 0.0) + self.told.get("rtol", 0.0) * expected.double().abs()
        over = torch.where(off > 0, off / tolerated.clamp(min=1e-300), 0.0)
        return float(over.max()), words


def _over(value: float, most: float) -> float:
    if value <= most:
        return value / most if most else 0.0
    return value / most if most else float("inf")


class Variant:
    """One folder of oracles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return self.folder.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json says; nothing where there is none, so that no check runs and the folder fails."""
        path = self.folder / "manifest.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    @cached_property
    def checks(self) -> list[Check]:
        """The manifest's list."""
        return [Check(told["name"], told) for told in self.manifest.get("checks", [])]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Inputs and expected outputs: io.safetensors, or none where the folder lacks it."""
        return {
            name: tensor
            for path in sorted(self.folder.glob("io*.safetensors"))
            for name, tensor in load_file(path).items()
        }

    def absent(self, tensors: Iterable[str] = (), files: Iterable[str] = ()) -> list[str]:
        """Those of the names that the folder doesn't have."""
        return [name for name in tensors if name not in self.tensors] + [
            name for name in files if not (self.folder / name).exists()
        ]

    def runnable(self, missing: Callable[[Variant, Check], Sequence[str]]) -> list[str]:
        """Names of the checks for which everything is there."""
        return [check.name for check in self.checks if not missing(self, check)]


def variants(subject: str) -> list[Variant]:
    """Every variant folder of a subject."""
    folder = ORACLES / subject
    return [Variant(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


def checks(subject: str) -> list[Any]:
    """Every check of every variant, as parameters of a test."""
    return [
        pytest.param(variant, check, id=f"{variant}-{check.name}")
        for variant in variants(subject)
        for check in variant.checks
    ]


def run(variant: Variant, check: Check, missing: Sequence[str], computed: Callable[[], Pairs]) -> None:
    """Compares what we compute with what is expected; skips where the folder lacks something."""
    if missing:
        pytest.skip(f"{variant.folder} lacks {', '.join(missing)}")
    bad = []
    for name, got, expected in computed():
        over, words = check.excess(got, expected)
        print(f"{name}: {words}; {over:.3g} of what is tolerated")
        bad += [f"{name}: {words}"] if over > 1 else []
    if not check.informative:
        assert bad == []
