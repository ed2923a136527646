"""Which checks of BrushNet's oracle a folder has all for, and what we compute for each."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.oracles import brushnet_oracle as oracle
from tests.oracles import manifests

NEEDS: dict[str, tuple[str, ...]] = {
    "text_ids": ("tokenizer",),
    "text_embeds": ("model_index.json",),
    "vae": ("vae",),
    "brushnet": ("brushnet",),
    "unet": ("unet", "brushnet"),
    "odd_latent": ("unet", "brushnet"),
    "e2e": ("unet", "brushnet", "scheduler"),
    "full_chain": ("unet", "brushnet", "scheduler", "vae"),
}
"""Files of a variant by check, or by the first part of its name."""


def missing(variant: manifests.Variant, check: manifests.Check) -> list[str]:
    """What of a check's tensors and files a variant lacks."""
    needed = NEEDS.get(check.name) or NEEDS.get(check.name.split("_")[0], ())
    if check.name.endswith("_timesteps"):
        needed = ("scheduler",)
    elif check.name == "text_embeds" and not variant.absent(files=needed):
        index = json.loads((variant.folder / "model_index.json").read_text("utf-8"))
        needed = tuple(name for name, kind in index.items() if isinstance(kind, list) and kind[0])
    elif check.name.endswith("_decode"):
        needed = ("vae",)
    elif check.name.endswith("_image"):
        needed = ()
    given = [name for name in check.told["inputs"] if not name.endswith("*")]
    lacking = variant.absent(given, needed)
    for pattern in set(check.told["inputs"]) - set(given):
        lacking += [] if fnmatch.filter(variant.tensors, pattern) else [pattern]
    expected = check.told["outputs"]
    return lacking + (expected if not set(expected) & set(variant.tensors) else [])


def compared(variant: manifests.Variant, check: manifests.Check) -> manifests.Pairs:
    """What we compute beside what is expected."""
    with torch.inference_mode():
        found = computed(reference(variant.folder), check.told)
    expected = [name for name in check.told["outputs"] if name in variant.tensors]
    return [(name, found[name], variant.tensors[name]) for name in expected]


@cache
def reference(folder: Path) -> oracle.Reference:
    """The variant with its models, loaded once."""
    return oracle.Reference(manifests.Variant(folder))


def computed(v: oracle.Reference, check: Mapping[str, Any]) -> oracle.Found:
    """What we compute for a check. Variants name runs and scales of their own; the rest of the name says the kind."""
    name = check["name"]
    if name in oracle.EXACT:
        return oracle.EXACT[name](v, check)
    if name.startswith("e2e_") or name.startswith("full_chain"):
        ends = {"_timesteps": oracle.run_timesteps, "_decode": oracle.run_decode, "_image": oracle.run_image}
        return next((kind for end, kind in ends.items() if name.endswith(end)), oracle.run)(v, check)
    if name.startswith("brushnet_"):
        return oracle.brushnet_features(v, check)
    if name.startswith("unet_"):
        return oracle.unet_with_branch(v, check)
    raise KeyError(f"no such check is known: {name}")
