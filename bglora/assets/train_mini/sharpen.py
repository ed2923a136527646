"""The decoder's second training: an adversary that sees patches makes edges out of smears.

Sixteen by sixteen latents hold a blurred picture; every pixel-wise loss then ends at the mean of all pictures that fit.
A patch discriminator (Isola et al. 2017) that knows the latents asks for one that looks like a still. Hinge loss,
spectral norm (Miyato et al. 2018), feature matching (Wang et al. 2018), and the adaptive weight of VQGAN (Esser et al.
2021), which keeps the pull of the adversary in proportion to that of the pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bglora.assets.train_mini import clock, decoder, pca_encoder, stills

CHECKPOINT = "sharp.pt"
PEAK_RATE = 3e-4
ADVERSARY_RATE = 4e-4
ADVERSARY_SHARE = 0.6  # of the pixel loss's gradient at the last convolution
MATCHING = 0.5
LARGEST_WEIGHT = 4.0
SHARE = 0.75  # of the sharpened weights in what is exported, the rest is the plain decoder's (Wang et al. 2018, ESRGAN)
ALONE_STEPS = 150  # the adversary learns alone first: an ignorant one pulls the decoder anywhere


def build_adversary() -> Any:
    """Scores (n, 1, h/8, w/8) of pictures (n, 3, h, w) with their latents; also returns its inner layers."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm

    class Adversary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (3, 32, 64, 128)
            self.down = nn.ModuleList(
                spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
                for before, after in zip(widths, widths[1:], strict=False)
            )
            self.joined = spectral_norm(nn.Conv2d(widths[-1] + pca_encoder.LATENTS, 128, 3, 1, 1))
            self.score = spectral_norm(nn.Conv2d(128, 1, 1))

        def forward(self, pictures: Any, codes: Any) -> tuple[Any, list[Any]]:
            layers = []
            seen = pictures
            for convolution in self.down:
                seen = nn.functional.leaky_relu(convolution(seen), 0.2)
                layers.append(seen)
            seen = nn.functional.leaky_relu(self.joined(torch.cat([seen, codes], dim=1)), 0.2)
            layers.append(seen)
            return self.score(seen), layers

    return Adversary()


class Trainer:
    """Adversarial training of a decoder that is trained already; starts from `decoder.pt` of the work folder."""

    def __init__(self, pictures: list[stills.Still], basis: pca_encoder.PcaBasis, work: Path, seed: int) -> None:
        import torch

        self.plain = decoder.Trainer(pictures, basis, work, seed)
        self.plain.state.load()
        self.plain.state.average.swap()
        self.smooth = [value.detach().clone() for value in self.plain.state.average.live]
        torch.manual_seed(seed + 2)
        self.seed = seed
        self.adversary = build_adversary().to(memory_format=torch.channels_last)
        self.rival = torch.optim.Adam(self.adversary.parameters(), lr=ADVERSARY_RATE, betas=(0.5, 0.99))
        self.rival_path = work / "adversary.pt"
        self.state = clock.State(
            work / CHECKPOINT, self.plain.state.average.live, PEAK_RATE, weight_decay=0.0, betas=(0.5, 0.99)
        )

    def run(self, minutes: float, report: Callable[[str], None]) -> None:
        """Train until the budget is spent, saving decoder and adversary every few minutes."""
        train = [stills.pixels(still) for still in self.plain.pictures if not still.held_out]
        check = self.plain.check_batch()
        self._load_adversary()
        clock.train(
            self.state,
            minutes,
            lambda part: self._train_step(train, part),
            lambda: self.plain.psnr(check),
            report,
            self._save_adversary,
        )

    def _train_step(self, train: list[Image.Image], part: float) -> float:
        import torch

        rng = np.random.default_rng([self.seed + 2, self.state.step])
        wanted, codes = self.plain.draw(train, rng)
        painted = self.plain.decode(codes)
        for group in self.rival.param_groups:
            group["lr"] = clock.learning_rate(part, ADVERSARY_RATE)
        self._teach(wanted, painted.detach(), codes)
        plain = decoder.loss(painted, wanted)
        if self.state.step < ALONE_STEPS:
            self.state.step += 1
            return float(plain.detach())
        with torch.autocast("cpu", torch.bfloat16):
            score, seen = self.adversary(painted, codes)
            with torch.no_grad():
                real = self.adversary(wanted, codes)[1]
        matched = sum((ours.float() - theirs.float()).abs().mean() for ours, theirs in zip(seen, real, strict=True))
        fooled = -score.float().mean()
        weight = self._weight(plain, fooled)
        self.state.descend(plain + weight * fooled + MATCHING * matched, part)
        return float(plain.detach())

    def _teach(self, wanted: Any, painted: Any, codes: Any) -> None:
        """One step of the adversary: stills above 1, painted pictures below -1."""
        import torch

        self.adversary.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            both = self.adversary(torch.cat([wanted, painted]), torch.cat([codes, codes]))[0].float()
        real, false = both.chunk(2)
        loss = torch.relu(1.0 - real).mean() + torch.relu(1.0 + false).mean()
        self.rival.zero_grad(set_to_none=True)
        loss.backward()
        self.rival.step()
        self.adversary.requires_grad_(False)

    def _weight(self, plain: Any, fooled: Any) -> float:
        import torch

        last = self.plain.vae.decoder.conv_out.weight
        pixels, pull = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (plain, fooled))
        return min(LARGEST_WEIGHT, ADVERSARY_SHARE * float(pixels / (pull + 1e-6)))

    def _save_adversary(self) -> None:
        import torch

        scratch = self.rival_path.with_suffix(".part")
        torch.save({"weights": self.adversary.state_dict(), "optimizer": self.rival.state_dict()}, scratch)
        os.replace(scratch, self.rival_path)

    def _load_adversary(self) -> None:
        import torch

        if self.rival_path.exists():
            kept = torch.load(self.rival_path, map_location="cpu", weights_only=True)
            self.adversary.load_state_dict(kept["weights"])
            self.rival.load_state_dict(kept["optimizer"])

    def averaged(self) -> Any:
        """The VAE with the averaged weights of the sharpened decoder, blended with those it began with.

        Between two decoders of which one was trained on from the other, edges grow before what the adversary invents.
        """
        import torch

        self.state.load()
        with torch.no_grad():
            for value, smooth, sharp in zip(self.state.average.live, self.smooth, self.state.average.mean, strict=True):
                value.copy_(torch.lerp(smooth, sharp, SHARE))
        return self.plain.vae
