"""Checkpoints of SAM 2.1 in the published formats, tiny and random: what they find is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 128
NAMES = Path(__file__).with_name("sam2_hiera_large_names.txt")


def video_config() -> Any:
    """A SAM 2.1 of a million parameters that looks at 128 x 128."""
    from transformers import Sam2VideoConfig

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        "fpn_hidden_size": 128,
    }
    return Sam2VideoConfig(vision_config=vision, **tracker())


def tracker() -> dict[str, Any]:
    """The part of a configuration that follows; the same of SAM 2 and SAM 3."""
    return {
        "image_size": SIDE,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [SIDE // 16] * 2,
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
    }


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with random numbers also where it starts at zero, and somebody always in sight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and "positional_embedding" not in name:
                value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        for name, value in model.named_parameters():
            if name.endswith("pred_obj_score_head.proj_out.bias"):
                value.fill_(4.0)
    return model


def write_sam2(folder: Path, shift: float = 0.0) -> Path:
    """A folder as the hub has it: config.json and model.safetensors.

    Random, it masks most of a picture. `shift` is added to its masks' logits, which lie within 0.1 or so.
    """
    from transformers import Sam2VideoModel

    torch.manual_seed(0)
    model = randomized(Sam2VideoModel(video_config()))
    if shift:
        _shifted(model.mask_decoder, shift)
    model.save_pretrained(folder)
    return folder


def _shifted(decoder: Any, shift: float) -> None:
    """A logit is the product of a pixel's channels and a mask's: one channel of both becomes a constant."""
    large = 10.0
    with torch.no_grad():
        decoder.upscale_conv2.bias[0] = large
        for mask in decoder.output_hypernetworks_mlps:
            mask.proj_out.weight[0], mask.proj_out.bias[0] = 0.0, shift / large


def package_names() -> dict[str, tuple[int, ...]]:
    """The tensors of the large model's published .pt file: name to shape."""
    found: dict[str, tuple[int, ...]] = {}
    for line in NAMES.read_text(encoding="utf-8").splitlines()[1:]:
        name, shape, *blocks = line.split()
        size = tuple(int(v) for v in shape.split("x"))
        for block in _numbers(blocks[0]) if blocks else [0]:
            found[name.replace("#", str(block))] = size
    return found


def _numbers(text: str) -> list[int]:
    runs = [part.split("-") for part in text.split(",")]
    return [k for run in runs for k in range(int(run[0]), int(run[-1]) + 1)]


def to_package(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of a video model by the names of the package `sam2`, as its .pt files have them under "model"."""
    from bglora.nets.sam2_checkpoint import from_package

    numbered = {name: torch.tensor([k]) for k, name in enumerate(package_names())}
    old = list(numbered)
    theirs: dict[str, list[str]] = {
        name: [old[int(k)] for k in value] for name, value in from_package(numbered).items()
    }
    out: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name.startswith("vision_encoder.backbone.blocks.") and name.split(".")[4] == "proj":
            out[name.replace("vision_encoder.backbone", "image_encoder.trunk")] = value
        elif len(theirs[name]) == 1:
            out[theirs[name][0]] = value
        else:
            out |= {one: value[k : k + 1] for k, one in enumerate(theirs[name])}
    return {name: value.clone() for name, value in out.items()}
