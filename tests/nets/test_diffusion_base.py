"""Stock diffusion models from a folder or a single file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bglora.errors import MachineError, UserError
from bglora.nets import diffusion_base
from tests.backends import tiny_diffusion as tiny
from tests.training.one_file import write_one_file
from tests.training.tiny_base import write_tiny_base

SETTING = "inpaint.brushnet_base"


def load(path: Path, *, inpainting: bool = False, configs: Path | None = None):  # type: ignore[no-untyped-def]
    return diffusion_base.load(path, setting=SETTING, dtype=torch.float32, inpainting=inpainting, configs=configs)


def test_a_folder_gives_its_family_its_native_size_and_no_safety_checker() -> None:
    sd15, sdxl = load(tiny.tiny_sd15()), load(tiny.tiny_sdxl())
    assert type(sd15).__name__ == "StableDiffusionPipeline" and sd15.safety_checker is None
    assert type(sdxl).__name__ == "StableDiffusionXLPipeline"
    assert diffusion_base.native_side(sd15) == diffusion_base.native_side(sdxl) == 64
    assert not any(one.requires_grad for one in sd15.unet.parameters())
    inpainting = load(tiny.tiny_sdxl_inpainting(), inpainting=True)
    assert type(inpainting).__name__ == "StableDiffusionXLInpaintPipeline" and inpainting.unet.config.in_channels == 9


def test_a_folder_with_half_precision_files_alone_loads(tmp_path: Path) -> None:
    load(tiny.tiny_sd15()).to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert load(tmp_path / "half").unet.dtype == torch.float32


@pytest.mark.parametrize("inpainting", [False, True])
def test_a_single_file_is_the_same_base_as_its_folder(tmp_path: Path, inpainting: bool) -> None:
    folder = write_tiny_base(tmp_path / "folder", prediction_type="epsilon", second=32)
    file = write_one_file(folder, tmp_path / "one.safetensors")
    wanted, found = load(folder, inpainting=inpainting), load(file, inpainting=inpainting, configs=folder)
    assert type(found) is type(wanted)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        own = getattr(found, part).state_dict()
        for key, value in getattr(wanted, part).state_dict().items():
            assert torch.equal(own[key], value), f"{part} {key}"


def test_a_single_file_without_the_configs_that_it_does_not_carry_is_told(tmp_path: Path) -> None:
    for key, name in (("cond_stage_model.transformer.x", "sd15"), ("conditioner.embedders.1.x", "sdxl")):
        save_file({key: torch.zeros(2)}, tmp_path / f"{name}.safetensors")
        with pytest.raises(MachineError) as caught:
            load(tmp_path / f"{name}.safetensors")
        assert caught.value.cure == f"bglora models pull {name}-config"


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(UserError, match="damaged") as caught:
        load(tmp_path / "cut.safetensors")
    assert caught.value.where.startswith(SETTING)
