"""The painter's last training: a critic looks at finished pictures and says whether somebody is in them.

The error of noise hardly notices a character, which covers few of 16 x 16 latents. So pictures are sampled from pure
noise (DDIM, Song et al. 2021, with guidance), decoded, and judged; what the critic finds against the words goes back
through the last sampling steps, a random number of them, into the weights (Clark et al. 2024, "Directly Fine-Tuning
Diffusion Models on Differentiable Rewards"; Prabhudesai et al. 2023, "AlignProp"). The critic is trained on stills that
`mini` may know, so the judge in the package, which saw none of them, can still tell whether it helped. Ordinary
training goes on beside it, so that pictures stay pictures.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bglora.assets.train_mini import clock, judge, pca_encoder, stills, text, unet
from bglora.assets.train_mini.captions import choose_caption
from bglora.errors import UserError

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
class PromptBatch:
    """What shall be painted: captions, places (n,), whether somebody is there (n,), and the first noise (n, 4, h, w).

    `places` are numbers of `still_judge.PLACES`, `character` is 0 or 1.
    """

    captions: list[str]
    places: NDArray[np.int64]
    character: NDArray[np.float32]
    noise: NDArray[np.float32]


def read_more(folders: Sequence[Path]) -> list[judge.Example]:
    """Further stills for the critic, from folders with captions-N.jsonl as the generator writes them.

    Raises:
        UserError: a folder has none, or is one that `mini` is trained on.
    """
    for folder in folders:
        if (folder / "captions.jsonl").exists() or not list(folder.glob("captions-*.jsonl")):
            raise UserError(
                "no further stills here: they have a captions-N.jsonl, and no captions.jsonl",
                where=str(folder),
                cure="--more FOLDER that the generator of the stills wrote with another seed",
            )
    return judge.read_examples(list(folders))


def train_critic(pictures: list[stills.Still], more: Sequence[Path], vae: Any, work: Path) -> Any:
    """A judge of the stills that `mini` is trained on and of `more`, as its decoder paints them.

    It stays in `work` as critic.safetensors; where that file is, it is taken as it is. Ten minutes of a core for 2,000
    stills, which don't count as time of the training.
    """
    from bglora.nets.still_judge import load_judge

    path = work / "critic.safetensors"
    if not path.exists():
        seen = judge.examples_of([still for still in pictures if not still.held_out]) + read_more(more)
        examples = judge.recoded(seen, vae) + judge.thinned(seen)
        scratch = path.with_suffix(".part")
        judge.save(judge.train(examples, CRITIC_STEPS, seed=CRITIC_SEED), scratch)
        os.replace(scratch, path)
    return load_judge(path).requires_grad_(False)


class Trainer:
    """Goes on from an exported pipeline; state in `reward.pt` of the work folder."""

    def __init__(
        self,
        pictures: list[stills.Still],
        basis: pca_encoder.PcaBasis,
        work: Path,
        seed: int,
        more: Sequence[Path] = (),
    ) -> None:
        self.painter = unet.Trainer(pictures, basis, work, seed, CHECKPOINT, PEAK_RATE)
        self.pictures, self.basis, self.work, self.seed, self.more = pictures, basis, work, seed, more
        self.agreement: deque[tuple[float, float]] = deque(maxlen=100)

    def start(self, folders: Sequence[Path]) -> None:
        """Begin with an exported pipeline, or the mean of several; the decoder is the first one's."""
        from diffusers import AutoencoderKL

        self.painter.start(folders)
        self.vae = AutoencoderKL.from_pretrained(folders[0] / "vae").float().requires_grad_(False)

    def run(self, minutes: float, report: Callable[[str], None]) -> None:
        """Train until the budget is spent, saving every few minutes; before that, train the critic."""
        prompts = PromptSampler(self.painter.train)
        self.critic = train_critic(self.pictures, self.more, self.vae, self.work)
        pools = unet.build_pools(self.painter.train, self.basis, self.seed)
        clock.train(
            self.painter.state, minutes, lambda part: self._train_step(pools, prompts, part), self.check, report
        )

    def check(self) -> str:
        """A line with the error of v on unseen places, and how often the critic agreed of late."""
        if not self.agreement:
            return self.painter.check()
        empty, seen = np.mean(self.agreement, axis=0)
        return f"{self.painter.check()}; as asked, empty {empty:.0%}, with a character {seen:.0%}"

    def _train_step(self, pools: dict[tuple[int, int], unet.Pool], prompts: PromptSampler, part: float) -> float:
        rng = np.random.default_rng([self.seed + 3, self.painter.state.step])
        known = self.painter.loss(pools, rng)
        batch = prompts.draw(rng)
        codes = self.sample(batch, float(rng.uniform(*GUIDANCE)), int(rng.integers(1, LAST + 1)))
        judged = self.critic_loss(batch, self.decode(codes), rng)
        self.painter.state.descend(known + SHARE * judged, part)
        return float(known.detach())

    def sample(self, batch: PromptBatch, guidance: float, last: int) -> Any:
        """Latents (n, 4, h, w) of unit variance; the gradient passes through the last `last` of the sampling steps."""
        import torch

        alphas = self.painter.alphas
        times = [round(1000 - number * 1000 / STEPS) - 1 for number in range(STEPS)]
        count = len(batch.captions)
        codes = torch.from_numpy(batch.noise)
        states, pooled = text.encode_text(self.painter.tokenizers, self.painter.encoders, ["", *batch.captions])
        rows = torch.tensor([0] * count + list(range(1, count + 1)))
        height, width = (8 * side for side in codes.shape[2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]] * (2 * count))
        extra = {"text_embeds": pooled[rows], "time_ids": ids}
        for number, time in enumerate(times):
            keep = alphas[time]
            after = alphas[times[number + 1]] if number + 1 < STEPS else torch.ones(())
            with torch.set_grad_enabled(number >= STEPS - last), torch.autocast("cpu", torch.bfloat16):
                both = self.painter.unet(torch.cat([codes, codes]), time, states[rows], added_cond_kwargs=extra).sample
                free, led = both.float().chunk(2)
                v = free + guidance * (led - free)
                clean = keep.sqrt() * codes - (1 - keep).sqrt() * v
                rest = keep.sqrt() * v + (1 - keep).sqrt() * codes
                codes = after.sqrt() * clean + (1 - after).sqrt() * rest
        return codes

    def decode(self, codes: Any) -> Any:
        """Pictures (n, 3, h, w) in about -1..1, float32; `scaling_factor` of `mini` is 1."""
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            return self.vae.decode(codes).sample.float()

    def critic_loss(self, batch: PromptBatch, painted: Any, rng: np.random.Generator) -> Any:
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
        wanted = torch.from_numpy(batch.character)
        right = ((found.detach() > 0) == (wanted > 0.5)).float()
        self.agreement.append((float(right[wanted < 0.5].mean()), float(right[wanted > 0.5].mean())))
        sure = wanted * (2 * SURE - 1) + (1 - SURE)
        there = functional.binary_cross_entropy_with_logits(found, sure)
        return there + PLACE_SHARE * functional.cross_entropy(places.float(), torch.from_numpy(batch.places))

    def averaged(self) -> tuple[Any, Any, Any]:
        """U-Net and both text encoders with the averaged weights of the checkpoint."""
        return self.painter.averaged()


class PromptSampler:
    """Draws what to paint: cameras of all places alike, each with the captions of a still with and one without.

    Raises:
        UserError: no camera has both.
    """

    def __init__(self, pictures: list[stills.Still]) -> None:
        cameras: dict[str, tuple[list[stills.Still], list[stills.Still]]] = {}
        for still in pictures:
            cameras.setdefault(still.pair, ([], []))[int(still.character is not None)].append(still)
        self.cameras: dict[str, list[tuple[list[stills.Still], list[stills.Still]]]] = {}
        for both in cameras.values():
            if all(both):
                self.cameras.setdefault(both[0][0].place, []).append(both)
        if not self.cameras:
            raise UserError(
                "no camera has stills with and without a character",
                where="--stills",
                cure="add stills of one `pair` with and without",
            )

    def draw(self, rng: np.random.Generator) -> PromptBatch:
        from bglora.nets.still_judge import PLACES

        captions, places = [], []
        for place in rng.choice(sorted(self.cameras), size=CAMERAS):
            cameras = self.cameras[place]
            for found in cameras[int(rng.integers(len(cameras)))]:
                captions.append(_caption_with_place(found[int(rng.integers(len(found)))], rng))
                places.append(PLACES.index(place))
        noise = rng.standard_normal((CAMERAS, 4, 16, 16), dtype=np.float32).repeat(2, axis=0)
        return PromptBatch(captions, np.array(places), np.array([0.0, 1.0] * CAMERAS, np.float32), noise)


def _caption_with_place(still: stills.Still, rng: np.random.Generator) -> str:
    """One that names the place: where none is asked for, none can be missed."""
    own = still.caption if still.place in still.caption else f"{still.place}, {still.caption}"
    drawn = (choose_caption(still, rng) for _ in range(20))
    return next((caption for caption in drawn if still.place in caption), own)
