"""Tiny Qwen2-VL, Qwen2.5-VL and Qwen3-VL in the files in which they are published.

With random weights they say noise. With `says` they say that, whatever they are shown: attention and the layers after
it add nothing, each token is a direction of its own, and the head maps each token to the one that follows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
CLASSES = ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen3VLForConditionalGeneration")
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WIDTH = 320
LETTERS = 256
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOOD = (
    '{"scene_type": "Wide view from above, boats in front", ',
    '"architecture": "Stone houses with red roofs", ',
    '"lighting": "Golden evening light", ',
    '"atmosphere": "Calm, slightly hazy"}',
)


def write(folder: Path, kind: str = "qwen2_vl", says: Sequence[str] = (), seed: int = 0) -> Path:
    """Writes config, weights, tokenizer, chat template and preprocessor_config; returns the folder."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    reader = tokenizer(says)
    ids = {word: reader.token_to_id(word) for word in SPECIAL}
    content = config(kind, ids)
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    reader.save(str(folder / "tokenizer.json"))
    vocabulary = json.loads(reader.to_str())["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    own = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    if kind == "qwen3_vl":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")
    else:
        own["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.01, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]}),
        encoding="utf-8",
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation(kind)), encoding="utf-8")
    found = getattr(transformers, CLASSES[KINDS.index(kind)])
    settings = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in found(settings).state_dict().items()}
    rng = torch.Generator().manual_seed(seed)
    tensors = {name: 0.1 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    if says:
        _speak(tensors, [reader.token_to_id(word) for word in ("Ċ", *says, "<|im_end|>")])
    save_file({_published(name, kind): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def config(kind: str, ids: dict[str, int]) -> dict[str, Any]:
    """config.json: flat for the first two, with text_config for the third, as they are published."""
    text: dict[str, Any] = {
        "vocab_size": WIDTH,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": False,
    }
    marks = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }
    rope = {"type": "mrope", "mrope_section": [8, 16, 16]}
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "mlp_ratio": 2, "num_heads": 2, "in_chans": 3, "hidden_size": WIDTH}
        vision |= {"patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2}
        return {"model_type": kind, **text, **marks, "rope_scaling": rope, "vision_config": vision}
    if kind == "qwen2_5_vl":
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "in_chans": 3}
        vision |= {"out_hidden_size": WIDTH, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14}
        vision |= {"temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2}
        return {"model_type": kind, **text, **marks, "rope_scaling": rope, "vision_config": vision}
    vision = {"model_type": kind, "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
    vision |= {"in_channels": 3, "out_hidden_size": WIDTH, "patch_size": 16, "spatial_merge_size": 2}
    vision |= {"temporal_patch_size": 2, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    own = {"model_type": "qwen3_vl_text", "head_dim": 80, "attention_bias": False}
    own["rope_scaling"] = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [16, 12, 12]}
    return {"model_type": kind, "text_config": {**text, **own}, **marks, "vision_config": vision}


def preparation(kind: str) -> dict[str, Any]:
    """preprocessor_config.json."""
    if kind == "qwen3_vl":
        size = {"longest_edge": 16777216, "shortest_edge": 65536}
        own = {"image_processor_type": "Qwen2VLImageProcessorFast", "size": size, "patch_size": 16}
        return {**own, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "merge_size": 2, "temporal_patch_size": 2}
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


def tokenizer(says: Sequence[str] = ()) -> Tokenizer:
    """Qwen's tokenizer with single letters for a vocabulary, its marks, and each of `says` as one token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(letters) == LETTERS
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    made.add_tokens([AddedToken(word, special=False, normalized=False) for word in says])
    assert made.get_vocab_size() <= WIDTH
    return made


def _speak(tensors: dict[str, torch.Tensor], chain: Sequence[int]) -> None:
    for name, tensor in tensors.items():
        if name.startswith("model.language_model.") and name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    tensors["model.language_model.embed_tokens.weight"].copy_(torch.eye(WIDTH))
    tensors["model.language_model.norm.weight"].fill_(1)
    head = tensors["lm_head.weight"].zero_()
    for one, following in zip(chain, chain[1:], strict=False):
        head[following, one] = 1


def _published(name: str, kind: str) -> str:
    if kind == "qwen3_vl":
        return name
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
