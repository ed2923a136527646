"""How much memory a training takes, counted on a model without weights before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bglora.errors import MachineError
from bglora.training.adapter import Adapter
from bglora.training.base import Base
from bglora.training.buckets import Size
from bglora.training.job import Recipe

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


def estimate(base: Base, recipe: Recipe, bucket: Size) -> Memory:
    """Counts what autograd saves in one forward pass of the U-Net on the meta device (shapes without values)."""
    config, factor = base.unet.config, base.latent_factor
    dtype = next(base.unet.parameters()).dtype
    with torch.device("meta"):
        unet = type(base.unet).from_config(config)
    unet.requires_grad_(False)
    weights = sum(p.numel() * dtype.itemsize for p in base.unet.parameters())
    adapter = Adapter(unet, recipe.dim, recipe.alpha, 0)
    size = sum(p.numel() for p in adapter.parameters().values())
    unet.to(dtype=dtype)
    if recipe.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    shape = (recipe.batch_size, config.in_channels, bucket[0] // factor, bucket[1] // factor)
    saved = _saved_bytes(unet, shape, dtype, base)
    if recipe.gradient_checkpointing:
        # one block at a time is computed again; SDXL's largest holds about an eighth of what is saved without
        plain = estimate(base, replace(recipe, gradient_checkpointing=False), bucket)
        saved += plain.activations // 8
    return Memory(weights, size * ADAM_BYTES, saved)


def _saved_bytes(unet: Any, shape: tuple[int, ...], dtype: torch.dtype, base: Base) -> int:
    storages: dict[int, int] = {}
    kept = []  # keeps storages alive, so that their addresses stay different
    frozen = {id(p) for p in unet.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in frozen and not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept.append(storage)
            storages[storage._cdata] = storage.nbytes()
        return tensor

    first = base.pipeline.text_encoder.config
    second = base.pipeline.text_encoder_2.config
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        unet(
            torch.empty(shape, device="meta", dtype=dtype),
            torch.empty(shape[0], device="meta", dtype=torch.long),
            torch.empty(shape[0], 77, first.hidden_size + second.hidden_size, device="meta", dtype=dtype),
            added_cond_kwargs={
                "text_embeds": torch.empty(shape[0], second.projection_dim, device="meta", dtype=dtype),
                "time_ids": torch.empty(shape[0], 6, device="meta"),
            },
        )
    return sum(storages.values())


def free_bytes(device: str) -> int:
    """Memory that is free now on the device that trains."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


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
    steps = [
        ("train.gradient_checkpointing = true", {"gradient_checkpointing": True}),
        ("train.batch_size = 1", {"batch_size": 1}),
        ("train.dim = 32", {"dim": min(recipe.dim, 32)}),
        ("train.resolution = 768", {"resolution": min(recipe.resolution, 768)}),
        ("train.resolution = 512", {"resolution": min(recipe.resolution, 512)}),
        ("train.dim = 8", {"dim": min(recipe.dim, 8)}),
    ]
    changes: dict[str, str] = {}
    for text, change in steps:
        leaner = replace(recipe, **change)  # type: ignore[arg-type]
        if leaner != recipe:
            changes[text.partition(" =")[0]] = text
            recipe = leaner
            yield ", ".join(changes.values()), recipe
