"""LaMa's generator: a ResNet of fast Fourier convolutions, under the names of its published checkpoints.

Each layer has a local part of its channels (3x3 convolutions) and a global one (a 1x1 convolution over the picture's
spectrum). Sources: Suvorov et al., Resolution-robust Large Mask Inpainting with Fourier Convolutions (2021); Chi
et al., Fast Fourier Convolution (2020). This module computes as it was trained, layer by layer; `folded` is the quick
form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ANCHOR = "model.1.ffc.convl2l.weight"
"""The first layer's weight; it is in every file, and what stands before `model.1.` is the file's prefix."""

COUNTERS = "num_batches_tracked"
"""Ends of names that training alone needs; conversions leave them out."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "none": nn.Identity}


@dataclass(frozen=True)
class Channels:
    """Channels of one layer: local and global ones of what goes in and what comes out."""

    local_in: int
    global_in: int
    local_out: int
    global_out: int


@dataclass(frozen=True)
class Architecture:
    """What a generator consists of.

    Attributes:
        first: the layer with the 7x7 kernel.
        down: layers that halve the size, in order.
        block: both layers of each residual block.
        blocks: how many blocks.
        up: channels before, between and after the transposed convolutions.
        colors: channels of the result.
        activation: a name of `ACTIVATIONS`; the tensors don't tell it. Published models: sigmoid.
    """

    first: Channels
    down: tuple[Channels, ...]
    block: Channels
    blocks: int
    up: tuple[int, ...]
    colors: int = 3
    activation: str = "sigmoid"

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of."""
        return int(2 ** len(self.down))

    @property
    def smallest(self) -> int:
        """Smallest height or width: two cells are reflected inside the blocks, four pixels at the picture."""
        return max(2 * self.multiple, 4)


def published(
    width: int = 64, blocks: int = 18, ratio: float = 0.75, down: int = 3, *, channels: int = 4, widest: int = 1024
) -> Architecture:
    """The architecture `ffc_resnet` by the names of its configuration; the defaults are big-lama.

    Args:
        width: `ngf`. blocks: `n_blocks`. ratio: share of global channels in the blocks. down: `n_downsampling`.
        channels: `input_nc`. widest: `max_features`.
    """

    def at(level: int) -> int:
        return min(widest, width * 2**level)

    deep = at(down)
    wide = int(deep * ratio)
    layers = [Channels(at(k), 0, at(k + 1), 0) for k in range(down - 1)]
    layers.append(Channels(at(down - 1), 0, deep - wide, wide))
    return Architecture(
        first=Channels(channels, 0, width, 0),
        down=tuple(layers),
        block=Channels(deep - wide, wide, deep - wide, wide),
        blocks=blocks,
        up=tuple(at(down - k) for k in range(down + 1)),
    )


class FourierUnit(nn.Module):
    """A 1x1 convolution over the real and imaginary parts of the spectrum, interleaved channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W), kept."""
        batch, channels, height, width = x.shape
        spectrum = torch.view_as_real(torch.fft.rfft2(x.float(), norm="ortho"))
        y = spectrum.permute(0, 1, 4, 2, 3).reshape(batch, 2 * channels, height, -1).to(x.dtype)
        y = torch.relu(self.bn(self.conv_layer(y)))
        y = y.float().view(batch, channels, 2, height, -1).permute(0, 1, 3, 4, 2).contiguous()
        return torch.fft.irfft2(torch.view_as_complex(y), s=(height, width), norm="ortho").to(x.dtype)


class SpectralTransform(nn.Module):
    """The global to global path: half the channels, a Fourier unit with a skip around it, all the channels."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.downsample = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        half = channels_out // 2
        self.conv1 = nn.Sequential(nn.Conv2d(channels_in, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.fu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H / stride, W / stride)."""
        x = self.conv1(self.downsample(x))
        return self.conv2(x + self.fu(x))


class Convolutions(nn.Module):
    """The four paths of a layer; one whose input or output has no channels is not there."""

    def __init__(self, channels: Channels, kernel: int, stride: int, padding: int) -> None:
        super().__init__()

        def path(before: int, after: int) -> nn.Conv2d | None:
            if not before or not after:
                return None
            return nn.Conv2d(before, after, kernel, stride, padding, bias=False, padding_mode="reflect")

        self.convl2l = path(channels.local_in, channels.local_out)
        self.convl2g = path(channels.local_in, channels.global_out)
        self.convg2l = path(channels.global_in, channels.local_out)
        both = channels.global_in and channels.global_out
        self.convg2g = SpectralTransform(channels.global_in, channels.global_out, stride) if both else None

    def forward(self, x_local: Tensor | None, x_global: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Local and global part, each (B, C, H, W), or None without channels."""
        return (
            _sum(_through(self.convl2l, x_local), _through(self.convg2l, x_global)),
            _sum(_through(self.convl2g, x_local), _through(self.convg2g, x_global)),
        )


class Layer(nn.Module):
    """Convolutions, batch norm, ReLU."""

    def __init__(self, channels: Channels, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.ffc = Convolutions(channels, kernel, stride, padding)
        self.bn_l = nn.BatchNorm2d(channels.local_out) if channels.local_out else None
        self.bn_g = nn.BatchNorm2d(channels.global_out) if channels.global_out else None

    def forward(self, x_local: Tensor | None, x_global: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Local and global part, each (B, C, H, W), or None without channels."""
        local, wide = self.ffc(x_local, x_global)
        local, wide = _through(self.bn_l, local), _through(self.bn_g, wide)
        return None if local is None else torch.relu(local), None if wide is None else torch.relu(wide)


class Block(nn.Module):
    """Two layers and a skip; nothing follows the sum."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.conv1 = Layer(channels)
        self.conv2 = Layer(channels)

    def forward(self, x_local: Tensor | None, x_global: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Local and global part, each (B, C, H, W), or None without channels."""
        local, wide = self.conv2(*self.conv1(x_local, x_global))
        return _sum(x_local, local), _sum(x_global, wide)


class Generator(nn.Module):
    """The whole network. `model` counts as the published one does, parts without weights included."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        up = [
            part
            for before, after in zip(architecture.up, architecture.up[1:], strict=False)
            for part in (
                nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
        ]
        self.model = nn.ModuleList(
            [
                nn.ReflectionPad2d(3),
                Layer(architecture.first, kernel=7, padding=0),
                *(Layer(channels, stride=2) for channels in architecture.down),
                *(Block(architecture.block) for _ in range(architecture.blocks)),
                nn.Identity(),  # where the published one joins local and global
                *up,
                nn.ReflectionPad2d(3),
                nn.Conv2d(architecture.up[-1], architecture.colors, 7),
                ACTIVATIONS[architecture.activation](),
            ]
        )

    @property
    def first_block(self) -> int:
        """Number of the first residual block in `model`."""
        return 2 + len(self.architecture.down)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, H, W), the picture in 0..1 without its hole and then the mask, to (B, 3, H, W) in 0..1.

        Height and width must be multiples of `architecture.multiple`, `architecture.smallest` at least.
        """
        local: Tensor | None = self.model[0](x)
        wide: Tensor | None = None
        join = self.first_block + self.architecture.blocks
        for layer in self.model[1:join]:
            local, wide = layer(local, wide)
        y = torch.cat([part for part in (local, wide) if part is not None], 1)
        for part in self.model[join + 1 :]:
            y = part(y)
        return y


def _through(layer: nn.Module | None, x: Tensor | None) -> Tensor | None:
    return None if layer is None or x is None else layer(x)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def architecture_of(state: Mapping[str, Tensor], activation: str = "sigmoid") -> Architecture:
    """What the tensors' shapes tell.

    Args:
        state: the generator's tensors, names from `model.` on.
    Raises:
        KeyError: a part is missing from which the shapes of others follow.
    """

    def size(name: str, axis: int) -> int:
        return state[name].shape[axis] if name in state else 0

    def layer(name: str) -> Channels:
        l2l, l2g, g2l = (f"{name}.ffc.conv{path}.weight" for path in ("l2l", "l2g", "g2l"))
        return Channels(
            local_in=size(l2l, 1) or size(l2g, 1),
            global_in=size(g2l, 1) or size(f"{name}.ffc.convg2g.conv1.0.weight", 1),
            local_out=size(f"{name}.bn_l.weight", 0),
            global_out=size(f"{name}.bn_g.weight", 0),
        )

    blocks = {int(found[1]) for name in state if (found := re.match(r"model\.(\d+)\.conv1\.", name))}
    layers = {int(found[1]) for name in state if (found := re.match(r"model\.(\d+)\.ffc\.", name))}
    down = sorted(layers - {1})
    first_up = 2 + len(down) + len(blocks) + 1
    ups = [state[f"model.{first_up + 3 * k}.weight"] for k in range(len(down))]
    last = state[f"model.{first_up + 3 * len(down) + 1}.weight"]
    return Architecture(
        first=layer("model.1"),
        down=tuple(layer(f"model.{number}") for number in down),
        block=layer(f"model.{min(blocks)}.conv1"),
        blocks=len(blocks),
        up=tuple([up.shape[0] for up in ups] + [last.shape[1]]),
        colors=last.shape[0],
        activation=activation,
    )
