"""Painting with the base model and any number of LoRA files, through diffusers' pipeline and its adapters (peft)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bglora.backends import Needs, weights
from bglora.backends.train import base as bases
from bglora.errors import UserError

if TYPE_CHECKING:
    import torch

ALGORITHM = "diffusers/1"
PAINT_GB = 11.0
LOOK_SHARE = 0.3
"""Share of the steps in which attention shows where a character comes to stand: layout is decided early."""
Scales = Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Layout:
    """Who acts where in one picture.

    Attributes:
        place_prompt: words of the place alone, without characters.
        inside: float32 (H, W), 0 to 1, where anything but the place is painted.
        masks: LoRA file to where it acts, float32 (H, W); those that aren't named act everywhere.
    """

    place_prompt: str
    inside: np.ndarray
    masks: Mapping[Path, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Composed:
    """A picture, and the place as it was painted for it without characters: uint8 (H, W, 3)."""

    picture: np.ndarray
    place: np.ndarray


def identity(settings: Any) -> str:
    """`diffusers/1 mini@…`. `settings` is the table [train]: pictures are painted by the base that is trained on."""
    return f"{ALGORITHM} {weights.identity(settings.base)}"


def names_of_weights(settings: Any) -> dict[str, tuple[str, ...]]:
    """See `bglora.backends`."""
    return bases.names_of_weights(settings.base)


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`: SDXL, as many pictures at once as it paints."""
    return bases.needs(settings.base, PAINT_GB)


def create(settings: Any, base: Any = None, memory: str = "auto") -> Painter:
    """`base` is a loaded `training.base.Base` to share with the trainer; without one it is loaded here.

    Args:
        memory: how much of the base lies on the card at a time, as in `compose.memory`.
    """
    from bglora.nets import offload
    from bglora.nets.device import card_gb, device

    if base is None:
        base = bases.load(settings.base, memory=offload.chosen(memory, device(), card_gb()))
    return Painter(base)


class Painter:
    """The `paint` role. LoRA files stay in the model between calls; `close` takes them out."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self._names: dict[Path, str] = {}

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the base was made for."""
        return int(self.base.size)

    @property
    def sampler(self) -> str:
        """diffusers' scheduler class that the base paints with."""
        return type(self.base.pipeline.scheduler).__name__

    def paint(
        self,
        prompts: Sequence[str],
        negative: str,
        seeds: Sequence[int],
        size: tuple[int, int],
        steps: int,
        guidance: float,
        adapters: Sequence[tuple[Path, float]] = (),
        *,
        schedule: Scales | None = None,
    ) -> list[np.ndarray]:
        """One picture per prompt with the seed beside it, uint8 (H, W, 3).

        Args:
            size: (height, width) in pixels, multiples of 8.
            adapters: LoRA files with their scales; scale 0 leaves one out.
            schedule: scales of the adapters at denoising step i, instead of the fixed ones.

        Raises:
            UserError: a LoRA file is not there, is damaged or does not fit the base.
        """
        from bglora.training import painting

        paths = [Path(path) for path, _ in adapters]
        self._hold(paths)
        look = painting.Look(size, steps, guidance, negative)
        self._scale(paths, [scale for _, scale in adapters])
        follow = None if schedule is None else lambda step: self._scale(paths, schedule(step))
        return list(painting.paint(self.base, prompts, seeds, look, on_step=follow))

    def compose(
        self,
        prompt: str,
        negative: str,
        seed: int,
        size: tuple[int, int],
        steps: int,
        guidance: float,
        adapters: Sequence[tuple[Path, float]],
        layout: Layout,
    ) -> Composed:
        """One picture whose characters stay in their region.

        First the place is painted alone: `place_prompt`, and the adapters without a mask. Then the whole prompt, from
        the same noise, with every masked adapter acting by its mask; after each step everything outside of `inside` is
        put back to what it was when the place was painted alone. So the latents outside are the place's own, exactly.
        Their pixels would still differ a little by what the VAE's decoder sees around a pixel; so the picture passes
        over into the place's within the soft edge, and outside of it is the place's own, exactly.

        Raises:
            UserError: as `paint`.
        """
        import torch

        from bglora.backends.paint.confinement import confined
        from bglora.training import painting
        from bglora.training.pictures import area_weights

        alone: list[torch.Tensor] = []

        def remember(_: int, latents: torch.Tensor) -> torch.Tensor:
            alone.append(latents.clone())
            return latents

        paths = [Path(path) for path, _ in adapters]
        self._hold(paths)
        look = painting.Look(size, steps, guidance, negative)
        self._scale(
            paths, [0.0 if path in layout.masks else scale for path, (_, scale) in zip(paths, adapters, strict=True)]
        )
        place = next(painting.paint(self.base, [layout.place_prompt], [seed], look, on_latents=remember))
        cells = self._cells(size)
        inside = torch.from_numpy(area_weights(layout.inside, *cells)).to(alone[0].device, alone[0].dtype)

        def put_back(step: int, latents: torch.Tensor) -> torch.Tensor:
            return torch.where(inside > 0, torch.lerp(alone[step], latents, inside), alone[step])

        self._scale(paths, [scale for _, scale in adapters])
        names = {self._names[path]: mask for path, mask in layout.masks.items() if path in self._names}
        with ExitStack() as stack:
            if names:
                stack.enter_context(confined(self.base.unet, names, cells))
            picture = next(painting.paint(self.base, [prompt], [seed], look, on_latents=put_back))
        return Composed(_passing_over(picture, place, layout.inside), place)

    def attention(
        self,
        prompt: str,
        phrases: Sequence[str],
        negative: str,
        seed: int,
        size: tuple[int, int],
        steps: int,
        guidance: float,
        adapters: Sequence[tuple[Path, float]],
    ) -> list[np.ndarray | None]:
        """How much each cell of a picture looks at each phrase of its prompt in the first steps: float32 (h, w).

        None for a phrase that the encoded prompt doesn't have.
        """
        from bglora.backends.paint.attention import Attention, watched, word_places
        from bglora.training import painting

        paths = [Path(path) for path, _ in adapters]
        self._hold(paths)
        self._scale(paths, [scale for _, scale in adapters])
        pipeline, unet, cells = self.base.pipeline, self.base.unet, self._cells(size)
        levels = len(unet.config.block_out_channels)
        places = [word_places(pipeline.tokenizer, prompt, phrase) for phrase in phrases]
        sums = [Attention(found, cells, levels) for found in places]
        last = max(1, round(LOOK_SHARE * steps))

        def enough(step: int) -> None:
            if step >= last:
                pipeline._interrupt = True  # diffusers' own way to end early

        with ExitStack() as stack:
            for one in sums:
                if one.places:
                    stack.enter_context(watched(unet, one))
            look = painting.Look(size, steps, guidance, negative)
            next(painting.paint(self.base, [prompt], [seed], look, on_step=enough))
        return [one.mean() if one.places else None for one in sums]

    def _cells(self, size: tuple[int, int]) -> tuple[int, int]:
        factor = self.base.latent_factor
        return size[0] // factor, size[1] // factor

    def as_painted(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures as the base could paint them at best: through its VAE and back. uint8 (n, H, W, 3) both ways."""
        from bglora.training import painting

        return painting.through_vae(self.base, pictures)

    def close(self) -> None:
        """Takes all LoRAs out of the model."""
        if self._names:
            self.base.pipeline.unload_lora_weights()
            self._names.clear()

    def _hold(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path not in self._names:
                name = f"lora{len(self._names)}"
                _load(self.base, path, name)
                self._names[path] = name

    def _scale(self, paths: Sequence[Path], scales: Sequence[float]) -> None:
        """Every held LoRA gets its scale, 0 if it is not among `paths`."""
        if not self._names:
            return
        wanted = dict(zip(paths, scales, strict=True))
        names = list(self._names.values())
        self.base.pipeline.set_adapters(names, [float(wanted.get(path, 0.0)) for path in self._names])


def _passing_over(picture: np.ndarray, place: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The picture inside, the place outside; from one to the other in the outer half of the soft edge."""
    share = np.clip(2.0 * inside, 0.0, 1.0)[..., None]
    mixed = picture * share + place * (1.0 - share)
    return np.round(mixed).astype(np.uint8)


def _load(base: Any, path: Path, name: str) -> None:
    from safetensors.torch import load_file

    from bglora.training import dora_files
    from bglora.training.lora_header import read_header

    names = read_header(path).shapes
    if dora_files.is_dora(names):
        source: Any = dora_files.for_diffusers(load_file(path), base)
        where: dict[str, Any] = {}
    else:
        source, where = str(path.parent), {"weight_name": path.name, "local_files_only": True}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several LoRAs are the point
            base.pipeline.load_lora_weights(source, adapter_name=name, **where)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        base.pipeline.unload_lora_weights()
        raise UserError(
            "The LoRA does not fit this base model: it was made for another one.",
            where=f"{path}, on train.base = {base.name}",
            cure="Take a LoRA that was trained on this base; or `bglora set train.base` to the LoRA's own.",
        ) from error
