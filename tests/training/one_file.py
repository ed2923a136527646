"""A base as one .safetensors file, under the names in which SDXL checkpoints are published outside the hub.

Names after Stability AI's generative-models (`model.diffusion_model`, `conditioner.embedders`, `first_stage_model`);
the second text encoder is OpenCLIP's, with one projection for queries, keys and values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}
VAE = {
    r"coder\.conv_norm_out\.": "coder.norm_out.",
    r"mid_block\.resnets\.0\.": "mid.block_1.",
    r"mid_block\.resnets\.1\.": "mid.block_2.",
    r"conv_shortcut": "nin_shortcut",
    r"encoder\.down_blocks\.(\d)\.resnets\.(\d)": r"encoder.down.\1.block.\2",
    r"encoder\.down_blocks\.(\d)\.downsamplers\.0": r"encoder.down.\1.downsample",
}
OPENCLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_one_file(folder: Path, file: Path) -> Path:
    """Writes the base in a diffusers folder as one file."""
    from diffusers import StableDiffusionXLPipeline
    from safetensors.torch import save_file

    pipelines: Any = StableDiffusionXLPipeline
    base = pipelines.from_pretrained(folder, local_files_only=True, use_safetensors=True, add_watermarker=False)
    tensors = {f"model.diffusion_model.{_unet(key, 2)}": value for key, value in base.unet.state_dict().items()}
    levels = len(base.vae.config.up_block_types)
    tensors |= {f"first_stage_model.{_vae(key, levels)}": value for key, value in base.vae.state_dict().items()}
    first = "conditioner.embedders.0.transformer.text_model."
    tensors |= {f"{first}{_plain(key)}": value for key, value in base.text_encoder.state_dict().items()}
    tensors |= _openclip(base.text_encoder_2.state_dict())
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return file


def _unet(key: str, layers: int) -> str:
    for old, new in UNET.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(conv\.)?", key)
    if found:
        side, block, kind, layer = found[1], int(found[2]), found[3], int(found[4])
        rest = key[found.end() :]
        if kind == "downsamplers":
            return f"input_blocks.{(layers + 1) * (block + 1)}.0.op.{rest}"
        if kind == "upsamplers":
            return f"output_blocks.{(layers + 1) * (block + 1) - 1}.2.conv.{rest}"
        number = (layers + 1) * block + layer + (1 if side == "down" else 0)
        place = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{0 if kind == 'resnets' else 1}."
        key = place + (found[5] or "") + rest
    for old, new in RESNET.items():
        key = re.sub(rf"^((?:in|out)put_blocks\.\d+\.0|middle_block\.[02])\.{old}\.", rf"\1.{new}.", key)
    return key


def _vae(key: str, levels: int) -> str:
    for old, new in VAE.items():
        key = re.sub(old, new, key)
    found = re.match(r"decoder\.up_blocks\.(\d)\.(resnets\.(\d)|upsamplers\.0)", key)
    if found:
        place = f"block.{found[3]}" if found[3] else "upsample"
        key = f"decoder.up.{levels - 1 - int(found[1])}.{place}{key[found.end() :]}"
    return key


def _plain(key: str) -> str:
    return key.removeprefix("text_model.")


def _openclip(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for key, value in state.items():
        name = _plain(key)
        projection = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name)
        if projection:
            parts = [state[key.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            found[f"transformer.resblocks.{projection[1]}.attn.in_proj_{projection[2]}"] = torch.cat(parts)
        elif name == "text_projection.weight":
            found["text_projection"] = value.T
        elif not re.search(r"\.[kv]_proj\.|position_ids", name):
            for old, new in OPENCLIP.items():
                name = name.replace(old, new)
            found[name] = value
    return {f"conditioner.embedders.1.model.{name}": value for name, value in found.items()}
