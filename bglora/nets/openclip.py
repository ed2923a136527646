"""OpenCLIP's two towers: pictures and words into one space, through either of two libraries, with equal numbers.

Pictures are made ready here as OpenCLIP's `image_transform` does (3.3.0), with Pillow and without torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from typing import Any, Protocol

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor

from bglora.errors import MachineError, UserError, first_line
from bglora.nets import device
from bglora.nets.checkpoints import CURE
from bglora.nets.openclip_checkpoint import (
    Prepared,
    Published,
    clip_config,
    clip_tensors,
    foreign_parts,
    read_tensors,
)

TORCHVISION = "Install torch and torchvision from the same index, or: pip uninstall torchvision"


class Towers(Protocol):
    """A model on its device: `images` takes float (N, 3, H, W), `texts` what `tokens` makes of words, int64 (N, context
    length); both give (N, D) float32, not of length 1. `scale` is what cosines are multiplied by before a softmax.
    """

    scale: float

    def images(self, pixels: Tensor) -> Tensor: ...

    def tokens(self, words: Sequence[str]) -> Tensor: ...

    def texts(self, tokens: Tensor) -> Tensor: ...


class Package:
    """The towers through the package open_clip_torch: every architecture that it knows."""

    def __init__(self, published: Published, where: torch.device) -> None:
        """Raises `MachineError` if the package can't be imported, `UserError` if the weights are of another model."""
        try:
            import open_clip
            from open_clip.convert import convert_state_dict
            from open_clip.model import convert_to_custom_text_state_dict
        except (ImportError, RuntimeError, OSError) as error:
            raise MachineError(
                f"The package open_clip_torch can't be imported: {_line(error)}",
                where="cluster.backend = openclip",
                cure=f"{TORCHVISION}; without open_clip_torch, transformers' CLIP classes take its place.",
            ) from error
        self.published = published
        config = {**published.config, "text_cfg": dict(published.config["text_cfg"])}
        if "hf_model_name" in config["text_cfg"]:
            config["text_cfg"]["hf_model_pretrained"] = False  # all weights are in the file
        custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
        kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        if "multimodal_cfg" in config:
            kind = open_clip.CoCa
        try:
            self.model = kind(**config).eval()
        except (TypeError, ValueError, RuntimeError) as error:
            raise _no_model(published, error) from error
        tensors = {name.removeprefix("state_dict.").removeprefix("module."): t for name, t in _read(published).items()}
        tensors = convert_state_dict(self.model, tensors)
        if "positional_embedding" in tensors and not hasattr(self.model, "positional_embedding"):
            tensors = convert_to_custom_text_state_dict(tensors)
        if "logit_scale" in tensors:
            tensors["logit_scale"] = tensors["logit_scale"].reshape(self.model.logit_scale.shape)
        _fill(self.model, {n: t for n, t in tensors.items() if not n.endswith("position_ids")}, published)
        self.where, self.kind = where, device.dtype(where)
        _move(self.model, where, self.kind)
        self.scale = float(self.model.logit_scale.detach().float().exp().max())

    @torch.inference_mode()
    def images(self, pixels: Tensor) -> Tensor:
        """Pictures, made ready, to vectors."""
        return self.model.encode_image(pixels.to(self.where, self.kind)).float().cpu()

    def tokens(self, words: Sequence[str]) -> Tensor:
        """Words to tokens; a model with a tokenizer of another kind than CLIP's brings its own."""
        if not self.published.config["text_cfg"].get("hf_tokenizer_name"):
            return tokens(words, self.published)
        from open_clip import get_tokenizer

        try:
            return get_tokenizer(f"local-dir:{self.published.folder}")(list(words))
        except (OSError, ValueError, ImportError) as error:
            raise _no_tokenizer(self.published, _line(error)) from error

    @torch.inference_mode()
    def texts(self, tokens: Tensor) -> Tensor:
        """Tokens to vectors."""
        return self.model.encode_text(tokens.to(self.where)).float().cpu()


class Classes:
    """The towers through transformers' CLIPModel: OpenCLIP's plain vision transformers."""

    def __init__(self, published: Published, where: torch.device) -> None:
        """Raises `MachineError` if transformers can't be used, or the architecture needs open_clip_torch; `UserError`
        if the weights are of another model."""
        try:
            from transformers import CLIPConfig, CLIPModel
        except (ImportError, RuntimeError) as error:
            raise MachineError(
                f"transformers' CLIP classes can't be imported: {_line(error)}",
                where="cluster.backend = openclip",
                cure=TORCHVISION if util.find_spec("torchvision") else "pip install --upgrade transformers",
            ) from error
        if published.config:
            foreign = foreign_parts(published.config)
            if foreign:
                raise MachineError(
                    f"transformers' CLIP classes can't hold this model ({', '.join(foreign[:3])}).",
                    where=str(published.tensors),
                    cure='pip install "bglora[studio]" (it brings open_clip_torch), or choose a plain ViT: ViT-L-14.',
                )
            asked = clip_config(published.config)
        else:
            asked = {key: value for key, value in published.transformers_config.items() if key != "model_type"}
        try:
            with torch.device("meta"):
                model = CLIPModel(CLIPConfig(**asked))
        except (TypeError, ValueError, RuntimeError, StrictDataclassError) as error:
            raise _no_model(published, error) from error
        tensors = _read(published)
        if published.config:
            try:
                tensors = clip_tensors(tensors)
            except KeyError as error:
                raise _another(published, f"it has {error.args[0]!r}") from error
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
        _fill(model, tensors, published, assign=True)
        for part in (model.text_model.embeddings, model.vision_model.embeddings):
            part.position_ids = torch.arange(part.position_embedding.weight.shape[0])[None]
        self.published, self.where, self.kind = published, where, device.dtype(where)
        self.model = model.eval()
        _move(self.model, where, self.kind)
        self.scale = float(self.model.logit_scale.detach().float().exp())

    @torch.inference_mode()
    def images(self, pixels: Tensor) -> Tensor:
        """Pictures, made ready, to vectors."""
        seen = self.model.vision_model(pixel_values=pixels.to(self.where, self.kind))
        return self.model.visual_projection(seen.pooler_output).float().cpu()

    def tokens(self, words: Sequence[str]) -> Tensor:
        """Words to tokens."""
        return tokens(words, self.published)

    @torch.inference_mode()
    def texts(self, tokens: Tensor) -> Tensor:
        """Tokens to vectors."""
        read = self.model.text_model(input_ids=tokens.to(self.where))
        return self.model.text_projection(read.pooler_output).float().cpu()


def prepare(picture: np.ndarray, asked: Prepared) -> Tensor:
    """A picture as the net wants it.

    Args:
        picture: uint8 RGB (H, W, 3).

    Returns:
        float32 (3, height, width).
    """
    method = Image.Resampling.BILINEAR if asked.interpolation == "bilinear" else Image.Resampling.BICUBIC
    image = Image.fromarray(picture)
    height, width = asked.size
    if asked.resize_mode == "squash":
        image = image.resize((width, height), method)
    else:
        image = image.resize(_scaled(image.size, asked), method)
        image = _cut_or_padded(image, asked)
    pixels = torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1)
    return (pixels - torch.tensor(asked.mean)[:, None, None]) / torch.tensor(asked.std)[:, None, None]


def _scaled(size: tuple[int, int], asked: Prepared) -> tuple[int, int]:
    """Width and height before the cut. A square target is reached as torchvision's Resize does (the longer side cut
    down to whole pixels), others as OpenCLIP's ResizeKeepRatio (rounded)."""
    width, height = size
    target_height, target_width = asked.size
    if asked.resize_mode == "shortest" and target_height == target_width:
        short, long = sorted(size)
        longer = int(target_width * long / short)
        return (target_width, longer) if width <= height else (longer, target_width)
    ratios = height / target_height, width / target_width
    ratio = max(ratios) if asked.resize_mode == "longest" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _cut_or_padded(image: Image.Image, asked: Prepared) -> Image.Image:
    height, width = asked.size
    wide, high = max(width, image.width), max(height, image.height)
    if (wide, high) != image.size:
        fill = (asked.fill_color,) * 3
        padded = Image.new("RGB", (wide, high), fill)
        padded.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def tokens(texts: Sequence[str], published: Published) -> Tensor:
    """Words as tokens, int64 (N, context length), padded with 0 and cut as OpenCLIP's tokenizer does.

    Raises:
        UserError: no tokenizer beside the weights.
    """
    if published.tokenizer is None:
        raise _no_tokenizer(published, "tokenizer.json is not there")
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(published.tokenizer))
    reader.no_padding()
    reader.no_truncation()
    config = published.config or {"text_cfg": published.transformers_config.get("text_config", {})}
    text = config["text_cfg"]
    length = text.get("context_length") or text.get("max_position_embeddings") or 77
    made = torch.zeros((len(texts), length), dtype=torch.long)
    for row, one in zip(made, reader.encode_batch(list(texts)), strict=True):
        ids = one.ids if len(one.ids) <= length else [*one.ids[: length - 1], one.ids[-1]]
        row[: len(ids)] = torch.tensor(ids)
    return made


def _no_tokenizer(published: Published, why: str) -> UserError:
    return UserError(
        f"There is no tokenizer beside these weights, so no word can be compared with pictures: {why}.",
        where=str(published.folder),
        cure="Put the model's tokenizer.json there, or name scenes yourself: bglora set cluster.titles '[]'",
    )


def _read(published: Published) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in read_tensors(published).items() if tensor.is_floating_point()}


def _fill(model: Any, tensors: dict[str, Tensor], published: Published, *, assign: bool = False) -> None:
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    shapes = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name]]
    missing, more = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if shapes:
        name = shapes[0]
        raise _another(published, f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name])}")
    if missing or more:
        raise _another(published, f"it lacks {missing[0]!r}" if missing else f"it has {more[0]!r}")
    model.load_state_dict(tensors, strict=True, assign=assign)


def _move(model: Any, where: torch.device, kind: torch.dtype) -> None:
    device.moved(
        model,
        where,
        kind,
        what="OpenCLIP",
        setting=f"cluster.backend = openclip on {where}",
        cure='bglora set cluster.openclip "ViT-B-32/laion2b_s34b_b79k", or set BGLORA_DEVICE=cpu',
    )


def _no_model(published: Published, error: Exception) -> UserError:
    return UserError(f"No model can be built from this config: {_line(error)}", where=str(published.folder), cure=CURE)


def _another(published: Published, sign: str) -> UserError:
    return UserError(
        f"These weights are of another model than their config or name says: {sign}.",
        where=str(published.tensors),
        cure="Check cluster.openclip: the name before the weights must be theirs (ViT-L-14/laion2b_s32b_b82k).",
    )


def _line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
