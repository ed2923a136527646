"""The networks that `tests.bench.gpu` times, each beside a plain way of doing the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from bglora.nets.device import device, dtype
from tests import full_size
from tests.bench.gpu import FULL, Measured, Scale, flop_of, timed

NEEDED_GB = {"sd15": 8, "sdxl": 14}
"""Of main memory, in float32."""


def on_device(build: Callable[[], Any], kind: torch.dtype) -> Any:
    """A network with random weights, filled where it runs: nothing is copied there, and nothing drawn twice."""
    torch.manual_seed(0)
    with torch.device("meta"):
        net = build().to(kind)
    net = net.to_empty(device=device()).eval().requires_grad_(False)
    for name, values in net.named_parameters():
        if values.dim() > 1:
            values.normal_(0, values[0].numel() ** -0.5)
        else:
            values.fill_(float(name.endswith("weight")))
    for values in net.buffers():
        values.zero_()
    return net


def lama(scale: Scale) -> Iterator[Measured]:
    """The product's own call, arrays in and arrays out, beside the loop of simple-lama-inpainting, in turn."""
    from bglora.nets import ffc
    from bglora.nets.lama import Lama
    from tests.backends import tiny_lama
    from tests.bench.lama import off_by, one_by_one

    where, (height, width) = device(), scale.lama
    generator = tiny_lama.generator(1, width=64, blocks=18)
    ours, plain = Lama(generator), one_by_one(generator, height, width, where)
    many, holes = pictures_and_holes(scale.pictures, scale.lama)
    with torch.device("meta"):
        shapes = ffc.Generator(ffc.published())
    flop = flop_of(lambda: shapes(torch.empty(1, 4, height, width, device="meta")))
    named = f"{width} x {height}"
    loop = timed(
        f"LaMa {named}, TorchScript one by one", lambda: plain(many, holes), len(many), scale.rounds, flop=flop
    )
    yield loop
    largest, share = off_by(plain(many, holes), ours.fill(many, holes), holes)
    told = f"differs from it by {largest} of 255 at most, in {share:.2%} of the holes' values"
    for batch in scale.batches:
        run = partial(ours.fill, many, holes, batch=batch)
        what = f"LaMa {named}, bglora, batch {batch} ({told})"
        yield timed(what, run, len(many), scale.rounds, flop=flop, plain=loop.each)


def pictures_and_holes(count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures with a hole of a ninth of each."""
    made = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    holes = np.zeros((count, *size), bool)
    holes[:, size[0] // 3 : 2 * size[0] // 3, size[1] // 3 : 2 * size[1] // 3] = True
    return made, holes


def brushnet(family: str, scale: Scale) -> Iterator[Measured]:
    """Pictures in, pictures out; the plain way runs BrushNet and UNet twice a step, with the prompt and without."""
    from bglora.backends.fill.diffusion import in_fastest_layout, number_type
    from bglora.nets import brushnet as branches

    where = device()
    kind = number_type(where)
    named = f"BrushNet {family}, {scale.brushnet[1]} x {scale.brushnet[0]}"
    needed, free = NEEDED_GB[family], psutil.virtual_memory().available / 2**30
    if where.type != "cuda" and free < needed:
        yield Measured(f"{named}: left out, takes {needed} GB of memory in float32 and {free:.0f} are free", 0.0)
        return
    config = {"sd15": branches.SD15, "sdxl": branches.SDXL}[family]
    branch = on_device(lambda: branches.BrushNet(config), kind)
    unet = on_device(partial(full_size.unet, family), kind)
    vae = on_device(full_size.vae, torch.float32 if family == "sdxl" else kind)
    for net in (branch, unet, vae):
        in_fastest_layout(net, where)
    for batch in scale.painted:
        for steps in scale.steps:
            painter = _Painter(unet, branch, vae, family, steps, *pictures_and_holes(batch, scale.brushnet))
            what = f"{named}, {steps} step{'s' * (steps > 1)}, batch {batch}"
            flop = flop_of(painter.ours) / batch
            plain = timed(f"{what}, both nets twice a step", painter.plain, batch, scale.rounds)
            yield plain
            yield timed(what, painter.ours, batch, scale.rounds, flop=flop, plain=plain.each)


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
    kind = dtype(device())
    net = on_device(partial(full_size.clip, "ViT-L-14/laion2b_s32b_b82k"), kind)
    pixels = torch.randn(scale.looks, 3, 224, 224).to(device(), kind)

    @torch.inference_mode()
    def run() -> Tensor:
        return torch.as_tensor(net.visual_projection(net.vision_model(pixel_values=pixels).pooler_output))

    flop = flop_of(run) / scale.looks
    yield timed(f"OpenCLIP ViT-L-14, batch {scale.looks}", run, scale.looks, scale.rounds, flop=flop)


def sam2(scale: Scale) -> Iterator[Measured]:
    """SAM 2.1 large at 1024 x 1024: one character followed from a box, features of the frames included."""
    from bglora.nets.sam2 import Sam2Follower
    from bglora.vision.following import Prompt

    net = on_device(full_size.sam2, dtype(device()))
    follower = Sam2Follower(net)
    frames = list(pictures_and_holes(scale.frames, FULL.lama)[0])

    def run() -> None:
        memory = None
        for start in range(0, len(frames), follower.batch):
            for k, view in enumerate(follower.look(frames[start : start + follower.batch]), start):
                if memory is None:
                    memory, _ = follower.begin(view, k, len(frames), Prompt(box=(200, 100, 400, 300)))
                else:
                    follower.step(memory, view, k, back=False)

    flop = flop_of(run) / scale.frames
    what = f"SAM 2.1 large, a character over {scale.frames} frames"
    yield timed(what, run, scale.frames, scale.rounds, flop=flop)


MEASURES: dict[str, Callable[[Scale], Iterator[Measured]]] = {
    "lama": lama,
    "brushnet_sd15": partial(brushnet, "sd15"),
    "brushnet_sdxl": partial(brushnet, "sdxl"),
    "sam2": sam2,
    "openclip": openclip,
}
