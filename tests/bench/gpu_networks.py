"""The networks that `tests.bench.gpu` times, each beside a plain way of doing the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bglora.nets.device import device, dtype
from tests import full_size
from tests.bench.gpu import Measured, Scale, flop_of, timed


def on_device(build: Callable[[], Any], kind: torch.dtype) -> Any:
    """A network with random weights, built where it runs: nothing is copied there."""
    torch.manual_seed(0)
    with torch.device(device()):
        return build().to(kind).eval().requires_grad_(False)


def pictures_and_holes(count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures with a hole of a ninth of each."""
    made = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    holes = np.zeros((count, *size), bool)
    holes[:, size[0] // 3 : 2 * size[0] // 3, size[1] // 3 : 2 * size[1] // 3] = True
    return made, holes


def brushnet(scale: Scale) -> Iterator[Measured]:
    """Both families; the plain way runs BrushNet and UNet twice a step, with the prompt and without."""
    for family in ("sd15", "sdxl"):
        yield from _family(family, scale)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _family(family: str, scale: Scale) -> Iterator[Measured]:
    from bglora.backends.fill.diffusion import in_fastest_layout
    from bglora.nets import brushnet as branches

    where = device()
    kind = torch.float16 if where.type == "cuda" else torch.float32
    config = {"sd15": branches.SD15, "sdxl": branches.SDXL}[family]
    branch = on_device(lambda: branches.BrushNet(config), kind)
    unet, vae = on_device(partial(full_size.unet, family), kind), on_device(full_size.vae, torch.float32)
    for net in (branch, unet, vae):
        in_fastest_layout(net, where)
    for batch in scale.brushnet:
        for steps in scale.steps:
            painter = _Painter(unet, branch, vae, family, steps, *pictures_and_holes(batch, scale.size))
            named = f"BrushNet {family}, {scale.size[1]} x {scale.size[0]}, {steps} steps, batch {batch}"
            flop = flop_of(painter.ours) / batch
            yield timed(named, painter.ours, batch, scale.rounds, flop)
            yield timed(f"{named}, both nets twice a step", painter.plain, batch, scale.rounds)


@dataclass
class _Painter:
    """Fills the holes of some pictures with random networks and random words."""

    unet: Any
    branch: Any
    vae: Any
    family: str
    steps: int
    pictures: np.ndarray
    holes: np.ndarray

    def __post_init__(self) -> None:
        from bglora.nets import brushnet_painting as painting

        count, height, width = self.holes.shape
        xl = self.family == "sdxl"
        to = {"device": self.unet.device, "dtype": self.unet.dtype}
        text = [torch.randn(count, 77, 2048 if xl else 768, **to) for _ in range(2)]
        self.words = painting.Words(*text, *(torch.randn(count, 1280, **to) for _ in range(2 if xl else 0)))
        self.ids = painting.sizes(height, width, 2 * count).to(**to) if xl else None
        self.noise = torch.randn(count, 4, height // 8, width // 8, **to)

    def ours(self) -> Tensor:
        """As the product does it."""
        from bglora.nets import brushnet_painting as painting

        course = painting.Course(self.steps)
        return self._decoded(
            painting.denoise(
                self.unet,
                self.branch,
                self._sampler(),
                self.noise,
                self._condition(),
                self.words,
                course,
                time_ids=self.ids,
            )
        )

    def plain(self) -> Tensor:
        """Everything twice a step."""
        return self._decoded(
            both_twice(
                self.unet, self.branch, self._sampler(), self.noise, self._condition(), self.words, self.steps, self.ids
            )
        )

    def _sampler(self) -> Any:
        import diffusers

        return diffusers.DPMSolverMultistepScheduler()

    def _condition(self) -> Tensor:
        from bglora.nets import brushnet_painting as painting

        return painting.condition(self.vae, self.pictures, self.holes).to(self.unet.dtype)

    def _decoded(self, latents: Tensor) -> Tensor:
        from bglora.nets import brushnet_painting as painting

        return torch.cat([painting.decoded(self.vae, one[None]) for one in latents])


@torch.inference_mode()
def both_twice(
    unet: Any, branch: Any, scheduler: Any, noise: Tensor, condition: Tensor, words: Any, steps: int, ids: Tensor | None
) -> Tensor:
    """The plain way: with the prompt and without it one after the other, everything computed for each."""
    from bglora.nets.brushnet_injection import injected

    scheduler.set_timesteps(steps, device=noise.device)
    latents, rows = noise * scheduler.init_noise_sigma, len(noise)
    halves = [(words.negative, words.negative_pooled), (words.prompt, words.pooled)]
    with injected(unet) as slots:
        for timestep in scheduler.timesteps:
            seen, found = scheduler.scale_model_input(latents, timestep), []
            for text, pooled in halves:
                named: dict[str, Any] = {}
                added = None
                if ids is not None:
                    named["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids[:rows]}
                    added = branch.added(pooled, ids[:rows])
                slots.put(branch(seen, timestep, condition, added, branch.scales(1.0)))
                found.append(unet(seen, timestep, encoder_hidden_states=text, return_dict=False, **named)[0])
            noise_found = found[0] + 7.5 * (found[1] - found[0])
            latents = scheduler.step(noise_found, timestep, latents, return_dict=False)[0]
    return latents


def openclip(scale: Scale) -> Iterator[Measured]:
    """The picture tower of ViT-L-14, pictures made ready before."""
    from transformers import CLIPConfig, CLIPModel

    from bglora.backends.embed import openclip_names
    from bglora.nets.openclip_checkpoint import clip_config

    config = CLIPConfig(**clip_config(openclip_names.named("ViT-L-14/laion2b_s32b_b82k").config))
    kind = dtype(device())
    net = on_device(lambda: CLIPModel(config), kind)
    pixels = torch.randn(scale.pictures, 3, 224, 224).to(device(), kind)

    @torch.inference_mode()
    def run() -> Tensor:
        return torch.as_tensor(net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output))

    flop = flop_of(run) / scale.pictures
    yield timed(f"OpenCLIP ViT-L-14, batch {scale.pictures}", run, scale.pictures, scale.rounds, flop)


def sam2(scale: Scale) -> Iterator[Measured]:
    """SAM 2.1 large at 1024 x 1024: one character followed from a box, features of the frames included."""
    from transformers import Sam2VideoModel

    from bglora.nets import sam2_checkpoint
    from bglora.nets.sam2 import Sam2Follower
    from bglora.vision.following import Prompt

    net = on_device(lambda: Sam2VideoModel(sam2_checkpoint.config("large")), dtype(device()))
    follower = Sam2Follower(net)
    frames = list(pictures_and_holes(scale.frames, scale.size)[0])

    def run() -> None:
        memory = None
        for start in range(0, len(frames), follower.batch):
            for k, view in enumerate(follower.look(frames[start : start + follower.batch]), start):
                if memory is None:
                    memory, _ = follower.begin(view, k, len(frames), Prompt(box=(200, 100, 400, 300)))
                else:
                    follower.step(memory, view, k, back=False)

    yield timed(f"SAM 2.1 large, a character over {scale.frames} frames", run, scale.frames, scale.rounds)


MEASURES: dict[str, Callable[[Scale], Iterator[Measured]]] = {
    "brushnet": brushnet,
    "sam2": sam2,
    "openclip": openclip,
}
