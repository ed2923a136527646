"""Memory of every studio stage on a card, counted on the meta device: `python -m tests.bench.gpu --memory`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bglora.training.counting import Peak
from tests import full_size
from tests.bench.counting import at_work, on_meta, weights
from tests.bench.table import table, write_section

HEAD = ["stage", "networks", "setting", "weights GB", "at work GB", "needs GB"]
CARD_GB = 12.0
ROOM = 1.15
"""On what is at work: the allocator's waste, and workspaces of convolutions and transforms."""
CONTEXT_GB = 0.5
"""What the driver takes for itself."""
GIB = float(2**30)
HALF, BRAIN, WHOLE = torch.float16, torch.bfloat16, torch.float32
LARGEST = {"sd15": (576, 640), "sdxl": (1216, 1280)}
"""The largest part of a frame that a model paints: 1.5 times the area that it was trained on."""


@dataclass(frozen=True)
class Need:
    """What a stage takes on the card: bytes of weights, and beside them."""

    stage: str
    networks: str
    setting: str
    weights: float
    work: float

    @property
    def gb(self) -> float:
        """All of it, in GiB."""
        return (self.weights + self.work * ROOM) / GIB + CONTEXT_GB

    def row(self) -> list[str]:
        """Cells of the table."""
        told = f"{self.gb:.1f}" if self.gb <= CARD_GB else f"**{self.gb:.1f} ✗**"
        return [
            self.stage,
            self.networks,
            self.setting,
            f"{self.weights / GIB:.2f}",
            f"{self.work / GIB:.2f}",
            told,
        ]


def meta(*shape: int, dtype: torch.dtype = HALF) -> Tensor:
    """A tensor without values."""
    return torch.empty(shape, device="meta", dtype=dtype)


def segment() -> Iterator[Need]:
    """Detector and follower lie on the card together; the detector looks, then a window is followed."""
    # It asks for values on its way, so this one is run in earnest.
    net, detector = on_meta(full_size.sam2, BRAIN), full_size.grounding_dino().eval()
    both = weights(net, detector)
    found = at_work(partial(_detect, detector), detector)
    for characters in (1, 8):
        followed = _followed(net, characters)
        named = f"SAM 2.1 large, grounding-dino-base, {characters} character{'s' * (characters > 1)}"
        yield Need("segment", named, "`segment.window = 16`", both, max(found, followed))


def _detect(net: Any) -> None:
    """One look, of the size that pictures are brought to."""
    ids = torch.tensor([[101, 2711, 1012, 4111, 1012, 6492, 1012, 102]])
    net(pixel_values=torch.zeros(1, 3, 750, 1333), input_ids=ids)


def _followed(net: Any, characters: int, window: int = 16) -> int:
    """Bytes while some characters are followed through a window: its features, and what is remembered of each."""
    from bglora.nets.sam2 import Sam2Follower
    from bglora.vision.following import Prompt

    class Counted(Sam2Follower):
        def _run(self, memory: Any, view: Any, place: int, *, back: bool) -> Any:
            memory.shown.view = view
            self.model(memory, frame_idx=place, reverse=back)
            memory.forget(place, self.model.config)

    follower = Counted(net)
    with torch.inference_mode(), Peak([net]) as peak:
        views = follower.look([np.zeros((576, 1024, 3), np.uint8)] * window)
        kept = [follower.begin(views[0], 0, window, Prompt(box=(200, 100, 400, 300)))[0] for _ in range(characters)]
        for place in range(1, window):
            for memory in kept:
                follower.step(memory, views[place], place, back=False)
    return peak.peak


def lama() -> Iterator[Need]:
    """A tile of the largest side that it gets, as many at once as it takes, and one."""
    net, work = _lama()
    yield Need("inpaint", "LaMa, 8 tiles of 1024 x 1024 at once", "as it is", weights(net), work(8))
    yield Need("inpaint", "LaMa, 1 tile: batches halve where memory is short", "as it is", weights(net), work(1))


def _lama() -> tuple[nn.Module, Callable[[int], int]]:
    from bglora.nets import ffc
    from bglora.nets.folded import FoldedGenerator

    net = FoldedGenerator(ffc.Generator(ffc.published()).eval(), torch.device("cpu"), BRAIN).to("meta")
    net.device = torch.device("meta")
    return net, lambda count: at_work(lambda: net(meta(count, 4, 1024, 1024, dtype=WHOLE)), net)


@dataclass(frozen=True)
class Phase:
    """One step of painting: the networks that must be on the card, and bytes beside them."""

    nets: tuple[nn.Module, ...]
    work: int


def _needs(named: str, phases: list[Phase], more: str = "") -> Iterator[Need]:
    every = weights(*{id(net): net for phase in phases for net in phase.nets}.values())
    most = max(phase.work for phase in phases)
    yield Need("inpaint", named, f'`inpaint.low_memory = "no"`{more}', every, most)
    worst = max(phases, key=lambda phase: weights(*phase.nets) + phase.work)
    yield Need("inpaint", named, f'`inpaint.low_memory = "yes"`{more}', weights(*worst.nets), worst.work)


def brushnet() -> Iterator[Need]:
    """Text, encoder, denoising and decoder in turn, at the largest part that is painted."""
    for family, named in (("sd15", "BrushNet on Stable Diffusion 1.5"), ("sdxl", "BrushNet on SDXL")):
        for batch in (1, 4):
            yield from _needs(f"{named}, {batch} at once", [*_around(family), _denoised(family, batch)])


def sdxl() -> Iterator[Need]:
    """diffusers' inpainting: the UNet sees the known latents in five more channels."""
    unet = on_meta(partial(full_size.unet, "sdxl", in_channels=9), HALF)
    height, width = (side // 8 for side in LARGEST["sdxl"])
    run = partial(_predicted, unet, meta(2, 9, height, width), 2048, True)
    yield from _needs("SDXL inpainting, 1 at once", [*_around("sdxl"), Phase((unet,), at_work(run, unet))])


@cache
def _around(family: str) -> tuple[Phase, ...]:
    """Text before, encoder and decoder around the denoising."""
    from bglora.nets import brushnet_painting as painting

    texts = [on_meta(build, HALF) for build in full_size.text_encoders_of(family)]
    vae = on_meta(full_size.vae, WHOLE if family == "sdxl" else HALF)
    height, width = LARGEST[family]
    seen = at_work(lambda: painting.masked_latents(vae, meta(1, 3, height, width, dtype=WHOLE)), vae)
    shown = at_work(lambda: painting.decoded(vae, meta(1, 4, height // 8, width // 8)), vae)
    return Phase(tuple(texts), 2**27), Phase((vae,), max(seen, shown))


def _predicted(unet: Any, latents: Tensor, width: int, xl: bool) -> Any:
    rows = len(latents)
    kind = latents.dtype
    text, pooled, sizes = (meta(rows, *shape, dtype=kind) for shape in ((77, width), (1280,), (6,)))
    more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}} if xl else {}
    return unet(latents, torch.tensor(500), encoder_hidden_states=text, return_dict=False, **more)


def _denoised(family: str, batch: int) -> Phase:
    from bglora.nets import brushnet as branches
    from bglora.nets import brushnet_painting as painting
    from bglora.nets.brushnet_injection import injected

    unet = on_meta(partial(full_size.unet, family), HALF)
    branch = on_meta(lambda: branches.BrushNet({"sd15": branches.SD15, "sdxl": branches.SDXL}[family]), HALF)
    height, width = (side // 8 for side in LARGEST[family])
    xl = family == "sdxl"
    text = [meta(batch, 77, 2048 if xl else 768) for _ in range(2)]
    words = painting.Words(*text, *(meta(batch, 1280) for _ in range(2 if xl else 0)))

    def step() -> None:
        with injected(unet) as slots:
            denoiser = painting.Denoiser(unet, branch, slots, words, painting.Course())
            if xl:
                denoiser.size(meta(2 * batch, 6))
            latents, condition = meta(batch, 4, height, width), meta(batch, 5, height, width)
            denoiser.noise(latents, torch.tensor(500), condition, True)

    return Phase((unet, branch), at_work(step, unet, branch))


def openclip() -> Iterator[Need]:
    """The picture tower, 32 pictures at once."""
    for name in ("ViT-L-14/laion2b_s32b_b82k", "ViT-H-14/laion2b_s32b_b79k"):
        net = on_meta(partial(full_size.clip, name), BRAIN)
        tower: Any = net.vision_model
        work = at_work(partial(tower, pixel_values=meta(32, 3, 224, 224, dtype=BRAIN)), net)
        yield Need("cluster", f"OpenCLIP {name.partition('/')[0]}", "as it is", weights(net), work)


def qwen() -> Iterator[Need]:
    """Weights by `caption.quantize`; at work: the questions' keys and values, and the widest layers."""
    from bglora.nets.published import SHARE
    from bglora.nets.qwen_vl import PICTURE_TOKENS

    for name, quantize, batch in (
        ("Qwen2-VL-2B", "none", 8),
        ("Qwen3-VL-4B", "none", 8),
        ("Qwen3-VL-4B", "none", 2),
        ("Qwen2-VL-7B", "4bit", 8),
        ("Qwen2-VL-7B", "none", 8),
    ):
        net = on_meta(partial(full_size.qwen, name), BRAIN)
        text, seen = net.config.text_config, net.config.vision_config
        tokens = batch * (PICTURE_TOKENS + 400)  # the question, and the answer as it grows
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        kept = tokens * text.num_hidden_layers * 2 * text.num_key_value_heads * head * 2
        widest = tokens * (4 * text.hidden_size + 3 * text.intermediate_size) * 2
        patches = batch * PICTURE_TOKENS * seen.spatial_merge_size**2
        width = getattr(seen, "embed_dim", seen.hidden_size)
        looked = patches * width * 2 * 14  # query, key, value, and the four times wider layer before and after
        setting = f'`caption.quantize = "{quantize}"`, `caption.batch = {batch}`'
        yield Need("caption", name, setting, weights(net) * SHARE[quantize], max(kept + widest, looked))


def train() -> Iterator[Need]:
    """The stage's own estimate: the worst of a step, encoding, and a sample picture."""
    from bglora.training import memory, shapes
    from bglora.training.job import Recipe

    unet, vae = on_meta(partial(full_size.unet, "sdxl"), BRAIN), on_meta(full_size.vae, WHOLE)
    texts = [on_meta(build, BRAIN) for build in full_size.text_encoders_of("sdxl")]
    changes: list[dict[str, Any]] = [
        {},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "dim": 32},
        {"gradient_checkpointing": True, "dim": 128, "optimizer": "adamw8bit", "samples": 0},
        {"gradient_checkpointing": True, "dim": 32, "base_quantization": "int8", "samples": 0},
        {"gradient_checkpointing": True, "dim": 64, "base_quantization": "nf4", "samples": 0},
    ]
    for change in changes:
        recipe = Recipe(**change)
        shape = shapes.Shape(
            unet.to_json_string(),
            vae.to_json_string(),
            tuple((type(net), net.config.to_json_string()) for net in texts),
            BRAIN,
            True,
            recipe.network,
            (1, 4, 128, 128),
            recipe.gradient_checkpointing,
            recipe.base_quantization,
        )
        need = memory.estimate_of(shape, recipe)
        setting = ", ".join(f"`train.{key} = {str(value).lower()}`" for key, value in change.items())
        yield Need("train", "LoRA on SDXL, 1024 x 1024", setting or "rank 128", need.base, need.beside / ROOM)


def paint() -> Iterator[Need]:
    """Pictures of the stages test and compose, as many at once as the stage takes."""
    from bglora.training.painting import PIXELS_AT_ONCE

    unet, vae = on_meta(partial(full_size.unet, "sdxl"), BRAIN), on_meta(full_size.vae, WHOLE)
    every = weights(unet, vae, *(on_meta(build, BRAIN) for build in full_size.text_encoders_of("sdxl")))
    count = PIXELS_AT_ONCE["cuda"] // 1024**2
    latents = meta(2 * count, 4, 128, 128, dtype=BRAIN)
    work = at_work(partial(_predicted, unet, latents, 2048, True), unet)
    yield Need("test, compose", f"SDXL, {count} pictures of 1024 x 1024", "as it is", every, max(work, _decoded(vae)))


def _decoded(vae: Any) -> int:
    from bglora.nets import brushnet_painting as painting

    return at_work(lambda: painting.decoded(vae, meta(1, 4, 128, 128)), vae)


STAGES = (segment, lama, brushnet, sdxl, openclip, qwen, train, paint)
NOTE = f"""\
Computed, not measured: weights in the numbers that they run in, and what lives beside them at the peak of a run on
shapes alone (of the detector: of a run in earnest), attention taken as fused; for Qwen by its layers' widths. Needs:
the weights, {ROOM} x what is at work for the allocator and workspaces, and {CONTEXT_GB} GB for the driver. A cross:
more than {CARD_GB:g} GB. BrushNet and SDXL paint parts of at most 1.5 times the area that they were trained on. Batches
of inpaint, cluster and caption halve by themselves where memory is short, and `low_memory = "auto"` is "yes" on cards
below 16 GB."""


def main() -> None:
    """Counts and writes the section."""
    rows = []
    for stage in STAGES:
        for need in stage():
            rows.append(need.row())
            print(*rows[-1], sep=" | ", flush=True)
    write_section("Memory of the studio's stages", "python -m tests.bench.gpu --memory", table(HEAD, rows), NOTE)
