"""The VAE of `mini`: the exact patch encoder, and a decoder trained to turn its latents back into pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bglora.assets.train_mini import clock, pca_encoder, restart, stills

TARGETS = {(128, 128): 0.7, (96, 160): 0.15, (160, 96): 0.15}
BATCH = 4
CHECKPOINT = "decoder.pt"
PEAK_RATE = 1e-3


def build_vae(basis: pca_encoder.PcaBasis) -> Any:
    """AutoencoderKL with f8 and 4 latents of unit variance (`scaling_factor` 1); only the decoder needs training."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(16, 32, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=pca_encoder.LATENTS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
        sample_size=128,
    )
    pca_encoder.write_into(vae, basis)
    return vae


class Trainer:
    """Training of the decoder on whole views (norms see the whole picture); state in one checkpoint."""

    def __init__(self, pictures: list[stills.Still], basis: pca_encoder.PcaBasis, work: Path, seed: int) -> None:
        import torch

        torch.manual_seed(seed + 1)
        self.pictures = pictures
        self.basis = basis
        self.seed = seed
        self.vae = build_vae(basis).to(memory_format=torch.channels_last)
        parameters = [*self.vae.post_quant_conv.parameters(), *self.vae.decoder.parameters()]
        self.state = clock.State(work / CHECKPOINT, parameters, PEAK_RATE, weight_decay=0.0)

    def start(self, folders: Sequence[Path]) -> None:
        """Begin with the decoder of the first exported pipeline instead of random weights."""
        restart.load_decoder(self.vae, folders[0], self.basis)
        self.state.begin()

    def run(self, minutes: float, report: Callable[[str], None]) -> None:
        """Train until the budget is spent, saving every few minutes."""
        train = [stills.pixels(still) for still in self.pictures if not still.held_out]
        check = self.check_batch()
        clock.train(self.state, minutes, lambda part: self._train_step(train, part), lambda: self.psnr(check), report)

    def _train_step(self, train: list[Image.Image], part: float) -> float:
        wanted, codes = self.draw(train, np.random.default_rng([self.seed, self.state.step]))
        error = loss(self.decode(codes), wanted)
        self.state.descend(error, part)
        return float(error.detach())

    def draw(self, train: list[Image.Image], rng: np.random.Generator) -> tuple[Any, Any]:
        """Random views (n, 3, h, w) in -1..1 and their latents with a little noise, as a U-Net leaves it."""
        import torch

        targets = list(TARGETS)
        target = targets[rng.choice(len(targets), p=[TARGETS[t] for t in targets])]
        pixels = np.stack([_random_view(train[row], target, rng) for row in rng.integers(0, len(train), BATCH)])
        codes = torch.from_numpy(pca_encoder.encode(self.basis, pixels))
        spread = torch.from_numpy(rng.uniform(0.0, 0.12, (BATCH, 1, 1, 1)).astype(np.float32))
        codes = codes + spread * torch.from_numpy(rng.standard_normal(tuple(codes.shape), dtype=np.float32))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), codes

    def decode(self, codes: Any) -> Any:
        """Pictures (n, 3, h, w), float32, of latents."""
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            painted = self.vae.decoder(self.vae.post_quant_conv(codes.contiguous(memory_format=torch.channels_last)))
        return painted.float()

    def check_batch(self) -> NDArray[np.float32]:
        """Whole held-out pictures (n, 128, 128, 3) in -1..1."""
        held = [still for still in self.pictures if still.held_out and stills.shows_whole_picture(still)]
        view = stills.View((0, 0, 256, 256), (128, 128, 0, 0, 128, 128))
        return np.stack([stills.cut(stills.pixels(still), view, (128, 128)) for still in held[:: len(held) // 32 + 1]])

    def psnr(self, pixels: NDArray[np.float32]) -> str:
        """A line with the mean PSNR of these pictures, decoded from exact latents."""
        import torch

        painted = self.decode(torch.from_numpy(pca_encoder.encode(self.basis, pixels))).clamp(-1, 1)
        error = (painted.permute(0, 2, 3, 1).numpy() - pixels) ** 2
        return f"held out: {np.mean(10 * np.log10(4.0 / error.mean(axis=(1, 2, 3)))):.2f} dB"

    def averaged(self) -> Any:
        """The VAE with the averaged decoder weights of the checkpoint."""
        self.state.load()
        self.state.average.swap()
        return self.vae


def _random_view(picture: Image.Image, target: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    nearest = list(stills.views(picture.size, target, None, rng))[int(rng.random() < 0.4)]
    pixels = stills.cut(picture, nearest, target)
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels


def loss(painted: Any, wanted: Any) -> Any:
    """L1 of pixels, of differences of neighbours (edges), and of 4x averages (colours, which come last otherwise)."""
    from torch.nn.functional import avg_pool2d

    error = painted - wanted
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 0.5 * edges + 0.5 * avg_pool2d(error, 4).abs().mean()
