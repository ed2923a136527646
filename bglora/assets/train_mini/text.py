"""CLIP's tokenizer with a vocabulary of our own, and the two small text encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LENGTH = 77
WIDTH = 64
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MORE_WORDS = """
with a an and at the of in on by near under over above behind between beside without inside outside
animated animation cartoon background scene painting picture style film still render realistic stylized
place town village city street square harbor quay pier lighthouse boat boats ship bridge castle house houses home
building buildings tower roof roofs window windows door doors wall walls fence stairs garden park forest wood woods
field meadow farm road path river lake sea ocean island coast shore beach sand sandy dune dunes cliff rock rocks stone
stones mountain mountains hill hills valley desert snow ice cave waterfall sky cloud clouds sun moon star stars rain
fog mist storm wind water wave waves floor ground grass flower flowers tree trees palm palms plant plants leaf leaves
coral corals seaweed reef shell bubbles fish underwater room rooms kitchen bedroom bathroom living dining hall corridor
attic cellar library office school classroom shop market cafe restaurant station church table tables chair chairs sofa
bed lamp lamps shelf shelves book books carpet rug curtain curtains cupboard oven stove sink fireplace picture frame
light lights lighting sunlight moonlight daylight shade shadow shadows morning noon afternoon evening dusk dawn night
twilight day sunset sunrise golden warm cold bright dark dim soft hard clear overcast cloudy sunny foggy shallow deep
red orange yellow green blue turquoise teal violet purple pink brown grey gray black white colorful pale vivid
big small tall wide narrow long short old new empty full cozy quiet busy calm wild distant close wooden
character characters person people man woman boy girl child children dog cat bird creature animal animals no nobody
shirt striped dress hat coat red wearing standing sitting walking running looking smiling
view front back side left right top low high angle wide shot camera distance foreground detail details
spring summer autumn winter peaceful mysterious magical abandoned rustic modern medieval futuristic tropical
"""


def train_tokenizer(captions: list[str], folder: Path) -> None:
    """Write vocab.json, merges.txt and their configuration, in CLIP's format, so that known words are one token each.

    Byte-level, so any other word (a trigger) is encoded too, as several tokens.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    work = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    work.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    work.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=8192, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    work.train_from_iterator([*captions, MORE_WORDS], trainer)
    merges = [tuple(pair) for pair in json.loads(work.to_str())["model"]["merges"]]
    names = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges), BEGIN, END]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")


def write_tokenizer(source: Path, folder: Path, pad: str) -> None:
    """A tokenizer folder as SDXL has two of, from the files of `train_tokenizer`; they differ in `pad` only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((source / name).read_bytes())
    marks = {"bos_token": BEGIN, "eos_token": END, "pad_token": pad, "unk_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **marks,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks, indent=2) + "\n", "utf-8")


def load_tokenizers(source: Path, folder: Path) -> tuple[Any, Any]:
    """Both of SDXL's tokenizers (the first pads with the end token, the second with "!")."""
    from transformers import CLIPTokenizer

    write_tokenizer(source, folder / "tokenizer", END)
    write_tokenizer(source, folder / "tokenizer_2", "!")
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), CLIPTokenizer.from_pretrained(folder / "tokenizer_2")


def build_text_encoders(vocabulary_size: int) -> tuple[Any, Any]:
    """CLIPTextModel and CLIPTextModelWithProjection of width 64, as SDXL pairs them."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
    )
    first: Any = CLIPTextModel(config)
    second: Any = CLIPTextModelWithProjection(config)
    with torch.no_grad():  # ten times CLIP's start: small random embeddings take long to tell words apart
        for model in (first, second):
            model.get_input_embeddings().weight.mul_(10.0)
    return first, second


def encode_text(tokenizers: tuple[Any, Any], encoders: tuple[Any, Any], captions: list[str]) -> tuple[Any, Any]:
    """(n, 77, 128) and (n, 64), as the stock pipeline: penultimate states joined, and the second encoder's pooled."""
    import torch

    states = []
    pooled = None
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        ids = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        out = encoder(ids.input_ids, output_hidden_states=True)
        states.append(out.hidden_states[-2])
        pooled = out[0]
    return torch.cat(states, dim=-1), pooled
