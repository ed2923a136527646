"""SAM 2.1 checkpoints: the hub's folders, and the `.pt` files published for the `sam2` package.

Both hold the same tensors under other names. `from_package` renames the package's tensors to those of
`transformers.Sam2VideoModel`; `to_package` is its inverse. (Ravi et al. 2024, "SAM 2: Segment Anything in Images and
Videos"; the package is the authors' own code.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

ATTENTION = r"((?:self|cross|final)_attn\w*)"

NAMES: tuple[tuple[str, str], ...] = (
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"),
    ("obj_ptr_proj", "object_pointer_proj"),
    ("image_encoder.trunk", "vision_encoder.backbone"),
    ("image_encoder.neck", "vision_encoder.neck"),
    ("sam_prompt_encoder.mask_downscaling.0", "prompt_encoder.mask_embed.conv1"),
    ("sam_prompt_encoder.mask_downscaling.1", "prompt_encoder.mask_embed.layer_norm1"),
    ("sam_prompt_encoder.mask_downscaling.3", "prompt_encoder.mask_embed.conv2"),
    ("sam_prompt_encoder.mask_downscaling.4", "prompt_encoder.mask_embed.layer_norm2"),
    ("sam_prompt_encoder.mask_downscaling.6", "prompt_encoder.mask_embed.conv3"),
    ("sam_prompt_encoder", "prompt_encoder"),
    ("sam_mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
    ("sam_mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
    ("sam_mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
    ("sam_mask_decoder.transformer.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn"),
    ("sam_mask_decoder", "mask_decoder"),
    ("memory_attention.norm", "memory_attention.layer_norm"),
    ("memory_encoder.pix_feat_proj", "memory_encoder.feature_projection"),
    ("memory_encoder.fuser", "memory_encoder.memory_fuser"),
    ("memory_encoder.out_proj", "memory_encoder.projection"),
)
"""Beginnings of names: the package's and transformers'. The first one that fits counts."""

PARTS: tuple[tuple[str, str, str], ...] = (
    (r"patch_embed\.", "proj", "projection"),
    (r"\.blocks\.\d+\.", "norm1", "layer_norm1"),
    (r"\.blocks\.\d+\.", "norm2", "layer_norm2"),
    (r"(?:memory_attention|transformer)\.layers\.\d+\.", "norm1", "layer_norm1"),
    (r"(?:memory_attention|transformer)\.layers\.\d+\.", "norm2", "layer_norm2"),
    (r"(?:memory_attention|transformer)\.layers\.\d+\.", "norm3", "layer_norm3"),
    (r"(?:memory_attention|transformer)\.layers\.\d+\.", "norm4", "layer_norm4"),
    (ATTENTION + r"\.", "out_proj", "o_proj"),
    (r"memory_fuser\.layers\.\d+\.", "dwconv", "depthwise_conv"),
    (r"memory_fuser\.layers\.\d+\.", "pwconv1", "pointwise_conv1"),
    (r"memory_fuser\.layers\.\d+\.", "pwconv2", "pointwise_conv2"),
    (r"memory_fuser\.layers\.\d+\.", "norm", "layer_norm"),
    (r"memory_fuser\.layers\.\d+\.", "gamma", "scale"),
)
"""Names within a part: what stands before, the package's name, transformers' name."""

MLP = re.compile(r"^(.*(?:mlp|mlps\.\d+|_head|object_pointer_proj))\.layers\.(\d+)\.(weight|bias)$")
"""Multilayer perceptrons: numbered in the package; first and last have names in transformers."""

NECK = re.compile(r"^(vision_encoder\.neck\.convs\.\d+)\.conv\.(weight|bias)$")
DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(weight|bias)$")
POINTS = re.compile(r"^prompt_encoder\.point_embeddings\.(\d+)\.weight$")
GAUSSIAN = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
SHARED = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")

WIDTH = "image_encoder.trunk.patch_embed.proj.weight"
"""Tells the size of a package's checkpoint: the first output channels, with the number of blocks."""

Tensors = Mapping[str, torch.Tensor]


def is_package(names: Mapping[str, Any]) -> bool:
    """True if tensors have the package's names."""
    return WIDTH in names


def from_package(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The package's tensors by transformers' names. Names that no rule knows stay as they are, for `load` to refuse."""
    last = _last_layers(tensors, MLP)
    levels = max((int(m[1]) for name in tensors if (m := DOWNSAMPLER.match(name))), default=-1)
    out: dict[str, torch.Tensor] = {}
    points: dict[int, torch.Tensor] = {}
    for old, tensor in tensors.items():
        name = _renamed(old, last, levels)
        if name == GAUSSIAN:
            out |= dict.fromkeys(SHARED, tensor)
        elif match := POINTS.match(name):
            points[int(match[1])] = tensor
        else:
            out[name] = tensor
    if points:
        out["prompt_encoder.point_embed.weight"] = torch.cat([points[k] for k in sorted(points)])
    return out


def _start(name: str) -> str:
    for package, ours in NAMES:
        if name == package or name.startswith(package + "."):
            return ours + name[len(package) :]
    return name


def _last_layers(tensors: Tensors, pattern: re.Pattern[str]) -> dict[str, int]:
    """Each perceptron to the number of its last layer."""
    last: dict[str, int] = {}
    for name in tensors:
        if match := pattern.match(_start(name)):
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    return last


def _renamed(old: str, last: Mapping[str, int], levels: int) -> str:
    name = _start(old)
    if match := NECK.match(name):
        return f"{match[1]}.{match[2]}"
    if match := DOWNSAMPLER.match(name):
        number = int(match[1])
        part = "final_conv" if number == levels else f"layers.{number // 3}.{('conv', 'layer_norm')[number % 3]}"
        return f"memory_encoder.mask_downsampler.{part}.{match[2]}"
    if (match := MLP.match(name)) and match[1] in last:
        number = int(match[2])
        part = "proj_in" if number == 0 else "proj_out" if number == last[match[1]] else f"layers.{number - 1}"
        return f"{match[1]}.{part}.{match[3]}"
    for before, package, ours in PARTS:
        if match := re.search(rf"{before}{package}(?=\.|$)", name):
            return name[: match.end() - len(package)] + ours + name[match.end() :]
    return name


def config_of(tensors: Tensors) -> Any:
    """The `transformers.Sam2VideoConfig` of a package's checkpoint, told by its shapes.

    Raises:
        ValueError: it is none of the four sizes of SAM 2.1.
    """
    width = int(tensors[WIDTH].shape[0])
    blocks = len({name.split(".")[3] for name in tensors if name.startswith("image_encoder.trunk.blocks.")})
    for size, (embed, _, stages, *_) in SIZES.items():
        if (embed, sum(stages)) == (width, blocks):
            if "no_obj_embed_spatial" not in tensors:
                raise ValueError("it is SAM 2, not SAM 2.1")
            return config(size)
    raise ValueError(f"no size of SAM 2.1 has {blocks} blocks that begin with {width} channels")


SIZES: Mapping[str, tuple[int, int, list[int], list[int], list[int], list[int]]] = {
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], [7, 7]),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], [7, 7]),
    "base_plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], [14, 14]),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], [7, 7]),
}
"""Hiera's sizes: first channels, first heads, blocks by stage, blocks with global attention, windows, background size
of the window's positions. Channels and heads double from stage to stage (Ryali et al. 2023)."""


def config(size: str) -> Any:
    """The `transformers.Sam2VideoConfig` of a size of SAM 2.1: tiny, small, base_plus or large."""
    from transformers import Sam2VideoConfig

    width, heads, stages, everywhere, windows, background = SIZES[size]
    widths = [width * 2**k for k in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": width,
        "num_attention_heads": heads,
        "blocks_per_stage": stages,
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [heads * 2**k for k in range(4)],
        "window_size_per_stage": windows,
        "global_attention_blocks": everywhere,
        "window_positional_embedding_background_size": background,
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
    }
    return Sam2VideoConfig(vision_config=vision)
