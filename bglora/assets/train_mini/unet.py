"""The U-Net and both text encoders of `mini`: sizes, training pool and training by v-prediction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bglora.assets.train_mini import clock, pca_encoder, restart, stills, text
from bglora.assets.train_mini.captions import choose_caption

BUCKETS = {
    (128, 128): (0.82, 16),
    (96, 160): (0.12, 16),
    (160, 96): (0.03, 16),
    (192, 192): (0.03, 7),
}
# How often a still is drawn, by the letter of its file: whole pictures without and with a character, parts of the
# first, and parts around the character, in which it is large enough to be learned.
LETTER_WEIGHT = {"a": 2.0, "b": 0.1, "c": 0.1, "d": 1.0, "e": 1.0, "f": 0.8, "g": 0.8}
PLACE_WEIGHT = {"room": 1.6}  # rooms hold the most things
NEARER_WEIGHT = 0.05  # of a view that does not show the whole still; the whole is what is painted by default
NEAR_CHARACTER_WEIGHT = 0.1
MIRRORED_WEIGHT = 0.05
OTHER_WEIGHT = 0.08  # of the cameras that are not among stills.core_cameras
PAIRS = 4
"""Of a batch: characters, each beside the same camera without it, under the same noise at the same noise step.

What the two ask of the weights differs by the character and its words alone; drawn apart, other differences drown it.
"""
MIDDLE = 0.5  # 0: noise steps are drawn uniformly; 0.5: those in the middle, which decide layout, thrice as often
CHECKPOINT = "unet.pt"
PEAK_RATE = 6e-4
CHARACTER_WEIGHT = 4.0  # a character covers few latent cells; without more weight the words for it are not learned


@dataclass(frozen=True)
class Pool:
    """Latents of all views of one size with their mirrors: (n, 4, h, w), loss weights (n, 1, h, w), time ids (n, 6).

    `odds` (n,) sum to 1: how often each is drawn. `sources` (n,) are the stills' numbers. `twins` (n,) are the rows of
    the same views without their character, -1 where there is none.
    """

    latents: NDArray[np.float32]
    weights: NDArray[np.float32]
    time_ids: NDArray[np.int64]
    sources: NDArray[np.int64]
    odds: NDArray[np.float64]
    twins: NDArray[np.int64]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
        """Rows of a batch of `count`, and how many of the first are characters; their twins come right after them."""
        odds = self.odds * (self.twins >= 0)
        pairs = min(PAIRS, count // 4) if odds.any() else 0
        seen = rng.choice(len(odds), size=pairs, p=odds / odds.sum()) if pairs else np.zeros(0, np.int64)
        alone = rng.choice(len(odds), size=count - 2 * pairs, p=self.odds)
        return np.concatenate([seen, self.twins[seen], alone]), pairs


def build_unet() -> Any:
    """SDXL's U-Net, small: three levels, one layer and one transformer a block."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 3, 6),
        transformer_layers_per_block=1,
        cross_attention_dim=2 * text.WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=6 * 32 + text.WIDTH,
        norm_num_groups=16,
    )


def noise_schedule() -> Any:
    """SDXL's noise (scaled linear) with v-prediction: a small model learns the picture as a whole sooner that way."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
    )


def build_pools(pictures: list[stills.Still], basis: pca_encoder.PcaBasis, seed: int) -> dict[tuple[int, int], Pool]:
    """Encode all views of all pictures once; sources index `pictures`."""
    rng = np.random.default_rng(seed)
    empty = stills.empty_cameras(pictures)
    core = stills.core_cameras(pictures)
    rows: dict[tuple[int, int], list[tuple[Any, ...]]] = {target: [] for target in BUCKETS}
    for number, still in enumerate(pictures):
        picture = stills.pixels(still)
        often = LETTER_WEIGHT.get(still.path.stem[-1], 1.0) * PLACE_WEIGHT.get(still.place, 1.0)
        often *= 1.0 if still.pair in core else OTHER_WEIGHT
        mask = stills.character_mask(still, empty.get(still.pair)) if stills.shows_whole_picture(still) else None
        for target, found in rows.items():
            for kind, view in enumerate(stills.views(picture.size, target, mask, rng)):
                odds = often * (1.0, NEARER_WEIGHT, NEAR_CHARACTER_WEIGHT)[kind]
                weight = np.ones((target[0] // 8, target[1] // 8), np.float32)
                if mask is not None:
                    weight += CHARACTER_WEIGHT * stills.cut_mask(mask, view, target)
                pixels = stills.cut(picture, view, target)
                both = np.stack([pixels, pixels[:, ::-1]])
                codes = pca_encoder.encode(basis, both)
                found.append((codes[0], weight, view.time_ids, number, odds))
                found.append((codes[1], weight[:, ::-1], view.time_ids, number, MIRRORED_WEIGHT * odds))
    pools = {}
    for target, found in rows.items():
        latents, weights, ids, sources, often_drawn = zip(*found, strict=True)
        share = np.array(often_drawn) / np.sum(often_drawn)
        twins = _twins([pictures[number] for number in sources]) if target[0] == target[1] else np.full(len(ids), -1)
        pools[target] = Pool(
            np.stack(latents), np.stack(weights)[:, None], np.array(ids), np.array(sources), share, twins
        )
    return pools


def _twins(shown: list[stills.Still]) -> NDArray[np.int64]:
    """For the rows of whole square views of square stills, the rows of their cameras' empty ones; -1 for others.

    `shown` are the stills of all rows. A still's first two rows are its whole view and that one's mirror.
    """
    first: dict[Path, int] = {}
    for row, still in enumerate(shown):
        first.setdefault(still.path, row)
    found = np.full(len(shown), -1)
    for path, row in first.items():
        empty = first.get(path.with_name(f"{shown[row].pair}a{path.suffix}"))
        if path.stem[-1] in "de" and empty is not None:
            found[row : row + 2] = empty, empty + 1
    return found


def draw_times(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Noise steps 0..999, one from each of `count` equal strata, more of them in the middle."""
    even = (np.arange(count) + rng.random(count)) / count
    return np.minimum((even + MIDDLE / (2 * np.pi) * np.sin(2 * np.pi * even)) * 1000, 999).astype(np.int64)


class Trainer:
    """Joint training of U-Net and text encoders; state in one checkpoint."""

    def __init__(
        self,
        pictures: list[stills.Still],
        basis: pca_encoder.PcaBasis,
        work: Path,
        seed: int,
        checkpoint: str = CHECKPOINT,
        peak_rate: float = PEAK_RATE,
    ) -> None:
        import torch
        from diffusers.models.attention_processor import AttnProcessor

        torch.manual_seed(seed)
        self.train = [still for still in pictures if not still.held_out]
        self.held = [still for still in pictures if still.held_out]
        self.seed = seed
        self.tokenizers = text.load_tokenizers(work / "vocabulary", work)
        self.unet = build_unet()
        self.unet.set_attn_processor(AttnProcessor())  # on CPU the fused kernel's backward pass is the slower one
        self.encoders = text.build_text_encoders(len(self.tokenizers[0]))
        self.alphas = noise_schedule().alphas_cumprod
        self.basis = basis
        parameters = [p for model in (self.unet, *self.encoders) for p in model.parameters()]
        self.state = clock.State(work / checkpoint, parameters, peak_rate, weight_decay=0.01)

    def start(self, folders: Sequence[Path]) -> None:
        """Begin with the weights of an exported pipeline, or the mean of several, instead of random ones."""
        restart.load_painter(self.unet, self.encoders, folders)
        self.state.begin()

    def run(self, minutes: float, report: Callable[[str], None]) -> None:
        """Train until the budget is spent, saving every few minutes."""
        pools = build_pools(self.train, self.basis, self.seed)
        views = sum(len(pool.latents) for pool in pools.values())
        report(f"{len(self.train)} stills, {views} views, {len(self.held)} held out")
        clock.train(self.state, minutes, lambda part: self._train_step(pools, part), self.check, report)

    def _train_step(self, pools: dict[tuple[int, int], Pool], part: float) -> float:
        loss = self.loss(pools, np.random.default_rng([self.seed, self.state.step]))
        self.state.descend(loss, part)
        return float(loss.detach())

    def loss(self, pools: dict[tuple[int, int], Pool], rng: np.random.Generator) -> Any:
        """Weighted mean squared error of v, (), on a batch of one size drawn at random."""
        targets = list(BUCKETS)
        target = targets[rng.choice(len(targets), p=[BUCKETS[t][0] for t in targets])]
        size = BUCKETS[target][1]
        rows, pairs = pools[target].draw(size, rng)
        captions = [choose_caption(self.train[source], rng) for source in pools[target].sources[rows]]
        times = rng.permutation(draw_times(size - pairs, rng))
        noise = rng.standard_normal((size - pairs, *pools[target].latents.shape[1:]), dtype=np.float32)
        times, noise = (np.concatenate([values[:pairs], values]) for values in (times, noise))
        error, weight = self._error(pools[target], rows, captions, times, noise)
        weight[pairs : 2 * pairs] = weight[:pairs]  # where a character would stand matters on the empty picture too
        return (error * weight).sum() / (weight.sum() * error.shape[1])

    def _error(
        self,
        pool: Pool,
        rows: NDArray[np.int64],
        captions: list[str],
        times: NDArray[np.int64],
        noise: NDArray[np.float32],
    ) -> tuple[Any, Any]:
        """Squared error of v (n, 4, h, w) and the loss weights (n, 1, h, w)."""
        import torch

        unique = sorted(set(captions))
        order = torch.tensor([unique.index(caption) for caption in captions])
        clean, mixed = torch.from_numpy(pool.latents[rows]), torch.from_numpy(noise)
        keep = self.alphas[torch.from_numpy(times)][:, None, None, None]
        noisy = keep.sqrt() * clean + (1 - keep).sqrt() * mixed
        wanted = keep.sqrt() * mixed - (1 - keep).sqrt() * clean
        states, pooled = text.encode_text(self.tokenizers, self.encoders, unique)
        extra = {"text_embeds": pooled[order], "time_ids": torch.from_numpy(pool.time_ids[rows])}
        with torch.autocast("cpu", torch.bfloat16):
            guess = self.unet(noisy, torch.from_numpy(times), states[order], added_cond_kwargs=extra).sample
        return (guess.float() - wanted) ** 2, torch.from_numpy(pool.weights[rows])

    @functools.cached_property
    def _check_pool(self) -> Pool:
        return build_pools(self.held, self.basis, self.seed)[128, 128]

    def check(self) -> str:
        """A line with the error of v on unseen places at three noise levels, with the stills' own captions."""
        pool = self._check_pool
        rng = np.random.default_rng(self.seed)
        rows = rng.choice(len(pool.latents), size=min(64, len(pool.latents)), replace=False)
        captions = [self.held[source].caption for source in pool.sources[rows]]
        noise = rng.standard_normal(pool.latents[rows].shape, dtype=np.float32)
        errors = [
            float(self._error(pool, rows, captions, np.full(len(rows), time), noise)[0].mean())
            for time in (100, 500, 900)
        ]
        return "held out, at noise steps 100, 500, 900: " + ", ".join(f"{error:.4f}" for error in errors)

    def averaged(self) -> tuple[Any, Any, Any]:
        """U-Net and both text encoders with the averaged weights of the checkpoint."""
        self.state.load()
        self.state.average.swap()
        return self.unet, *self.encoders
