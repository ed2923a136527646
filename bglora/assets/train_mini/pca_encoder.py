"""A VAE encoder without training: principal components of 8x8 patches, written exactly into AutoencoderKL's weights.

The latents are known before any training starts, so the U-Net and the decoder train at the same time, and the decoder
can be improved later without touching the U-Net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATCH = 8
LATENTS = 4
SMALL = 0.02
LOG_VARIANCE = -8.0
LUMA_CHROMA = np.array(
    [[0.299, 0.587, 0.114], [-0.338, -0.662, 1.0], [1.0, -0.838, -0.162]], dtype=np.float64
)  # Y, 2 Cb, 2 Cr of BT.601: colour counts double, else three of four components are spent on brightness


@dataclass(frozen=True)
class PcaBasis:
    """Affine map of an 8x8 RGB patch to 4 latents: `weight` (4, 8, 8, 3) and `bias` (4,), for pixels in -1..1."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def patches(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cut (n, h, w, 3) pictures into (n, h/8, w/8, 192) patches; h and w are multiples of 8."""
    count, height, width, _ = pixels.shape
    grid = pixels.reshape(count, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return np.asarray(grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // PATCH, width // PATCH, -1), np.float64)


def fit(pixels: NDArray[np.floating]) -> PcaBasis:
    """Principal components of the 8x8 patches of (n, h, w, 3) pictures in -1..1, scaled to unit variance."""
    to_opponent = np.kron(np.eye(PATCH * PATCH), LUMA_CHROMA)
    data = patches(pixels).reshape(-1, PATCH * PATCH * 3)
    mean = data.mean(axis=0)
    covariance = to_opponent @ np.cov(data, rowvar=False) @ to_opponent.T
    values, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :LATENTS].T
    components *= np.sign(components.sum(axis=1, keepdims=True) + 1e-12)
    weight = components / np.sqrt(values[::-1][:LATENTS])[:, None] @ to_opponent
    return PcaBasis(weight.reshape(LATENTS, PATCH, PATCH, 3), -weight @ mean)


def encode(basis: PcaBasis, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
    """Latents (n, 4, h/8, w/8) of (n, h, w, 3) pictures in -1..1, in plain numpy."""
    flat = patches(pixels) @ basis.weight.reshape(LATENTS, -1).T + basis.bias
    return np.ascontiguousarray(flat.transpose(0, 3, 1, 2), dtype=np.float32)


def write_into(vae: Any, basis: PcaBasis) -> None:
    """Set the encoder of an f8 `AutoencoderKL` (no mid attention) so that its latent mean is `encode`'s result.

    Residual blocks become their shortcuts (second convolution zero). The stride-2 convolutions pad right and below,
    so their upper left 2x2 taps are a patch: 3 -> 12 channels -> 4 quadrants x 4 partial sums -> 4 latents. The last
    norm group holds small +z and -z beside constants of +1 and -1, which makes the norm a constant, and
    silu(z) - silu(-z) = z undoes the activation.

    Raises:
        ValueError: the widths of the VAE are too small for the construction.
    """
    import torch

    encoder = vae.encoder
    group = encoder.conv_norm_out.num_channels // encoder.conv_norm_out.num_groups
    widths = list(vae.config.block_out_channels)
    if len(widths) != 4 or widths[0] < 12 or widths[1] < 16 or group < 16:
        raise ValueError(f"this VAE cannot hold the patch encoder: widths {widths}, {group} channels in a norm group")
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if not name.endswith("norm1.weight") and not name.endswith("norm2.weight"):
                weight.zero_()
        for channel in range(3):
            encoder.conv_in.weight[channel, channel, 1, 1] = 1.0
        _write_shortcuts(encoder, basis)
        _write_downsamplers(encoder, basis)
        _write_output(encoder, group)
        vae.quant_conv.weight.copy_(torch.eye(2 * LATENTS)[:, :, None, None])
        vae.quant_conv.bias.zero_()


def _write_shortcuts(encoder: Any, basis: PcaBasis) -> None:
    import torch

    for block, used in ((1, 12), (2, 16)):
        shortcut = encoder.down_blocks[block].resnets[0].conv_shortcut
        for channel in range(used):
            shortcut.weight[channel, channel, 0, 0] = 1.0
    last = encoder.down_blocks[3].resnets[0].conv_shortcut
    bias = torch.from_numpy(basis.bias).float()
    for latent in range(LATENTS):
        last.weight[latent, latent, 0, 0] = SMALL
        last.weight[LATENTS + latent, latent, 0, 0] = -SMALL
    last.bias[:LATENTS] = SMALL * bias
    last.bias[LATENTS : 2 * LATENTS] = -SMALL * bias
    last.bias[2 * LATENTS : 3 * LATENTS] = 1.0
    last.bias[3 * LATENTS : 4 * LATENTS] = -1.0


def _write_downsamplers(encoder: Any, basis: PcaBasis) -> None:
    import torch

    convs = [encoder.down_blocks[block].downsamplers[0].conv.weight for block in range(3)]
    weight = torch.from_numpy(basis.weight).float()
    for tap in range(4):
        down, right = divmod(tap, 2)
        for channel in range(3):
            convs[0][3 * tap + channel, channel, down, right] = 1.0
        for latent in range(LATENTS):
            convs[2][latent, LATENTS * tap + latent, down, right] = 1.0
            for part in range(12):  # part = 3 * (place inside the 2x2 patch) + colour
                inside_down, inside_right = divmod(part // 3, 2)
                for quadrant in range(4):
                    row = 4 * (quadrant // 2) + 2 * down + inside_down
                    column = 4 * (quadrant % 2) + 2 * right + inside_right
                    convs[1][LATENTS * quadrant + latent, part, down, right] = weight[latent, row, column, part % 3]


def _write_output(encoder: Any, group: int) -> None:
    gain = (2 * LATENTS / group) ** 0.5 / SMALL  # 8 constants of size 1 in the group: its deviation is sqrt(8 / group)
    encoder.conv_norm_out.weight[: 2 * LATENTS] = gain
    for latent in range(LATENTS):
        encoder.conv_out.weight[latent, latent, 1, 1] = 1.0
        encoder.conv_out.weight[latent, LATENTS + latent, 1, 1] = -1.0
    encoder.conv_out.bias[LATENTS:] = LOG_VARIANCE
