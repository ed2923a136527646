"""Random diffusion models of some ten thousand parameters in the published file layouts, with BrushNets that fit."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.training import tiny_base

GROUPS = 4
SD15_WIDTHS = (8, 8, 16, 16)
"""Widths of the tiny Stable Diffusion 1.5: four levels, no attention in the last, as there."""


@cache
def home() -> Path:
    """A folder that goes with the test process."""
    folder = Path(tempfile.mkdtemp(prefix="bglora-tiny-diffusion-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def tiny_sd15() -> Path:
    """A diffusers folder of Stable Diffusion 1.5's classes; pictures of 64 pixels."""
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = home() / "sd15"
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=SD15_WIDTHS,
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=GROUPS,
    )
    words = CLIPTextConfig(
        vocab_size=tiny_base._write_tokenizers(folder),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(words),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=unet,
        scheduler=PNDMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@cache
def tiny_sdxl() -> Path:
    """A diffusers folder of SDXL's classes; pictures of 64 pixels."""
    return tiny_base.write_tiny_base(home() / "sdxl", prediction_type="epsilon")


@cache
def tiny_sdxl_inpainting() -> Path:
    """SDXL whose UNet takes nine channels: noise, mask, what is around the hole."""
    import torch
    from diffusers import UNet2DConditionModel

    folder = home() / "sdxl-inpainting"
    shutil.copytree(tiny_sdxl(), folder)
    torch.manual_seed(1)
    config = UNet2DConditionModel.load_config(tiny_sdxl() / "unet")
    unet: Any = UNet2DConditionModel.from_config({**config, "in_channels": 9})
    unet.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["_class_name"] = "StableDiffusionXLInpaintPipeline"
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


@cache
def tiny_brushnet(kind: str) -> Path:
    """A published folder of a BrushNet for the tiny base "sd15" or "sdxl", dead keys of the config included."""
    import torch
    from safetensors.torch import save_file

    from bglora.nets.brushnet import TENSORS, BrushNet, read_config

    folder = home() / f"brushnet-{kind}"
    folder.mkdir()
    config = published_config(kind)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    torch.manual_seed(2)
    save_file(BrushNet(read_config(config, str(folder))).state_dict(), folder / TENSORS)
    return folder


def brushnet_settings(kind: str) -> dict[str, Any]:
    """The table [inpaint] for a tiny BrushNet with its base."""
    base = tiny_sd15() if kind == "sd15" else tiny_sdxl()
    return {"brushnet": str(tiny_brushnet(kind)), "brushnet_base": str(base)}


def published_config(kind: str) -> dict[str, Any]:
    """config.json as it is published, made small."""
    widths = SD15_WIDTHS if kind == "sd15" else (16, 32, 32)
    text = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
    }
    return {
        "_class_name": "BrushNetModel",
        "_name_or_path": "runs/logs/brushnet_randommask/checkpoint-100000",
        "attention_head_dim": 8,
        "block_out_channels": list(widths),
        "brushnet_conditioning_channel_order": "rgb",
        "conditioning_channels": 5,
        "conditioning_embedding_out_channels": [16, 32, 96, 256],
        "cross_attention_dim": 768,
        "down_block_types": ["DownBlock2D"] * len(widths),
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_type": "MidBlock2D",
        "norm_num_groups": GROUPS if kind == "sd15" else 8,
        "transformer_layers_per_block": 1,
        "up_block_types": ["UpBlock2D"] * len(widths),
        "upcast_attention": None,
        **(text if kind == "sdxl" else {"addition_embed_type": None}),
    }


def _vae(scaling: float) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=GROUPS,
        latent_channels=4,
        sample_size=64,
        scaling_factor=scaling,
        mid_block_add_attention=False,
    )
