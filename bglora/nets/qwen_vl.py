"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL through transformers: many pictures, a question each, an answer each.

Pictures are made ready by transformers' Pillow processor and the chat is built from the published template here, for
the combined processors want torchvision. Answers are greedy: the same pictures and questions give the same words.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError

from bglora.errors import MachineError, UserError, first_line
from bglora.nets import device
from bglora.nets.checkpoints import CURE
from bglora.nets.published import SHARE
from bglora.nets.quiet import quiet

CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
}
"""`model_type` of config.json to transformers' class."""
DAMAGED = (SafetensorError, StrictDataclassError, OSError, ValueError, TypeError, KeyError, RuntimeError)
"""What transformers raises at a folder that is damaged or not whole."""
PICTURE = "<|image_pad|>"
PICTURE_TOKENS = 768
"""Tokens that a picture takes at most: 1024 x 576 with Qwen2-VL's tokens of 28 x 28 pixels."""
FEWEST_TOKENS = 4
LONGEST_SIDE = 100
"""Sides of a picture are at most so unlike each other; what is longer is cut. The processor refuses 200."""
ROOM_GB = 1.5
"""For what is computed, beside the weights."""
SMALLER = 'bglora set caption.quantize "4bit", or bglora set caption.qwen_vl "Qwen2-VL-2B-Instruct"'


class QwenVL:
    """A model, loaded: a picture and a question in, an answer out."""

    def __init__(self, folder: Path, quantize: str = "none", max_tokens: int = 160) -> None:
        """Loads a published folder.

        Args:
            folder: config.json, *.safetensors, the tokenizer's files, preprocessor_config.json.
            quantize: `none`, `8bit` or `4bit`, by bitsandbytes.
            max_tokens: tokens of an answer at most.

        Raises:
            UserError: a folder of another kind, or a damaged one.
            MachineError: transformers or bitsandbytes is missing or too old, or memory is short.
        """
        kind = model_kind(folder)
        self.where = device.device()
        _check_room(folder, quantize, self.where)
        with quiet():
            self.tokenizer, self.pictures = _readers(folder)
            self.model = _model(folder, kind, quantize, self.where)
        self.template = _template(folder, self.tokenizer)
        self.token = int(self.tokenizer.convert_tokens_to_ids(PICTURE))
        self.max_tokens = max_tokens
        self.takes = inspect.signature(self.model.forward).parameters

    @torch.inference_mode()
    def answer(self, pictures: Sequence[np.ndarray], questions: Sequence[str]) -> list[str]:
        """Answers one question about each picture, all in one batch.

        Args:
            pictures: uint8 RGB (H, W, 3), any sizes.
            questions: as many.
        """
        looked = self._look(pictures)
        counts = looked["image_grid_thw"].prod(1) // self.pictures.merge_size**2
        texts = [self._chat(question, int(count)) for question, count in zip(questions, counts, strict=True)]
        read = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False)
        given = {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"], **looked}
        if "mm_token_type_ids" in self.takes:
            given["mm_token_type_ids"] = (read["input_ids"] == self.token).int()
        given = {name: tensor.to(self.where) for name, tensor in given.items()}
        given["pixel_values"] = given["pixel_values"].to(self.model.dtype)
        with quiet():
            made = self.model.generate(**given, generation_config=self._greedy())
        return list(self.tokenizer.batch_decode(made[:, read["input_ids"].shape[1] :], skip_special_tokens=True))

    def _look(self, pictures: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        side = (self.pictures.patch_size * self.pictures.merge_size) ** 2
        size = {"shortest_edge": FEWEST_TOKENS * side, "longest_edge": PICTURE_TOKENS * side}
        images = [Image.fromarray(_cut(picture)) for picture in pictures]
        made = self.pictures(images=images, size=size, return_tensors="pt")
        return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}

    def _chat(self, question: str, count: int) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=True,
        )
        return str(text).replace(PICTURE, PICTURE * count, 1)

    def _greedy(self) -> Any:
        from transformers import GenerationConfig

        own = self.model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=self.max_tokens,
            eos_token_id=ends,
            pad_token_id=pad if pad is not None else self.tokenizer.eos_token_id,
        )


def model_kind(folder: Path) -> str:
    """`model_type` of a folder's config.json; a `UserError` where it is no Qwen-VL."""
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            "This is no folder of a Qwen-VL model: its config.json can't be read.",
            where=str(path),
            cure="Give the folder with config.json and *.safetensors, or a name: Qwen2-VL-7B-Instruct.",
        ) from error
    if kind not in CLASSES:
        raise UserError(
            f"This is a model of the kind {kind!r}, not Qwen2-VL, Qwen2.5-VL or Qwen3-VL.",
            where=str(path),
            cure='Name one of these: bglora set caption.qwen_vl "Qwen2-VL-7B-Instruct".',
        )
    return str(kind)


def _model(folder: Path, kind: str, quantize: str, where: torch.device) -> Any:
    try:
        import transformers

        found = getattr(transformers, CLASSES[kind])
    except (ImportError, AttributeError, RuntimeError) as error:
        raise MachineError(
            f"transformers has no {CLASSES[kind]} here: {first_line(error)}",
            where=str(folder / "config.json"),
            cure="pip install --upgrade transformers; a torchvision of another build than torch breaks it, too.",
        ) from error
    numbers = device.wide_dtype(where)
    extra = {"quantization_config": _quantized(quantize, numbers)} if quantize != "none" else {}
    try:
        model, told = found.from_pretrained(
            folder,
            dtype=numbers,
            device_map={"": where},
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **extra,
        )
    except (MemoryError, *DAMAGED) as error:
        if device.is_full(error):
            raise _too_large(folder, "the device's memory is full") from error
        raise UserError(
            f"This model is damaged or not whole: {first_line(error)}", where=str(folder), cure=CURE
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise UserError(f"This model is not whole: it lacks {missing[0]!r}.", where=str(folder), cure=CURE)
    return model.eval()


def _quantized(quantize: str, numbers: torch.dtype) -> Any:
    if util.find_spec("bitsandbytes") is None:
        raise MachineError(
            "Weights in fewer bits need the package bitsandbytes, which is not here.",
            where=f"caption.quantize = {quantize}",
            cure='pip install "bglora[studio]", or bglora set caption.quantize none',
        )
    from transformers import BitsAndBytesConfig

    whole = ["visual", "model.visual", "lm_head"]  # under both names that transformers gave it
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=numbers, llm_int8_skip_modules=whole
    )


def _readers(folder: Path) -> tuple[Any, Any]:
    """The tokenizer, and what makes pictures ready without torchvision."""
    import transformers

    # Before version 5, the plain name was the one with Pillow.
    name = "Qwen2VLImageProcessorPil" if hasattr(transformers, "Qwen2VLImageProcessorPil") else "Qwen2VLImageProcessor"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        pictures = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    except (ImportError, *DAMAGED) as error:
        raise UserError(
            f"The config, the tokenizer or preprocessor_config.json can't be read: {first_line(error)}",
            where=str(folder),
            cure=CURE,
        ) from error
    if tokenizer.convert_tokens_to_ids(PICTURE) in (None, tokenizer.unk_token_id):
        raise UserError(f"This tokenizer has no token {PICTURE}.", where=str(folder), cure=CURE)
    return tokenizer, pictures


def _template(folder: Path, tokenizer: Any) -> str:
    """The published chat template: in the tokenizer, or in a file of its own."""
    if tokenizer.chat_template:
        return str(tokenizer.chat_template)
    if (path := folder / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    if (path := folder / "chat_template.json").is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["chat_template"])
    raise UserError("There is no chat template in this folder.", where=str(folder), cure=CURE)


def _check_room(folder: Path, quantize: str, where: torch.device) -> None:
    """A card that can't hold the weights is told before half of them are read."""
    if where.type != "cuda":
        return
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) * SHARE[quantize]
    if quantize == "none" and device.wide_dtype(where) == torch.float32:
        size *= 2  # files are in bfloat16
    free = device.free_bytes(where)
    if free < size + ROOM_GB * 2**30:
        raise _too_large(folder, f"{size / 2**30 + ROOM_GB:.1f} GB are needed, {free / 2**30:.1f} are free")


def _too_large(folder: Path, why: str) -> MachineError:
    return MachineError(f"The captioner doesn't fit on the device: {why}.", where=str(folder), cure=SMALLER)


def _cut(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture that is a strip."""
    height, width = picture.shape[:2]
    most_high, most_wide = min(height, LONGEST_SIDE * width), min(width, LONGEST_SIDE * height)
    top, left = (height - most_high) // 2, (width - most_wide) // 2
    return picture[top : top + most_high, left : left + most_wide]
