"""LaMa against what the original generator and its training module computed; see tests/oracles/manifests.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.nets import ffc, folded, lama
from bglora.nets.lama_pictures import padded
from tests.oracles import manifests
from tests.oracles.manifests import Check, Pairs, Variant

SUBJECT = "lama"
OPTIONS = {"ngf": "width", "n_blocks": "blocks", "ratio": "ratio", "n_downsampling": "down", "input_nc": "channels"}
INPUTS = ("image_u8", "mask_u8")
INSIDE = {
    "in_local": 0,
    "in_global": 1,
    "conv1_local": 2,
    "conv1_global": 3,
    "out_local": 4,
    "out_global": 5,
    "conv1_fourier": 6,
    "conv1_spectral": 7,
}
"""What the manifests call values inside the first block, to their places in what `inside` gives."""


def files_of(variant: Variant) -> list[Path]:
    """Every checkpoint of the folder."""
    return sorted(
        path for path in variant.folder.rglob("*") if path.suffix in lama.FILES and not path.name.startswith("io")
    )


def is_hostile(variant: Variant, path: Path) -> bool:
    told = str(variant.manifest.get("files", {}).get(path.relative_to(variant.folder).as_posix(), ""))
    return "hostile" in path.name or "must not" in told


def architecture_told(told: dict[str, Any]) -> ffc.Architecture:
    return ffc.published(**{OPTIONS[key]: value for key, value in told.items() if key in OPTIONS})


@cache
def generators(folder: Path) -> dict[str, list[tuple[Path, ffc.Generator]]]:
    """Each model of the manifest, as read from every file that holds it."""
    variant = Variant(folder)
    found: dict[str, list[tuple[Path, ffc.Generator]]] = {name: [] for name in variant.manifest.get("models", {})}
    for path in files_of(variant):
        if is_hostile(variant, path):
            continue
        generator = lama.load(path)
        told = str(variant.manifest.get("files", {}).get(path.relative_to(folder).as_posix(), ""))
        for name, options in variant.manifest.get("models", {}).items():
            shape = ffc.architecture_of(generator.state_dict())
            others = [other for other in found if other != name and f"the {other} model" in told]
            if shape == architecture_told(options) and not others:
                found[name].append((path, lama.load(path, activation=options.get("out_act", "sigmoid"))))
    return found


def case_of(check: Check) -> str:
    return str(check.told.get("case", check.name.partition("/")[0]))


def model_of(variant: Variant, check: Check) -> str:
    return str(variant.manifest["cases"][case_of(check)]["model"])


def missing(variant: Variant, check: Check) -> list[str]:
    """What a check needs and the folder lacks."""
    lacking = variant.absent([check.name, *(f"{case_of(check)}/{name}" for name in INPUTS)])
    if case_of(check) not in variant.manifest["cases"]:
        return lacking
    model = model_of(variant, check)
    return lacking + ([] if generators(variant.folder)[model] else [f"a checkpoint of the model {model}"])


def inside(generator: ffc.Generator, x: Tensor) -> list[Tensor | None]:
    """Values inside the first residual block, in the order of `INSIDE`."""
    local, wide = generator.model[0](x), None
    for layer in generator.model[1 : generator.first_block]:
        local, wide = layer(local, wide)
    block = generator.model[generator.first_block]
    between, out = block.conv1(local, wide), block(local, wide)
    spectral = block.conv1.ffc.convg2g
    fourier = None if spectral is None else spectral.fu(spectral.conv1(wide))
    return [local, wide, *between, *out, fourier, None if spectral is None else spectral(wide)]


@torch.inference_mode()
def computed(variant: Variant, check: Check) -> Pairs:
    """Our values for one check, from the 8-bit picture and mask, by each form of the network that has them."""
    case, name = case_of(check), check.name.rpartition("/")[2]
    if case not in variant.manifest["cases"]:
        assert check.informative, f"{variant.folder}: nobody knows how to check {check.name}"
        return []
    pictures, masks = (variant.tensors[f"{case}/{part}"].numpy() for part in INPUTS)
    _, generator = generators(variant.folder)[model_of(variant, check)][0]
    quick = lama.Lama(generator, torch.device("cpu"), torch.float32)
    image_u8, mask_u8 = (
        np.stack([padded(one, quick.multiple, quick.smallest) for one in many]) for many in (pictures, masks)
    )
    image, hole = lama.prepared(image_u8, mask_u8)
    x = lama.network_input(image, hole)
    expected = variant.tensors[check.name]
    if name == "image":
        got = {"padded": image}
    elif name == "mask_padded_u8":
        got = {"padded": torch.from_numpy(mask_u8[:, None])}
    elif name == "generator_input":
        got = {"input": x}
    elif name == "generator_output":
        got = {"plain": generator(x), "folded": quick.network(x), "winograd": _by_winograd(generator)(x)}
    elif name == "blended":
        got = {"folded": hole * quick.network(x) + (1 - hole) * image}
    elif name == "result_u8":
        filled = quick.fill(list(pictures), list(masks))
        for one, before, mask in zip(filled, pictures, masks, strict=True):
            assert np.array_equal(one[mask == 0], before[mask == 0])
        got = {"filled": torch.from_numpy(np.stack(filled))}
    elif name.removeprefix("block0_") in INSIDE:
        value = inside(generator, x)[INSIDE[name.removeprefix("block0_")]]
        assert value is not None
        got = {"plain": value}
    else:
        assert check.informative, f"{variant.folder}: nobody knows how to check {check.name}"
        got = {}
    return [(form, value, expected) for form, value in got.items()]


def _by_winograd(generator: ffc.Generator) -> folded.FoldedGenerator:
    """The quick form of blocks as wide as the published ones, whatever the width of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folded, "WINOGRAD_FROM", 1)
        return folded.FoldedGenerator(generator, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("variant, check", manifests.checks(SUBJECT))
def test_numbers_are_those_of_the_original(variant: Variant, check: Check) -> None:
    manifests.run(variant, check, missing(variant, check), lambda: computed(variant, check))


@pytest.mark.parametrize("variant", manifests.variants(SUBJECT), ids=str)
def test_some_check_of_the_folder_runs(variant: Variant) -> None:
    assert variant.runnable(missing)


@pytest.mark.parametrize("variant", manifests.variants(SUBJECT), ids=str)
def test_every_file_of_a_model_gives_the_same_tensors(variant: Variant) -> None:
    for name, files in generators(variant.folder).items():
        for path, generator in files[1:]:
            assert _differing(files[0][1], generator) == [], f"{path} is not the model {name} of {files[0][0]}"


def _differing(one: ffc.Generator, other: ffc.Generator) -> Sequence[str]:
    theirs = other.state_dict()
    return [
        name
        for name, tensor in one.state_dict().items()
        if not name.endswith(ffc.COUNTERS) and not torch.equal(tensor, theirs[name])
    ]


@pytest.mark.parametrize("variant", manifests.variants(SUBJECT), ids=str)
def test_what_a_checkpoint_asks_to_be_called_is_not_called(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = [path for path in files_of(variant) if is_hostile(variant, path)]
    if not hostile:
        pytest.skip("the folder has none")
    monkeypatch.chdir(tmp_path)
    for path in hostile:
        with pytest.raises(UserError):
            lama.load(path)
    assert list(tmp_path.iterdir()) == []
