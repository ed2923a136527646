"""BrushNet against what the research code computed, and against the published shapes at full size."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from bglora.errors import UserError
from bglora.nets.brushnet import BrushNet, read_config
from bglora.nets.brushnet_injection import check_fit, places
from tests.full_size import unet
from tests.oracles import brushnet_checks as oracle
from tests.oracles import manifests
from tests.shared import shared

SUBJECTS = {"brushnet_sd15": 618_830_080, "brushnet_sdxl": 373_332_480}
"""Kinds of BrushNet, with their parameters at full size."""
ALL = [one for subject in SUBJECTS for one in manifests.checks(subject)]
FOLDERS = [one for subject in SUBJECTS for one in manifests.variants(subject)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("variant, check", ALL)
def test_numbers_are_those_of_the_research_code(variant: manifests.Variant, check: manifests.Check) -> None:
    lacking = oracle.missing(variant, check)
    manifests.run(variant, check, lacking, lambda: oracle.compared(variant, check))


@pytest.mark.parametrize("variant", FOLDERS, ids=lambda variant: f"{variant.folder.parent.name}-{variant}")
def test_some_check_of_a_folder_runs(variant: manifests.Variant) -> None:
    assert variant.runnable(oracle.missing)


def published(subject: str) -> dict[str, Any]:
    return json.loads(shared("oracles", subject, "published_keys.json").read_text("utf-8"))


def full_size(subject: str) -> BrushNet:
    with torch.device("meta"):
        return BrushNet(read_config(published(subject)["config"], subject))


def full_size_unet(subject: str) -> Any:
    """The UNet of Stable Diffusion 1.5 or SDXL, on the meta device."""
    with torch.device("meta"):
        return unet(subject.removeprefix("brushnet_"))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_at_full_size_names_shapes_and_parameters_are_the_published_ones(subject: str) -> None:
    told, net = published(subject), full_size(subject)
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes == told["tensors"]
    assert sum(one.numel() for one in net.parameters()) == told["parameter_count"] == SUBJECTS[subject]


def test_at_full_size_each_branch_fits_its_own_base_and_no_other() -> None:
    nets = {subject: full_size(subject) for subject in SUBJECTS}
    unets = {subject: full_size_unet(subject) for subject in SUBJECTS}
    counts = {subject: sum(one.numel() for one in unet.parameters()) for subject, unet in unets.items()}
    assert counts == {"brushnet_sd15": 859_520_964, "brushnet_sdxl": 2_567_463_684}
    assert [len(places(unets[subject])) for subject in SUBJECTS] == [28, 21]
    for subject in SUBJECTS:
        check_fit(unets[subject], nets[subject], subject)
    with pytest.raises(UserError, match="for Stable Diffusion 1.5; the base model is SDXL"):
        check_fit(unets["brushnet_sdxl"], nets["brushnet_sd15"], "x")
    with pytest.raises(UserError, match="for SDXL; the base model is Stable Diffusion 1.5"):
        check_fit(unets["brushnet_sd15"], nets["brushnet_sdxl"], "x")
