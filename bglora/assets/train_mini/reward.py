"""The painter's last training: a critic looks at finished pictures and says whether somebody is in them.

The error of noise hardly notices a character, which covers few of 16 x 16 latents. So pictures are painted in full, as
the product paints them, decoded, and judged; what the critic finds against the words goes back through the sampling
steps into the weights (Clark et al. 2024, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards", DRaFT).
The critic is trained on stills that `mini` may know, so the judge in the package, which saw none of them, can still
tell whether it helped. Ordinary training goes on beside it, so that pictures stay pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bglora.assets.train_mini import clock, judge, pca_encoder, stills, text, unet
from bglora.assets.train_mini.captions import choose_caption

CHECKPOINT = "reward.pt"
PEAK_RATE = 5e-5
STEPS = 10  # sampling steps of a picture; the gradient passes through at most LAST of them
LAST = 6
GUIDANCE = (2.0, 5.0)
CAMERAS = 4  # of a batch: each painted with and without a character, from the same noise
PLACE_SHARE = 0.25
SURE = 0.9  # what the critic shall be sure of; asked for more, the painter would leave out all that might be somebody
SHARE = 0.1  # of the critic's loss beside the error of v
CRITIC_STEPS, CRITIC_SEED = 2000, 101


@dataclass(frozen=True)
class Order:
    """What a batch shall show: captions, places (n,), whether somebody is there (n,), and the first noise."""

    captions: list[str]
    places: NDArray[np.int64]
    character: NDArray[np.float32]
    noise: NDArray[np.float32]


def train_critic(pictures: list[stills.Still], more: Sequence[Path], vae: Any, work: Path) -> Any:
    """A judge of the stills that `mini` is trained on and of `more`, as its decoder paints them; kept in `work`."""
    from bglora.nets.still_judge import load_judge

    path = work / "critic.safetensors"
    if not path.exists():
        seen = judge.examples_of([still for still in pictures if not still.held_out])
        seen += judge.read_examples(list(more))
        examples = judge.recoded(seen, vae) + seen[::3]
        judge.save(judge.train(examples, CRITIC_STEPS, seed=CRITIC_SEED), path)
    return load_judge(path).requires_grad_(False)


class Trainer:
    """Goes on from an exported pipeline; state in `reward.pt` of the work folder."""

    def __init__(self, pictures: list[stills.Still], basis: pca_encoder.PcaBasis, work: Path, seed: int) -> None:
        self.painter = unet.Trainer(pictures, basis, work, seed)
        self.pictures, self.basis, self.work, self.seed = pictures, basis, work, seed
        self.more: Sequence[Path] = ()
        live = self.painter.state.average.live
        self.painter.state = clock.State(work / CHECKPOINT, live, PEAK_RATE, weight_decay=0.01)
        self.said: list[tuple[float, float]] = []

    def start(self, folders: Sequence[Path]) -> None:
        """Begin with an exported pipeline, or the mean of several; the decoder is the first one's."""
        from diffusers import AutoencoderKL

        self.painter.start(folders)
        self.vae = AutoencoderKL.from_pretrained(folders[0] / "vae").float().requires_grad_(False)

    def run(self, minutes: float, report: Callable[[str], None]) -> None:
        """Train until the budget is spent, saving every few minutes."""
        self.critic = train_critic(self.pictures, self.more, self.vae, self.work)
        pools = unet.build_pools(self.painter.train, self.basis, self.seed)
        orders = Orders(self.painter.train)
        clock.train(self.painter.state, minutes, lambda part: self._train_step(pools, orders, part), self.check, report)

    def check(self) -> str:
        """A line with the error of v on unseen places, and how often the critic agreed of late."""
        if not self.said:
            return self.painter.check()
        empty, seen = np.mean(self.said[-100:], axis=0)
        return f"{self.painter.check()}; as asked, empty {empty:.0%}, with a character {seen:.0%}"

    def _train_step(self, pools: dict[tuple[int, int], unet.Pool], orders: Orders, part: float) -> float:
        rng = np.random.default_rng([self.seed + 3, self.painter.state.step])
        known = self.painter.loss(pools, rng)
        asked = orders.draw(rng)
        judged = self.judge(asked, self.paint(asked, rng), rng)
        self.painter.state.descend(known + SHARE * judged, part)
        return float(known.detach())

    def paint(self, asked: Order, rng: np.random.Generator) -> Any:
        """Pictures (n, 3, h, w) in -1..1; the gradient passes through the last few sampling steps (DDIM)."""
        import torch

        alphas = self.painter.alphas
        times = [round(1000 - number * 1000 / STEPS) - 1 for number in range(STEPS)]
        guidance, first = float(rng.uniform(*GUIDANCE)), STEPS - int(rng.integers(1, LAST + 1))
        count = len(asked.captions)
        codes = torch.from_numpy(asked.noise)
        states, pooled = text.encode_text(self.painter.tokenizers, self.painter.encoders, ["", *asked.captions])
        rows = torch.tensor([0] * count + list(range(1, count + 1)))
        height, width = (8 * side for side in codes.shape[2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]] * (2 * count))
        extra = {"text_embeds": pooled[rows], "time_ids": ids}
        for number, time in enumerate(times):
            keep = alphas[time]
            after = alphas[times[number + 1]] if number + 1 < STEPS else torch.ones(())
            with torch.set_grad_enabled(number >= first), torch.autocast("cpu", torch.bfloat16):
                both = self.painter.unet(torch.cat([codes, codes]), time, states[rows], added_cond_kwargs=extra).sample
                free, led = both.float().chunk(2)
                v = free + guidance * (led - free)
                clean = keep.sqrt() * codes - (1 - keep).sqrt() * v
                rest = keep.sqrt() * v + (1 - keep).sqrt() * codes
                codes = after.sqrt() * clean + (1 - after).sqrt() * rest
        with torch.autocast("cpu", torch.bfloat16):
            return self.vae.decode(codes).sample.float()

    def judge(self, asked: Order, painted: Any, rng: np.random.Generator) -> Any:
        """The critic's cross-entropy, (); it sees the batch cut, scaled, mirrored and lit at random.

        So that the painter cannot please it with a pattern that only works in one place.
        """
        import torch
        from torch.nn import functional

        from bglora.nets.still_judge import SIDE

        side = int(rng.integers(round(0.9 * painted.shape[3]), painted.shape[3] + 1))
        top, left = (int(rng.integers(0, painted.shape[3] - side + 1)) for _ in range(2))
        seen = painted.clamp(-1, 1)[:, :, top : top + side, left : left + side]
        seen = functional.interpolate(seen, (SIDE, SIDE), mode="bicubic", align_corners=False)
        if rng.random() < 0.5:
            seen = seen.flip(3)
        seen = seen * float(rng.uniform(0.85, 1.1)) + float(rng.uniform(-0.1, 0.1))
        with torch.autocast("cpu", torch.bfloat16):
            places, cells = self.critic(seen)
        found = self.critic.character(cells.float())
        wanted = torch.from_numpy(asked.character)
        right = ((found.detach() > 0) == (wanted > 0.5)).float()
        self.said.append((float(right[wanted < 0.5].mean()), float(right[wanted > 0.5].mean())))
        sure = wanted * (2 * SURE - 1) + (1 - SURE)
        there = functional.binary_cross_entropy_with_logits(found, sure)
        return there + PLACE_SHARE * functional.cross_entropy(places.float(), torch.from_numpy(asked.places))

    def averaged(self) -> tuple[Any, Any, Any]:
        """U-Net and both text encoders with the averaged weights of the checkpoint."""
        return self.painter.averaged()


class Orders:
    """Draws what to paint: cameras of all places alike, each with the captions of a still with and one without."""

    def __init__(self, pictures: list[stills.Still]) -> None:
        by_pair: dict[str, tuple[list[stills.Still], list[stills.Still]]] = {}
        for still in pictures:
            by_pair.setdefault(still.pair, ([], []))[int(still.character is not None)].append(still)
        self.places = sorted({still.place for still in pictures})
        self.cameras = {
            place: [both for both in by_pair.values() if all(both) and both[0][0].place == place]
            for place in self.places
        }

    def draw(self, rng: np.random.Generator) -> Order:
        from bglora.nets.still_judge import PLACES

        captions, places = [], []
        for place in rng.choice(self.places, size=CAMERAS):
            cameras = self.cameras[place]
            for found in cameras[int(rng.integers(len(cameras)))]:
                still = found[int(rng.integers(len(found)))]
                captions.append(_said(still, rng))
                places.append(PLACES.index(still.place))
        noise = rng.standard_normal((CAMERAS, 4, 16, 16), dtype=np.float32).repeat(2, axis=0)
        return Order(captions, np.array(places), np.array([0.0, 1.0] * CAMERAS, np.float32), noise)


def _said(still: stills.Still, rng: np.random.Generator) -> str:
    while not (caption := choose_caption(still, rng)):
        pass
    return caption
