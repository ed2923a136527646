"""Grounding DINO and OWLv2 in the hub's layout, tiny and random, with vocabularies of a few words."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ("person", "animal", "creature", "a", "photo", "of")


def bert_tokenizer(folder: Path) -> None:
    """BERT's files, with the special tokens at the numbers that Grounding DINO knows them by."""
    words = [f"[unused{k}]" for k in range(1030)]
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    for number, word in (fixed | {200 + k: word for k, word in enumerate(WORDS)}).items():
        words[number] = word
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    told = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")


def clip_tokenizer(folder: Path) -> None:
    """CLIP's files: letters, and the words of `WORDS` as merges of them."""
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = [parts[0] + parts[1]]
            vocabulary.append(parts[0])
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {token: k for k, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(dict.fromkeys(merges)) + "\n", encoding="utf-8")
    told = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")


def clip_size(folder: Path) -> int:
    """Tokens of the vocabulary that `clip_tokenizer` wrote there."""
    return len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))


def write_grounding_dino(folder: Path, level: float | None = None, spread: float = 0.5) -> Path:
    """Grounding DINO with a Swin and a BERT of a few channels.

    Random, it is sure of everything. With a `level` its logits, `spread` of what they were, are shifted by that.
    """
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil

    bert_tokenizer(folder)
    swin = {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 4,
        "image_size": 64,
        "out_indices": [2, 3, 4],
    }
    bert = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 1030,
    }
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        max_text_len=64,
    )
    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(config)
    if level is not None:
        _shifted(model.model, level, spread)
    model.save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160}).save_pretrained(folder)
    return folder


def _shifted(model: torch.nn.Module, level: float, spread: float) -> None:
    """A logit is the product of what is seen and a word: one channel of both becomes a constant."""
    words = model.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    seen = model.decoder.layer_norm
    with torch.no_grad():
        seen.weight.mul_(spread)
        for norm, value in ((words, 1.0), (seen, level)):
            norm.weight[0], norm.bias[0] = 0.0, value


def write_owlv2(folder: Path) -> Path:
    """OWLv2 with a CLIP of a few channels."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    clip_tokenizer(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = clip_size(folder)
    text = {"vocab_size": size, "max_position_embeddings": 16, "bos_token_id": size - 2, "eos_token_id": size - 1}
    config = Owlv2Config(
        text_config=small | text, vision_config=small | {"image_size": 64, "patch_size": 16}, projection_dim=16
    )
    torch.manual_seed(0)
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder
