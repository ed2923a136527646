"""LaMa's generator made quick: the same function of its input, with fewer passes over memory.

Batch norms are folded into the convolutions before them (in float64, so that only rounding differs), convolutions of
the same input are one, local and global channels lie side by side in channels-last memory, and the last convolution
makes blocks of 2 x 2 pixels. On the CPU wide blocks convolve by `winograd`. Fourier transforms are float32 always.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bglora.nets import winograd
from bglora.nets.device import moved
from bglora.nets.ffc import Block, Convolutions, Generator, Layer, SpectralTransform

WINOGRAD_FROM = 256
"""Channels from which transforming pays."""


def _scale(norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies by and adds, float64."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight.double() * scale.view(-1, 1, 1, 1)).float()


def _weight(conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return conv.weight.detach()


def _bias(conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and conv.bias is not None
    return conv.bias.detach().double()


def _layout(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.float().contiguous(memory_format=torch.channels_last), requires_grad=False)


def _value(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float().contiguous(), requires_grad=False)


class Spectral(nn.Module):
    """Global to global, its batch norms and the layer's scale folded in. Has no bias at its end."""

    def __init__(self, transform: SpectralTransform, scale: Tensor) -> None:
        super().__init__()
        self.pool = isinstance(transform.downsample, nn.AvgPool2d)
        before, between = _scale(transform.conv1[1]), _scale(transform.fu.bn)
        self.first = _value(_scaled(_weight(transform.conv1[0]), before[0]).flatten(1))
        self.first_bias = _value(before[1])
        self.middle = _value(_scaled(_weight(transform.fu.conv_layer), between[0]).flatten(1))
        self.middle_bias = _value(between[1])
        self.last = _value(_scaled(_weight(transform.conv2), scale).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in any layout to (B, pixels, C) in the layout of channels last."""
        if self.pool:
            x = functional.avg_pool2d(x, 2)
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        # Channels by pixels from here to the last product: the layout of the transforms, at no cost to the products.
        a = torch.relu_(torch.baddbmm(self.first_bias[:, None], _each(self.first, batch), pixels.transpose(1, 2)))
        half = a.shape[1]
        spectrum = torch.fft.rfft2(a.float().view(batch, half, height, width), norm="ortho")
        y = _laid_out(torch.view_as_real(spectrum).permute(0, 1, 4, 2, 3), a.dtype).view(batch, 2 * half, -1)
        y = torch.relu_(torch.baddbmm(self.middle_bias[:, None], _each(self.middle, batch), y))
        y = _laid_out(y.view(batch, half, 2, height, -1).permute(0, 1, 3, 4, 2), torch.float32)
        back = torch.fft.irfft2(torch.view_as_complex(y), s=(height, width), norm="ortho")
        a = a.add_(back.view(batch, half, -1))
        return torch.matmul(a.transpose(1, 2), self.last.t())


def _laid_out(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In other numbers and contiguous, in one pass over memory."""
    return x.to(dtype, memory_format=torch.contiguous_format).contiguous()


def reflected(x: Tensor, width: int) -> Tensor:
    """(B, C, H, W), channels last, grown on all sides by its mirror image, edge pixels not repeated; channels last.

    For graphics cards: there torch's own reflection gives channels first, and the convolution would turn them back.
    """
    pixels = x.permute(0, 2, 3, 1)
    batch, height, across, channels = pixels.shape
    grown = pixels.new_empty(batch, height + 2 * width, across + 2 * width, channels)
    grown[:, width:-width, width:-width] = pixels
    inner = grown[:, width:-width]
    for k in range(1, width + 1):
        inner[:, :, width - k] = pixels[:, :, k]
        inner[:, :, k - width - 1] = pixels[:, :, -1 - k]
    for k in range(1, width + 1):
        grown[:, width - k] = grown[:, width + k]
        grown[:, k - width - 1] = grown[:, -1 - width - k]
    return grown.permute(0, 3, 1, 2)


def _padded(x: Tensor, width: int) -> Tensor:
    return functional.pad(x, (width,) * 4, mode="reflect") if x.device.type == "cpu" else reflected(x, width)


def _each(weight: Tensor, batch: int) -> Tensor:
    return weight.expand(batch, *weight.shape)


class FoldedLayer(nn.Module):
    """A layer on local and global channels side by side: one convolution of all, one of the local ones, the spectrum.

    Without global input the first of them makes all channels.
    """

    def __init__(self, layer: Layer, padding: int, stride: int, quick: bool) -> None:
        super().__init__()
        self.padding, self.stride = padding, stride
        ffc: Convolutions = layer.ffc
        norms = {"l": layer.bn_l, "g": layer.bn_g}
        scales = {part: _scale(norm) for part, norm in norms.items() if norm is not None}

        def folded(path: str, part: str) -> Tensor | None:
            conv = getattr(ffc, f"conv{path}")
            return None if conv is None else _scaled(_weight(conv), scales[part][0])

        l2l, g2l, l2g = folded("l2l", "l"), folded("g2l", "l"), folded("l2g", "g")
        biases = {part: scale[1].float() for part, scale in scales.items()}
        self.spectral = None if ffc.convg2g is None else Spectral(ffc.convg2g, scales["g"][0])
        local_in = next((weight.shape[1] for weight in (l2l, l2g) if weight is not None), 0)
        groups: list[tuple[Tensor, Tensor, int]] = []
        if g2l is None and self.spectral is None:
            both = [(w, biases[part]) for w, part in ((l2l, "l"), (l2g, "g")) if w is not None]
            groups.append((torch.cat([w for w, _ in both]), torch.cat([bias for _, bias in both]), local_in))
        else:
            into_local = [weight for weight in (l2l, g2l) if weight is not None]
            if into_local:
                weight = torch.cat(into_local, 1)
                groups.append((weight, biases["l"], weight.shape[1]))
            if l2g is not None:
                groups.append((l2g, biases["g"], local_in))
        self.local_in = local_in
        self.global_bias = _value(biases["g"]) if self.spectral is not None and l2g is None else None
        self.reads = [read for _, _, read in groups]
        self.biases = nn.ParameterList([_value(bias) for _, bias, _ in groups])
        kernel = groups[0][0].shape[-1] if groups else 0
        wide = bool(groups) and self.reads[0] >= WINOGRAD_FROM
        self.quick = quick and wide and (kernel, stride, padding) == (3, 1, 1)
        shape = (lambda w: _value(winograd.kernels(w))) if self.quick else _layout
        self.weights = nn.ParameterList([shape(weight) for weight, _, _ in groups])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), channels last, to (B, C', H / stride, W / stride), channels last, after the ReLU."""
        if self.spectral is None:
            return torch.relu_(self._paths(x))
        wide = self.spectral(x[:, self.local_in :])
        if self.global_bias is not None:
            height, width = (-(-side // self.stride) for side in x.shape[2:])
            wide = (wide + self.global_bias).unflatten(1, (height, width)).permute(0, 3, 1, 2)
            return torch.relu_(torch.cat([self._paths(x), wide], 1) if self.reads else wide)
        y = self._paths(x)
        y.permute(0, 2, 3, 1).flatten(1, 2)[:, :, -wide.shape[2] :] += wide
        return torch.relu_(y)

    def _paths(self, x: Tensor) -> Tensor:
        return self._tiled(x) if self.quick else self._convolved(x)

    def _convolved(self, x: Tensor) -> Tensor:
        if self.padding:
            x = _padded(x, self.padding)
        made = [
            functional.conv2d(x[:, :read] if read < x.shape[1] else x, weight, bias, self.stride)
            for weight, bias, read in zip(self.weights, self.biases, self.reads, strict=True)
        ]
        y = made[0] if len(made) == 1 else torch.cat(made, 1)
        return y.contiguous(memory_format=torch.channels_last)

    def _tiled(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        count = sum(bias.shape[0] for bias in self.biases)
        pixels = x.permute(0, 2, 3, 1).contiguous()
        result = x.new_empty(batch, height, width, count)
        paths = list(zip(self.weights, self.reads, self.biases, strict=True))
        for one, made in zip(pixels, result, strict=True):
            winograd.convolve(one, paths, made)
        return result.permute(0, 3, 1, 2)


class FoldedGenerator(nn.Module):
    """The generator for use: same input and output as `Generator`, equal up to rounding.

    Args:
        generator: loaded, on the CPU, float32.
        device, dtype: where and in which numbers it computes; input and output stay float32.
    """

    def __init__(self, generator: Generator, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        architecture, parts = generator.architecture, list(generator.model)
        self.architecture, self.device, self.dtype = architecture, device, dtype
        quick = device.type == "cpu" and dtype == torch.float32
        join = generator.first_block + architecture.blocks
        layers = [part for part in parts if isinstance(part, Layer)]
        self.down = nn.ModuleList(
            [FoldedLayer(layers[0], 3, 1, quick), *(FoldedLayer(layer, 1, 2, quick) for layer in layers[1:])]
        )
        pairs = [(part.conv1, part.conv2) for part in parts if isinstance(part, Block)]
        self.blocks = nn.ModuleList(FoldedLayer(layer, 1, 1, quick) for pair in pairs for layer in pair)
        self.up_weights, self.up_biases = nn.ParameterList(), nn.ParameterList()
        for conv, norm in zip(parts[join + 1 : -3 : 3], parts[join + 2 : -3 : 3], strict=True):
            scale, shift = _scale(norm)
            self.up_weights.append(_layout(_scaled(_weight(conv).transpose(0, 1), scale).transpose(0, 1)))
            self.up_biases.append(_value(_bias(conv) * scale + shift))
        last = parts[-2]
        # Four pixels' kernels, each shifted within one window that is larger by one.
        shifted = [functional.pad(_weight(last), (x, 1 - x, y, 1 - y)) for y in range(2) for x in range(2)]
        self.last = _layout(torch.stack(shifted, 1).flatten(0, 1))
        self.last_bias = _value(_bias(last).repeat_interleave(4))
        self.activation = parts[-1]
        self.eval()
        cure = "Close what else uses the card, or set BGLORA_DEVICE=cpu"
        moved(self, device, dtype, what="LaMa", setting=f"the generator, on {device}", cure=cure)

    def compile_blocks(self) -> None:
        """Has torch.compile join the passes between products, at the first picture of each size. For graphics cards.

        All layers of the blocks share one program: it takes a minute, not one for each.
        """
        for layer in self.blocks:
            layer.compile(dynamic=False)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        """See `Generator.forward`; float32 on any device to float32 on this network's."""
        x = x.to(device=self.device, dtype=self.dtype).contiguous(memory_format=torch.channels_last)
        for layer in self.down:
            x = layer(x)
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = second(first(x)).add_(x)
        for weight, bias in zip(self.up_weights, self.up_biases, strict=True):
            x = torch.relu_(functional.conv_transpose2d(x, weight, bias, 2, 1, 1))
        x = functional.conv2d(_padded(x, 3), self.last, self.last_bias, 2)
        return self.activation(functional.pixel_shuffle(x, 2).float())
