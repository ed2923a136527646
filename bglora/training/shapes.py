"""A training's networks as shapes on the meta device, and what its steps take of memory (`bglora.training.memory`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training import network, text
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.counting import Peak, as_on_a_device
from bglora.training.groups import LearningRates
from bglora.training.job import Recipe
from bglora.training.modules import unet_layers
from bglora.training.options import NetworkOptions, Quantization
from bglora.training.painting import PIXELS_AT_ONCE
from bglora.training.quantized import BLOCK, QuantizedLinear, small_bytes

META = torch.device("meta")
DEEP = 3
"""Transformers with more layers than this are counted with one less and with this many, and the rest is added: each
layer takes as much as the one before it."""


@dataclass(frozen=True)
class Shape:
    """What the count depends on.

    Attributes:
        unet, vae: their configs (JSON).
        encoders: class and config (JSON) of both text encoders.
        dtype: the U-Net's and the encoders' numbers; the VAE's are fp32.
        half: steps run under autocast to bf16, as they do on a card.
        latents: (b, channels, h, w).
    """

    unet: str
    vae: str
    encoders: tuple[tuple[type, str], ...]
    dtype: torch.dtype
    half: bool
    network: NetworkOptions
    latents: tuple[int, int, int, int]
    checkpointing: bool
    quantization: Quantization = "none"


@dataclass(frozen=True)
class Step:
    """What a step takes.

    Attributes:
        adapted: weights of the LoRA.
        copies: bytes of their copy in the U-Net's numbers.
        peak: bytes beside all weights, gradients and copies while it goes forward and back.
    """

    adapted: int
    copies: int
    peak: int


def of(base: Base, recipe: Recipe, bucket: Size) -> Shape:
    """A base, loaded in whatever form, trained with a recipe on pictures of one bucket."""
    factor = base.latent_factor
    return Shape(
        base.unet.to_json_string(),
        base.vae.to_json_string(),
        tuple((type(encoder), encoder.config.to_json_string()) for encoder in base.encoders),
        base.unet.dtype,
        base.device != "cpu",
        recipe.network,
        (recipe.batch_size, base.unet.config.in_channels, bucket[0] // factor, bucket[1] // factor),
        recipe.gradient_checkpointing,
        recipe.base_quantization,
    )


def base_bytes(shape: Shape) -> int:
    """Bytes of U-Net, VAE and text encoders as they are loaded."""
    return unet_bytes(shape) + _bytes(_vae(shape.vae), *_encoders(shape))


def unet_bytes(shape: Shape) -> int:
    """Bytes of the U-Net as it is loaded."""
    unet = _unet(shape.unet, shape.dtype, "none")
    whole = _bytes(unet)
    for layer in unet_layers(unet, convolutions=False):
        if type(layer.module) is nn.Linear:
            whole += small_bytes(layer.module.weight, shape.quantization) - layer.module.weight.nbytes
    return whole


@lru_cache(maxsize=32)
def step(shape: Shape) -> Step:
    """One step of training, forward and back."""
    config = json.loads(shape.unet)
    depths = config["transformer_layers_per_block"]
    deepest = max(depths) if isinstance(depths, list) else 0
    between = [depth for depth in depths if DEEP < depth < deepest] if deepest > DEEP else []
    if deepest <= DEEP or between:
        return _counted(shape)
    less, more = (
        _counted(replace(shape, unet=json.dumps(config | {"transformer_layers_per_block": cut})))
        for cut in (
            [min(depth, DEEP - 1) if depth == deepest else depth for depth in depths],
            [min(depth, DEEP) if depth == deepest else depth for depth in depths],
        )
    )
    rest = deepest - DEEP
    return Step(
        more.adapted + rest * (more.adapted - less.adapted),
        more.copies + rest * (more.copies - less.copies),
        more.peak + rest * (more.peak - less.peak),
    )


def _counted(shape: Shape) -> Step:
    unet, encoders = _unet(shape.unet, shape.dtype, shape.quantization), _encoders(shape)
    for net in (unet, *encoders):
        net.requires_grad_(False)
    adapter = network.create(unet, encoders, shape.network, LearningRates(1.0), seed=0)
    if shape.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    adapter.begin()
    adapter.finish()
    parameters = list(adapter.parameters().values())
    copies = [one.computing for one in getattr(adapter, "buffers", {}).values() if one.computing is not one.weights]
    with Peak([unet, *encoders]) as peak, as_on_a_device(shape.half):
        peak.know((*parameters, *adapter.grads, *copies))
        predicted = _predicted(unet, shape, _embedded(shape, encoders))
        torch.autograd.backward(predicted.float().square().mean())
    return Step(sum(map(torch.numel, parameters)), sum(one.nbytes for one in copies), peak.peak)


def _embedded(shape: Shape, encoders: list[Any]) -> tuple[Tensor, Tensor]:
    """States and pooled vectors of captions: from encoders that learn, or as they are cached."""
    batch = shape.latents[0]
    if shape.network.text_encoders:
        if not encoders:
            raise ValueError("text encoders that learn must be among the shapes")
        ids = torch.zeros(batch, 1, text.WINDOW, dtype=torch.long, device=META)
        first, second, pooled = text.encode(encoders[0], encoders[1], ids, ids)
        return torch.cat([first, second], dim=2), pooled
    config = json.loads(shape.unet)
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    widths = (batch, text.WINDOW, config["cross_attention_dim"]), (batch, pooled)
    states, words = (torch.empty(size, device=META, dtype=shape.dtype) for size in widths)
    return states, words


def _predicted(unet: Any, shape: Shape, embedded: tuple[Tensor, Tensor], rows: int = 1) -> Tensor:
    """The U-Net's answer to a batch, `rows` times as large."""
    batch = shape.latents[0] * rows
    states, pooled = (part.repeat(rows, *[1] * (part.ndim - 1)) for part in embedded)
    result: Tensor = unet(
        torch.empty(batch, *shape.latents[1:], device=META, dtype=torch.float32 if rows == 1 else shape.dtype),
        torch.empty(batch, device=META, dtype=torch.long),
        states.to(shape.dtype),
        added_cond_kwargs={
            "text_embeds": pooled.to(shape.dtype),
            "time_ids": torch.empty(batch, 6, device=META, dtype=shape.dtype),
        },
    ).sample
    return result


@lru_cache(maxsize=32)
def _vae_peaks(vae: str, size: tuple[int, int, int]) -> tuple[int, int]:
    """Bytes beside its weights while the VAE encodes and decodes one picture whose latents have this size."""
    net = _vae(vae)
    factor = 2 ** (len(net.config.block_out_channels) - 1)
    picture = torch.empty(1, net.config.in_channels, size[1] * factor, size[2] * factor, device=META)
    peaks = []
    for run, seen in ((net.encode, picture), (net.decode, torch.empty(1, *size, device=META))):
        with torch.no_grad(), Peak([net]) as peak, as_on_a_device(False):
            peak._note(seen.untyped_storage())
            run(seen)
        peaks.append(peak.peak)
    return peaks[0], peaks[1]


def encoding(shape: Shape) -> int:
    """Bytes beside the base while one picture is encoded."""
    return _vae_peaks(shape.vae, shape.latents[1:])[0]


@lru_cache(maxsize=32)
def painting(shape: Shape, samples: int) -> int:
    """Bytes beside base and LoRA while sample pictures are painted: of the U-Net with guidance, or of the VAE."""
    factor = 2 ** (len(json.loads(shape.vae)["block_out_channels"]) - 1)
    area = shape.latents[2] * shape.latents[3] * factor * factor
    count = min(samples, max(1, PIXELS_AT_ONCE["cuda" if shape.half else "cpu"] // area))
    plain = replace(shape, latents=(count, *shape.latents[1:]), network=replace(shape.network, text_encoders=False))
    unet = _unet(shape.unet, shape.dtype, "none")
    with torch.no_grad(), Peak([unet]) as peak, as_on_a_device(False):
        _predicted(unet, plain, _embedded(plain, []), rows=2)
    return max(peak.peak, _vae_peaks(shape.vae, shape.latents[1:])[1])


class _Shapes(QuantizedLinear):
    """A layer in fewer bits, without values."""

    def matrix(self) -> Tensor:
        return torch.empty(self.out_features, self.in_features, dtype=self.compute_dtype, device=META)


def _unet(config: str, dtype: torch.dtype, quantization: Quantization) -> Any:
    from diffusers import UNet2DConditionModel

    models: Any = UNet2DConditionModel
    with META:
        unet = models.from_config(json.loads(config))
    _cast(unet, dtype)
    if quantization != "none":
        for layer in list(unet_layers(unet, convolutions=False)):
            if type(layer.module) is nn.Linear:
                parent, _, name = layer.path.rpartition(".")
                size = layer.module.weight.numel()
                held = torch.empty(size // 2 if quantization == "nf4" else size, device=META, dtype=torch.uint8)
                small = _Shapes(layer.module, held, torch.empty(size // BLOCK, device=META))
                setattr(unet.get_submodule(parent), name, small)
    return unet


def _vae(config: str) -> Any:
    from diffusers import AutoencoderKL

    models: Any = AutoencoderKL
    with META:
        return models.from_config(json.loads(config))


def _encoders(shape: Shape) -> list[Any]:
    found = []
    for kind, config in shape.encoders:
        build: Any = kind
        with META:
            found.append(_cast(build(build.config_class.from_dict(json.loads(config))), shape.dtype))
    return found


def _cast(net: nn.Module, dtype: torch.dtype) -> Any:
    """diffusers' own `to` warns of what its models keep in fp32, which these don't have."""
    return nn.Module.to(net, dtype=dtype)


def _bytes(*nets: nn.Module) -> int:
    tensors = {id(one): one for net in nets for one in (*net.parameters(), *net.buffers())}
    return sum(one.nbytes for one in tensors.values())
