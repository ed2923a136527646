"""OpenCLIP's published weights, and how they go into transformers' CLIP classes.

What lies in a folder (open_clip_torch 3.3.0, push_to_hf_hub.py; the same repository often holds both):

    open_clip_config.json           {"model_cfg": {...}, "preprocess_cfg": {...}}     OpenCLIP's form
    open_clip_model.safetensors     visual.*, transformer.*, token_embedding.weight, ...
    config.json, model.safetensors  transformers' form, the same numbers under other names
    tokenizer.json                  the words' tokens, the same for both

One attention of OpenCLIP holds query, key and value stacked in `in_proj_weight`; transformers has three layers.
Projections are plain matrices there (x @ P) and linear layers here (x @ W.T).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.nets import checkpoints
from bglora.nets.checkpoints import CURE

CONFIG = "open_clip_config.json"
TENSORS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""What OpenAI's CLIP took off and divided by; OpenCLIP's default."""

NEEDED = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
PLAIN_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout"}
PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id", "eos_id"}
PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "nonscalar_logit_scale"}
USUAL = {"pos_embed_type": "learnable", "pool_type": ("tok", "argmax"), "proj_type": "linear", "attn_pooler_heads": 8}
"""Further keys of OpenCLIP's configs at the values at which they change nothing."""

OLD_KEYS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
"""Numbers that old checkpoints hold beside the weights."""

TOP = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
}
BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK_NAME = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Prepared:
    """How a picture is made ready.

    Attributes:
        size: height and width that the net sees.
        mean, std: per channel of RGB, on 0 to 1.
        interpolation: `bicubic` or `bilinear`.
        resize_mode: `shortest` (then cut at the center), `longest` (then padded) or `squash`.
        fill_color: 0 to 255, of the padding.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        tensors: file with the weights.
        config: OpenCLIP's model config; empty where the folder has transformers' form only.
        prepared: how pictures are made ready.
        folder: where its tokenizer lies.
    """

    tensors: Path
    config: Mapping[str, Any]
    prepared: Prepared
    folder: Path
    transformers_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Path | None:
        """tokenizer.json beside the weights."""
        path = self.folder / "tokenizer.json"
        return path if path.is_file() else None


def open_published(
    where: Path, config: Mapping[str, Any] | None = None, usual: Mapping[str, Any] | None = None
) -> Published:
    """Finds out what lies in a folder or beside a file. Reads no tensors.

    Args:
        where: folder, or the file with the weights.
        config: model config of OpenCLIP, where a name gave it; a config in the folder is believed before it.
        usual: what the name says about preparation and `quick_gelu`; believed before the folder.

    Raises:
        UserError: nothing of OpenCLIP's or CLIP's there, or a config that can't be read.
    """
    folder = where if where.is_dir() else where.parent
    given = dict(usual or {})
    own = _json(folder / CONFIG)
    model = dict(own.get("model_cfg") or config or {})
    tensors = where if where.is_file() else _first(folder)
    if not model or tensors is None:
        return _transformers_form(where, folder, given)
    if not all(isinstance(model.get(key), kind) for key, kind in NEEDED.items()):
        raise UserError(
            f"This config is not OpenCLIP's: it needs {', '.join(NEEDED)}.", where=str(folder / CONFIG), cure=CURE
        )
    model["quick_gelu"] = bool(model.get("quick_gelu")) or bool(given.get("quick_gelu"))
    return Published(tensors, model, _prepared(model, {**own.get("preprocess_cfg", {}), **given}), folder)


def foreign_parts(config: Mapping[str, Any]) -> list[str]:
    """Keys of an OpenCLIP config for which transformers' CLIP classes have no place; empty: they hold the model."""
    found = [key for key, value in config.items() if key not in PLAIN and value not in (None, False)]
    for part, plain in (("vision_cfg", PLAIN_VISION), ("text_cfg", PLAIN_TEXT)):
        for key, value in config[part].items():
            usual = USUAL.get(key)
            same = value == usual or (isinstance(usual, tuple) and value in usual)
            if key not in plain and value not in (None, False) and not same:
                found.append(f"{part}.{key}")
    vision = config["vision_cfg"]
    found += [f"vision_cfg.{key}" for key in ("layers", "patch_size") if not isinstance(vision.get(key, 0), int)]
    size = vision.get("image_size", 224)
    if not isinstance(size, int) and len(set(size)) != 1:
        found.append("vision_cfg.image_size")
    return found


def clip_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for transformers' CLIPConfig from a model config of OpenCLIP without `foreign_parts`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    act = "quick_gelu" if config.get("quick_gelu") else "gelu"
    width, text_width = vision.get("width", 768), text.get("width", 512)
    vocabulary = text.get("vocab_size", 49408)
    return {
        "projection_dim": config["embed_dim"],
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": width // vision.get("head_width", 64),
            "image_size": _pair(vision.get("image_size", 224))[0],
            "patch_size": vision.get("patch_size", 16),
            "projection_dim": config["embed_dim"],
            "hidden_act": act,
        },
        "text_config": {
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": int(text_width * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "max_position_embeddings": text.get("context_length", 77),
            "projection_dim": config["embed_dim"],
            "hidden_act": act,
            # OpenCLIP looks at the token with the highest number; that is the end of the text.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
        },
    }


def clip_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's tensors under the names, and in the shapes, of transformers' CLIPModel.

    Raises:
        KeyError: a name that is not OpenCLIP's.
    """
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("state_dict.").removeprefix("module.")
        if plain in OLD_KEYS:
            continue
        block = BLOCK_NAME.fullmatch(plain)
        if block:
            made |= _block(f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}.", block[3], tensor)
            continue
        stem, _, end = plain.rpartition(".")
        new = TOP.get(plain) or f"{TOP[stem]}.{end}"
        made[new] = tensor.T if plain in ("visual.proj", "text_projection") else tensor.reshape(_shape(plain, tensor))
    return made


def _block(start: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("attn.in_proj_"):
        end = name.removeprefix("attn.in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{start}self_attn.{letter}_proj.{end}": part for letter, part in parts}
    stem, _, end = name.rpartition(".")
    return {f"{start}{BLOCK[stem]}.{end}": tensor}


def _shape(name: str, tensor: Tensor) -> torch.Size:
    """`logit_scale` is a number; some publish it as a list of one."""
    return torch.Size([]) if name == "logit_scale" else tensor.shape


def read_tensors(published: Published) -> dict[str, Tensor]:
    """The weights by name, on the CPU. Nothing of the file is run; see `checkpoints.read`."""
    return checkpoints.read(published.tensors)


def _transformers_form(where: Path, folder: Path, given: Mapping[str, Any]) -> Published:
    config = _json(folder / "config.json")
    tensors = where if where.is_file() else folder / "model.safetensors"
    if config.get("model_type") != "clip" or not tensors.is_file():
        kind = f"a model of the kind {config['model_type']!r}" if config.get("model_type") else "no OpenCLIP model"
        raise UserError(
            f"This is {kind}: there is neither {CONFIG} with its weights nor a CLIP of transformers.",
            where=str(where),
            cure="Give a folder that was published for OpenCLIP, or NAME/FILE, for instance ViT-L-14//data/weights.pt.",
        )
    asked = _json(folder / "preprocessor_config.json")
    crop = asked.get("crop_size", asked.get("size", {}))
    side = config.get("vision_config", {}).get("image_size", 224)
    size = (crop.get("height", side), crop.get("width", side)) if isinstance(crop, dict) else _pair(crop)
    usual = {"mean": asked.get("image_mean", MEAN), "std": asked.get("image_std", STD), **given}
    return Published(tensors, {}, _prepared({"vision_cfg": {"image_size": size}}, usual), folder, config)


def _prepared(model: Mapping[str, Any], asked: Mapping[str, Any]) -> Prepared:
    return Prepared(
        size=_pair(model["vision_cfg"].get("image_size", 224)),
        mean=_three(asked.get("mean") or MEAN),
        std=_three(asked.get("std") or STD),
        interpolation="bilinear" if asked.get("interpolation") == "bilinear" else "bicubic",
        resize_mode=asked.get("resize_mode") or "shortest",
        fill_color=int(asked.get("fill_color") or 0),
    )


def _first(folder: Path) -> Path | None:
    there = [folder / name for name in TENSORS if (folder / name).is_file()]
    if not there and not _json(folder / "config.json").get("model_type"):
        there = sorted(folder.glob("*.safetensors"))
    return there[0] if there else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"This file is no JSON: {error}", where=str(path), cure=CURE) from error
    return found if isinstance(found, dict) else {}


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int | float) else (int(size[0]), int(size[-1]))


def _three(value: Any) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(one) for one in value)
