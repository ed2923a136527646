"""sd-scripts' token ids and text encoders, with and without a LoRA, against ours."""

from __future__ import annotations

import gzip
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from bglora.training import emphasis, network, text
from bglora.training.options import NetworkOptions
from tests.oracles.kohya_network import SAME_RATE, lora_of
from tests.oracles.kohya_oracle import Compared, Part, facts, tensors, text_encoders
from tests.oracles.manifests import Variant
from tests.training.tiny_base import BEGIN, END


def token_ids(variant: Variant) -> Iterator[Compared]:
    yield from recorded_tokens(variant)
    yield from recorded_weights(variant)
    yield from words(variant)


def recorded_tokens(variant: Variant) -> Iterator[Compared]:
    """Windows of recorded tokens for every length; the tokens are those of the longest recording of a text."""
    values, told = tensors(variant.folder, "captions"), facts(variant.folder, "captions")["tokenizer"]
    begin, end = told["bos"], told["eos"]
    for key, expected in values.items():
        which, _, rest = key.partition(".")
        if which not in ("ids1", "ids2"):
            continue
        length, _, name = rest.partition(".")
        same = [one for one in values if one.startswith(f"{which}.") and one.split(".")[2] == name]
        longest = max(same, key=lambda one: len(values[one]))
        inner = [number for row in values[longest].tolist() for number in row[1:-1]]
        tokens = inner[: inner.index(end)] if end in inner else inner
        pieces = 1 if length == "None" else int(length) // text.INNER
        marks = text.Marks(begin, end, end if which == "ids1" else 0)
        yield Compared(key, text.windows(tokens, marks, pieces).tolist(), expected.tolist(), "exact")


def recorded_weights(variant: Variant) -> Iterator[Compared]:
    """Weights of words, one behind the other: which they are needs no tokenizer."""
    values = tensors(variant.folder, "captions")
    for case in facts(variant.folder, "captions").get("weighted", []):
        recorded = [weight for row in values[f"weighted.{case['name']}.w1"].tolist() for weight in row[1:-1]]
        told = [weight for _, weight in emphasis.parts(case["text"])]
        got, expected = (
            torch.tensor([weight for weight, _ in groupby([*weights, 1.0])]) for weights in (told, recorded)
        )
        yield Compared(f"weights of {case['name']}", got, expected, tolerance=1e-6)


def words(variant: Variant) -> Iterator[Compared]:
    """Token ids of texts, where open_clip's vocabulary is on this machine."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        return
    recorded, told = tensors(variant.folder, "captions"), facts(variant.folder, "captions")
    source = Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    for which, pad in (("ids1", END), ("ids2", "!")):
        tokenizer = clip_tokenizer(source, pad)
        for key, expected in recorded.items():
            if key.startswith(f"{which}."):
                _, length, name = key.split(".", 2)
                pieces = 1 if length == "None" else int(length) // text.INNER
                got = text.token_ids(tokenizer, told["texts"][name], pieces)
                yield Compared(f"{key} of the text", got.tolist(), expected.tolist(), "exact")
        for case in recorded_facts(told, recorded, which):
            pieces = (case.get("max_token_length") or text.INNER) // text.INNER
            got, _ = emphasis.weighted_ids(tokenizer, case["text"], pieces)
            expected = recorded[f"weighted.{case['name']}.{which}"]
            yield Compared(f"weighted {case['name']}", got.tolist(), expected.tolist(), "exact")


def recorded_facts(told: Any, recorded: Any, which: str) -> list[Any]:
    return [case for case in told.get("weighted", []) if f"weighted.{case['name']}.{which}" in recorded]


def clip_tokenizer(source: Path, pad: str) -> Any:
    """CLIP's tokenizer from its merges."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    names = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
        BEGIN,
        END,
    ]
    marks = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}), "utf-8")
        (home / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text.WINDOW, **marks}
        (home / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
        return CLIPTokenizer.from_pretrained(home)


def texts(variant: Variant) -> Iterator[Compared]:
    values, encoders = tensors(variant.folder, "captions"), text_encoders(variant.folder)
    for case in facts(variant.folder, "captions")["encode"]:
        name = f"enc.{case['name']}"
        first, second, pooled = text.encode(*encoders, values[f"{name}.ids1"].long(), values[f"{name}.ids2"].long())
        for part, got in (("hidden1", first), ("hidden2", second), ("pooled2", pooled)):
            yield Compared(f"{name}.{part}", got, values[f"{name}.{part}"])
        weights = values.get("enc.weighted.w")
        if weights is not None and weights.shape[:2] == values[f"{name}.ids1"].shape[:2]:
            for part, states in (("hidden1", first), ("hidden2", second)):
                yield Compared(f"weighted {part}", text.emphasized(states, weights), values[f"enc.weighted.{part}"])


def text_lora(variant: Variant) -> Iterator[Compared]:
    values, ids = tensors(variant.folder, "te_lora"), tensors(variant.folder, "captions")
    told, encoders = facts(variant.folder, "te_lora"), text_encoders(variant.folder)
    options = NetworkOptions(told["network_dim"], told["network_alpha"], text_encoders=True, unet=False)
    adapter = network.create(None, encoders, options, SAME_RATE, seed=0)
    try:
        adapter.load(lora_of(values, "lora."))
        numbers = [ids[f"enc.one_chunk.{name}"].long() for name in ("ids1", "ids2")]
        adapter.begin()
        outputs = dict(zip(("hidden1", "hidden2", "pooled2"), text.encode(*encoders, *numbers), strict=True))
        for name, got in outputs.items():
            yield Compared(name, got.detach(), values[f"out.{name}"])
        weights = {"hidden1": "w1", "hidden2": "w2", "pooled2": "wp"}
        loss = torch.stack([(got * values[f"loss.{weights[name]}"]).mean() for name, got in outputs.items()]).sum()
        torch.autograd.backward(loss)
        adapter.finish()
        yield Compared("loss", loss.detach().view(1), values["loss"], tolerance=1e-6)
        gradients = adapter.gradients()
        for name, expected in lora_of(values, "grad.").items():
            yield Compared(f"gradient of {name}", gradients[name], expected, tolerance=1e-6)
        without = sorted(name for name, gradient in gradients.items() if not bool(gradient.any()))
        yield Compared("without gradient", without, sorted(told["tensors that receive no gradient"]), "exact")
        yield Compared("modules", len(adapter.targets), told["modules"], "exact")
    finally:
        adapter.detach()


CAPTIONS = ("captions.safetensors", "captions.json")
PARTS = {
    "ids": Part(CAPTIONS, token_ids),
    "text": Part(CAPTIONS, texts),
    "te_lora": Part(("te_lora.safetensors", "te_lora.json", *CAPTIONS), text_lora),
}
