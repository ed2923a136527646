"""A tiny OpenCLIP model with random weights, in the files that OpenCLIP's own push to the hub writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

VOCABULARY = 520
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 2},
}
PREPARED: dict[str, Any] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "shortest"}


def write(folder: Path, config: dict[str, Any] = CONFIG, prepared: dict[str, Any] = PREPARED, seed: int = 0) -> Path:
    """Writes open_clip_config.json, open_clip_model.safetensors and tokenizer.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": config, "preprocess_cfg": prepared}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file(tensors(config, seed), folder / "open_clip_model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under OpenCLIP's names, large enough that pictures come out apart."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    width, patch = vision["width"], vision["patch_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (text["context_length"], text["width"]),
        "text_projection": (text["width"], config["embed_dim"]),
        "token_embedding.weight": (text["vocab_size"], text["width"]),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((vision["image_size"] // patch) ** 2 + 1, width),
        "visual.proj": (width, config["embed_dim"]),
        "visual.conv1.weight": (width, 3, patch, patch),
    }
    norms = {"visual.ln_pre": width, "visual.ln_post": width, "ln_final": text["width"]}
    for start, part in (("visual.", vision), ("", text)):
        wide, inner = part["width"], int(part["width"] * part.get("mlp_ratio", 4.0))
        for layer in range(part["layers"]):
            block = f"{start}transformer.resblocks.{layer}"
            norms |= {f"{block}.ln_1": wide, f"{block}.ln_2": wide}
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * wide, wide),
                f"{block}.attn.in_proj_bias": (3 * wide,),
                f"{block}.attn.out_proj.weight": (wide, wide),
                f"{block}.attn.out_proj.bias": (wide,),
                f"{block}.mlp.c_fc.weight": (inner, wide),
                f"{block}.mlp.c_fc.bias": (inner,),
                f"{block}.mlp.c_proj.weight": (wide, inner),
                f"{block}.mlp.c_proj.bias": (wide,),
            }
    rng = torch.Generator().manual_seed(seed)
    made = {name: 0.3 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    for name, wide in norms.items():
        made |= {f"{name}.weight": 1 + 0.1 * torch.randn(wide, generator=rng), f"{name}.bias": torch.zeros(wide)}
    return {**made, "logit_scale": torch.tensor(4.6052)}


def tokenizer() -> Tokenizer:
    """CLIP's tokenizer, with single letters and a few pairs of them for a vocabulary."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e</w>"), ("e", "a"), ("a", "c"), ("c", "h</w>"), ("o", "o")]
    words = [*letters, *(f"{one}</w>" for one in letters), *("".join(pair) for pair in pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: at for at, word in enumerate(words)}
    assert len(vocabulary) == VOCABULARY
    made = Tokenizer(models.BPE(vocabulary, pairs, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = ((word, vocabulary[word]) for word in ("<|startoftext|>", "<|endoftext|>"))
    made.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    made.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return made
