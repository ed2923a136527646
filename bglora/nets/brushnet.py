"""BrushNet: a copy of a diffusion UNet without attention that sees the picture with its hole and steers the UNet.

Ju et al., BrushNet: A Plug-and-Play Image Inpainting Model with Decomposed Dual-Branch Diffusion, ECCV 2024. Built from
diffusers' own blocks; the published folders (config.json and diffusion_pytorch_model.safetensors) are read strictly.
`brushnet_injection` adds its features to a UNet, `brushnet_painting` paints with both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import DownBlock2D, UNetMidBlock2D, UpBlock2D
from torch import Tensor, nn

from bglora.errors import UserError
from bglora.nets import checkpoints
from bglora.nets.device import moved

CONFIG = "config.json"
TENSORS = "diffusion_pytorch_model.safetensors"
OTHER_NAMES = ("diffusion_pytorch_model.fp16.safetensors", "model.safetensors")
SMALLER = "Close what else uses the card, or set BGLORA_DEVICE=cpu"
CURE = "Take a BrushNet: brushnet-sd15-random, brushnet-sdxl-random, or a folder that its authors published"


@dataclass(frozen=True)
class Config:
    """What of a published config.json shapes the network; other keys of it (attention, text) have no effect there.

    Attributes:
        block_out_channels: width of each level, the finest first.
        addition_embed_type: "text_time" where the pooled text and the picture's sizes are seen (SDXL), else None.
        projection_class_embeddings_input_dim: length of both together.
        brushnet_conditioning_channel_order: "bgr" turns the order of all five channels round.
        global_pool_conditions: every feature is averaged over the picture.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int = 2
    in_channels: int = 4
    conditioning_channels: int = 5
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    act_fn: str = "silu"
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    resnet_time_scale_shift: str = "default"
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    brushnet_conditioning_channel_order: str = "rgb"
    global_pool_conditions: bool = False

    @property
    def family(self) -> str:
        """The family of base models that it belongs to, for people."""
        return "SDXL" if self.addition_embed_type else "Stable Diffusion 1.5"


SD15 = Config((320, 640, 1280, 1280))
SDXL = Config(
    (320, 640, 1280),
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)

PLAIN: dict[str, set[str | None]] = {
    "down_block_types": {"DownBlock2D"},
    "up_block_types": {"UpBlock2D"},
    "mid_block_type": {"MidBlock2D"},
    "class_embed_type": {None},
    "encoder_hid_dim_type": {None},
    "addition_embed_type": {None, "text_time"},
    "brushnet_conditioning_channel_order": {"rgb", "bgr"},
}
"""Keys of config.json whose other values make another network."""


def read_config(values: Mapping[str, Any], where: str) -> Config:
    """A published config.json, checked.

    Raises:
        UserError: it is another model's, or a BrushNet of a kind that is not known here.
    """
    if "block_out_channels" not in values or "conditioning_channels" not in values:
        raise UserError("This config is not a BrushNet's.", where=where, cure=CURE)
    for key, known in PLAIN.items():
        value = values.get(key)
        for one in value if isinstance(value, list) else [value]:
            if one not in known and one is not None:
                raise UserError(_stranger(f"{key} = {one}"), where=where, cure=CURE)
    own = {field.name: values[field.name] for field in fields(Config) if values.get(field.name) is not None}
    try:
        return Config(**own | {"block_out_channels": tuple(values["block_out_channels"])})
    except TypeError as error:
        raise UserError(f"This config can't be read: {error}", where=where, cure=CURE) from error


def _stranger(sign: str) -> str:
    if "attn" in sign.lower() or "attention" in sign.lower():
        return f"This is PowerPaint's BrushNet or another one with attention ({sign}), which is a model of its own."
    return f"This is a BrushNet of another kind ({sign})."


@dataclass(frozen=True)
class Features:
    """What the branch adds to a UNet, each (rows, channels, h, w), in the order in which the UNet meets them."""

    down: tuple[Tensor, ...]
    mid: Tensor
    up: tuple[Tensor, ...]

    @property
    def all(self) -> tuple[Tensor, ...]:
        """Down, mid, up."""
        return (*self.down, self.mid, *self.up)


class BrushNet(nn.Module):
    """The branch. Its keys are those of the published checkpoints.

    Calling it gives the `Features` of one denoising step.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths, layers = config.block_out_channels, config.layers_per_block
        time = 4 * widths[0]
        entry = config.in_channels + config.conditioning_channels
        self.conv_in_condition = nn.Conv2d(entry, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(widths[0], time, act_fn=config.act_fn)
        if config.addition_embed_type:
            length, each = config.projection_class_embeddings_input_dim, config.addition_time_embed_dim
            if not length or not each:
                raise ValueError("text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim")
            self.add_time_proj = Timesteps(each, config.flip_sin_to_cos, config.freq_shift)
            self.add_embedding = TimestepEmbedding(length, time)
        shared: dict[str, Any] = {
            "temb_channels": time,
            "resnet_eps": config.norm_eps,
            "resnet_act_fn": config.act_fn,
            "resnet_groups": config.norm_num_groups,
            "resnet_time_scale_shift": config.resnet_time_scale_shift,
        }
        self.down_blocks = nn.ModuleList(_down_blocks(config, shared))
        self.mid_block = UNetMidBlock2D(
            widths[-1], add_attention=False, output_scale_factor=config.mid_block_scale_factor, **shared
        )
        self.up_blocks = nn.ModuleList(_up_blocks(config, shared))
        last = len(widths) - 1
        down = [widths[0], *(w for k, w in enumerate(widths) for _ in range(layers + (k < last)))]
        up = [w for k, w in enumerate(reversed(widths)) for _ in range(layers + 1 + (k < last))]
        self.brushnet_down_blocks = nn.ModuleList(nn.Conv2d(width, width, 1) for width in down)
        self.brushnet_mid_block = nn.Conv2d(widths[-1], widths[-1], 1)
        self.brushnet_up_blocks = nn.ModuleList(nn.Conv2d(width, width, 1) for width in up)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each feature, in the order of `Features.all`."""
        convolutions = (*self.brushnet_down_blocks, self.brushnet_mid_block, *self.brushnet_up_blocks)
        return tuple(int(one.out_channels) for one in convolutions)

    def scales(self, scale: float = 1.0, *, guess: bool = False) -> list[float]:
        """By what each feature is multiplied. `guess`: weak at the first, growing tenfold up to the last."""
        count = len(self.widths)
        if not guess:
            return [scale] * count
        return [float(one) * scale for one in torch.logspace(-1, 0, count)]

    def added(self, pooled: Tensor, time_ids: Tensor) -> Tensor:
        """What pooled text (n, d) and sizes (n, 6) add to the time embedding, (n, e). Same for all steps; SDXL only."""
        sizes = self.add_time_proj(time_ids.flatten()).reshape(len(pooled), -1)
        return torch.as_tensor(self.add_embedding(torch.cat([pooled, sizes.to(pooled.dtype)], 1)))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        condition: Tensor,
        added: Tensor | None = None,
        scales: Sequence[float] | None = None,
    ) -> Features:
        """The features of one step.

        Args:
            sample: noisy latents (n, 4, h, w), as the scheduler scales them.
            timestep: of the noise schedule.
            condition: (n, 5, h, w): latents of the picture with its hole blacked out, and 1 where it is kept.
            added: from `added`; SDXL only. It may have k n rows, k texts for the same pictures one after the other:
                then what no text has touched is computed for n rows, the rest for k n, and there are k n features.
            scales: from `scales`; None: all 1.
        """
        if self.config.brushnet_conditioning_channel_order == "bgr":
            condition = condition.flip(1)
        if (added is None) == bool(self.config.addition_embed_type):
            raise ValueError(f"a BrushNet of {self.config.family} {'wants' if added is None else 'knows'} no text")
        embedding = self._time(sample, timestep, added)
        hidden = self.conv_in_condition(torch.cat([sample, condition], 1))
        down = [self.brushnet_down_blocks[0](hidden)]
        if added is not None and len(added) != len(sample):
            hidden = hidden.repeat(len(added) // len(sample), 1, 1, 1)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, new = block(hidden, embedding)
            skips += new
        down += [convolve(skip) for convolve, skip in zip(self.brushnet_down_blocks[1:], skips[1:], strict=True)]
        hidden = self.mid_block(hidden, embedding)
        mid, up = self.brushnet_mid_block(hidden), self._up(hidden, skips, embedding)
        return self._weighed(Features(tuple(down), mid, up), scales)

    def _time(self, sample: Tensor, timestep: Tensor | float, added: Tensor | None) -> Tensor:
        rows = len(sample) if added is None else len(added)
        times = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(rows)
        embedding = self.time_embedding(self.time_proj(times).to(sample.dtype))
        return embedding if added is None else embedding + added

    def _up(self, hidden: Tensor, skips: list[Tensor], embedding: Tensor) -> tuple[Tensor, ...]:
        """The way up, by hand: the blocks themselves don't give what lies between."""
        found: list[Tensor] = []
        blocks: Any = self.up_blocks
        for block in blocks:
            for resnet in block.resnets:
                hidden = resnet(torch.cat([hidden, skips.pop()], 1), embedding)
                found.append(self.brushnet_up_blocks[len(found)](hidden))
            if block.upsamplers is not None:
                hidden = block.upsamplers[0](hidden, skips[-1].shape[2:])
                found.append(self.brushnet_up_blocks[len(found)](hidden))
        return tuple(found)

    def _weighed(self, features: Features, scales: Sequence[float] | None) -> Features:
        values = features.all
        if self.config.global_pool_conditions:
            values = tuple(value.mean((2, 3), keepdim=True) for value in values)
        if scales is not None and any(scale != 1 for scale in scales):
            values = tuple(value * scale for value, scale in zip(values, scales, strict=True))
        count = len(features.down)
        return Features(values[:count], values[count], values[count + 1 :])


def _down_blocks(config: Config, shared: Mapping[str, Any]) -> list[nn.Module]:
    widths = config.block_out_channels
    return [
        DownBlock2D(
            widths[max(0, k - 1)],
            width,
            num_layers=config.layers_per_block,
            add_downsample=k < len(widths) - 1,
            downsample_padding=config.downsample_padding,
            **shared,
        )
        for k, width in enumerate(widths)
    ]


def _up_blocks(config: Config, shared: Mapping[str, Any]) -> list[nn.Module]:
    widths = config.block_out_channels[::-1]
    return [
        UpBlock2D(
            widths[min(k + 1, len(widths) - 1)],
            prev_output_channel=widths[max(0, k - 1)],
            out_channels=width,
            num_layers=config.layers_per_block + 1,
            add_upsample=k < len(widths) - 1,
            **shared,
        )
        for k, width in enumerate(widths)
    ]


def load(path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> BrushNet:
    """A BrushNet from a published folder, or from a .safetensors file alone of the two published shapes.

    Raises:
        UserError: files are missing or damaged, or it is another model's checkpoint.
    """
    file = _tensor_file(path)
    tensors = checkpoints.read(file)
    beside = (path if path.is_dir() else file.parent) / CONFIG
    if beside.is_file():
        try:
            values = json.loads(beside.read_text("utf-8"))
        except ValueError as error:
            raise UserError(
                f"This config is damaged: {error}", where=str(beside), cure="Copy the folder or fetch it again"
            ) from error
        config = read_config(values, str(beside))
    else:
        config = SDXL if any(name.startswith("add_embedding.") for name in tensors) else SD15
    return from_tensors(config, tensors, str(file), dtype=dtype, device=device)


def from_tensors(
    config: Config,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> BrushNet:
    """The network with exactly these tensors; none may be missing, left over or of another shape."""
    with torch.device("meta"):
        net = BrushNet(config)
    _check(net.state_dict(), tensors, where)
    net.load_state_dict(dict(tensors), strict=True, assign=True)
    moved(net, device or torch.device("cpu"), dtype, what="BrushNet", setting=where, cure=SMALLER)
    return net.requires_grad_(False).eval()


def _tensor_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (TENSORS, *OTHER_NAMES):
        if (path / name).is_file():
            return path / name
    there = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(there) == 1:
        return there[0]
    raise UserError(f"There is no {TENSORS} in this folder.", where=str(path), cure=CURE)


def _check(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    missing = sorted(set(wanted) - set(given))
    extra = sorted(set(given) - set(wanted))
    attention = next((name for name in extra if "attention" in name or ".attn" in name), None)
    if attention:
        raise UserError(_stranger(attention), where=where, cure=CURE)
    if len(missing) > len(wanted) // 2:
        raise UserError("This checkpoint is not a BrushNet's.", where=where, cure=CURE)
    if missing or extra:
        told = [
            f"{len(names)} {word} ({names[0]})" for names, word in ((missing, "missing"), (extra, "left over")) if names
        ]
        raise UserError(f"This checkpoint does not fit its config: tensors {', '.join(told)}.", where=where, cure=CURE)
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            shapes = f"{name} is {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
            raise UserError(f"This checkpoint has tensors of other shapes: {shapes}.", where=where, cure=CURE)
