"""How much memory a training takes, counted on a model without weights before anything is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from bglora.errors import MachineError
from bglora.training import network
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.groups import LearningRates
from bglora.training.job import Recipe
from bglora.training.options import DropoutOptions, NetworkOptions

GIB = float(1 << 30)
ROOM = 1.15  # allocator, kernels' workspaces and what the count cannot see
ADAM_BYTES = 16  # weight, gradient and two moments in fp32


@dataclass(frozen=True)
class Memory:
    """Bytes: the base's weights, the LoRA with its optimizer state, and what the backward pass needs kept."""

    base: int
    adapter: int
    activations: int

    @property
    def total(self) -> int:
        return int((self.base + self.adapter + self.activations) * ROOM)


@dataclass(frozen=True)
class Shape:
    """What the count depends on: the U-Net's config (JSON) and number format, text widths, the recipe's sizes."""

    unet: str
    dtype: torch.dtype
    states: int
    pooled: int
    network: NetworkOptions
    latents: tuple[int, int, int, int]
    checkpointing: bool


def estimate(base: Base, recipe: Recipe, bucket: Size) -> Memory:
    """Counts what autograd saves in one forward pass of the U-Net on the meta device (shapes without values)."""
    config, factor = base.unet.config, base.latent_factor
    first, second = base.pipeline.text_encoder.config, base.pipeline.text_encoder_2.config
    dtype = next(base.unet.parameters()).dtype
    shape = Shape(
        base.unet.to_json_string(),
        dtype,
        first.hidden_size + second.hidden_size,
        second.projection_dim,
        replace(recipe.network, text_encoders=False, dropout=DropoutOptions(), dora=False),
        (recipe.batch_size, config.in_channels, bucket[0] // factor, bucket[1] // factor),
        recipe.gradient_checkpointing,
    )
    weights = sum(p.numel() * dtype.itemsize for p in base.unet.parameters())
    return Memory(weights, *adapter_and_activations(shape))


def adapter_and_activations(shape: Shape) -> tuple[int, int]:
    """Bytes of the LoRA with its optimizer state, and of what one step keeps for the way back."""
    adapter, saved = _count(shape)
    if shape.checkpointing:
        # one block at a time is computed again; SDXL's largest holds about an eighth of what is saved without
        saved += _count(replace(shape, checkpointing=False))[1] // 8
    return adapter * ADAM_BYTES, saved


@lru_cache(maxsize=32)
def _count(shape: Shape) -> tuple[int, int]:
    """Parameters of the LoRA, and bytes that the backward pass needs kept."""
    from diffusers import UNet2DConditionModel

    models: Any = UNet2DConditionModel
    with torch.device("meta"):
        unet = models.from_config(json.loads(shape.unet))
    unet.requires_grad_(False)
    unet.set_attn_processor(_FusedAttention())
    unet.to(dtype=shape.dtype)
    adapter = network.create(unet, (), shape.network, LearningRates(1.0), seed=0)
    if shape.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    return sum(p.numel() for p in adapter.parameters().values()), _saved_bytes(unet, shape)


class _KeepsInputs(torch.autograd.Function):
    """Stands for fused attention: keeps query, key, value and result, never the attention matrix."""

    @staticmethod
    def forward(context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(query)
        context.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(context: Any, *_: Any) -> Any:
        raise RuntimeError("shapes are counted here, nothing is trained")


class _FusedAttention:
    """Attention processor for counting; on the meta device diffusers' own would keep whole attention matrices."""

    def __call__(self, attention: Any, states: Any, encoder_hidden_states: Any = None, *_: Any, **__: Any) -> Any:
        context = states if encoder_hidden_states is None else encoder_hidden_states
        keep: Any = _KeepsInputs.apply
        mixed = keep(attention.to_q(states), attention.to_k(context), attention.to_v(context))
        return attention.to_out[1](attention.to_out[0](mixed))


def _saved_bytes(unet: Any, shape: Shape) -> int:
    storages: dict[int, int] = {}
    kept = []  # keeps storages alive, so that their addresses stay different
    weights = {id(p) for p in unet.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            storage = tensor.untyped_storage()
            kept.append(storage)
            storages[storage._cdata] = storage.nbytes()
        return tensor

    def empty(*size: int) -> torch.Tensor:
        return torch.empty(size, device="meta", dtype=shape.dtype)

    batch = shape.latents[0]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        unet(
            empty(*shape.latents),
            torch.empty(batch, device="meta", dtype=torch.long),
            empty(batch, 77, shape.states),
            added_cond_kwargs={"text_embeds": empty(batch, shape.pooled), "time_ids": empty(batch, 6)},
        )
    return sum(storages.values())


def check(base: Base, recipe: Recipe, bucket: Size, *, free: int, force: bool) -> dict[str, Any]:
    """Estimates; refuses what will not fit, naming the first settings that will.

    The base's weights are loaded already, so only the rest has to fit into `free` bytes.

    Returns:
        A record: gib of base, adapter, activations and total.
    """
    need = estimate(base, recipe, bucket)
    rest = need.total - need.base
    record = {key: round(value / GIB, 3) for key, value in asdict(need).items()}
    record["total"] = round(need.total / GIB, 3)
    if rest <= free or force:
        return record
    for change, leaner in _leaner(recipe):
        scale = leaner.resolution / recipe.resolution
        smaller = (_multiple(bucket[0] * scale), _multiple(bucket[1] * scale))
        fits = estimate(base, leaner, smaller)
        if fits.total - fits.base <= free:
            cure = f"Set {change}; or train.force = true, should you know better."
            break
    else:
        cure = "Train on a machine with more memory; nothing short of another base would fit here."
    raise MachineError(
        f"Training needs about {rest / GIB:.1f} GiB and {free / GIB:.1f} GiB are free: it would crawl or die.",
        where=f"train (resolution {recipe.resolution}, dim {recipe.dim}, batch_size {recipe.batch_size})",
        cure=cure,
    )


def _multiple(side: float) -> int:
    return max(64, int(side) // 64 * 64)


def _leaner(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Leaner recipes with their settings, the least painful first."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("train.gradient_checkpointing = true", {"gradient_checkpointing": True}),
        ("train.batch_size = 1", {"batch_size": 1}),
        ("train.dim = 32", {"dim": min(recipe.dim, 32)}),
        ("train.resolution = 768", {"resolution": min(recipe.resolution, 768)}),
        ("train.resolution = 512", {"resolution": min(recipe.resolution, 512)}),
        ("train.dim = 8", {"dim": min(recipe.dim, 8)}),
    ]
    changes: dict[str, str] = {}
    for text, change in steps:
        leaner = replace(recipe, **change)
        if leaner != recipe:
            if leaner.dim != recipe.dim:  # the LoRA is scaled by alpha / dim, which is to stay
                leaner = replace(leaner, alpha=recipe.alpha * leaner.dim / recipe.dim)
                text += f", train.alpha = {leaner.alpha:g}"
            changes[text.partition(" =")[0]] = text
            recipe = leaner
            yield ", ".join(changes.values()), recipe
