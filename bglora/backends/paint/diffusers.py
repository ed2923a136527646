"""Painting with the base model and any number of LoRA files, through diffusers' pipeline and its adapters (peft)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bglora.backends import Needs, weights
from bglora.backends.train import base as bases
from bglora.errors import UserError

if TYPE_CHECKING:
    import numpy as np

ALGORITHM = "diffusers/1"
PAINT_GB = 11.0
Scales = Callable[[int], Sequence[float]]


def identity(settings: Any) -> str:
    """`diffusers/1 mini@…`. `settings` is the table [train]: pictures are painted by the base that is trained on."""
    return f"{ALGORITHM} {weights.identity(settings.base)}"


def names_of_weights(settings: Any) -> dict[str, tuple[str, ...]]:
    """See `bglora.backends`."""
    return bases.names_of_weights(settings.base)


def needs(settings: Any, card_gb: float) -> Needs:
    """See `bglora.backends.needs`: SDXL, as many pictures at once as it paints."""
    return bases.needs(settings.base, PAINT_GB)


def create(settings: Any, base: Any = None) -> Painter:
    """`base` is a loaded `training.base.Base` to share with the trainer; without one it is loaded here."""
    return Painter(base if base is not None else bases.load(settings.base))


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
            cure="Take a LoRA that was trained on this base, or set train.base to the LoRA's own.",
        ) from error
