"""The base model: any SDXL-class pipeline, read from a diffusers folder or a single .safetensors file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bglora.errors import UserError
from bglora.nets.offload import Memory
from bglora.training.options import Quantization

SETTING = "train.base"
MINI = "mini"
MINI_BASIS = "vae/patch_basis.safetensors"
"""The file by which a folder is told to be `mini`, or another one made by the script that trains it."""
MINI_FOLDER = Path(__file__).parents[1] / "assets" / "mini"
PICK_ONE = (
    "bglora set train.base mini; or an SDXL name on the hub, a diffusers folder, a .safetensors file of an SDXL model"
)


@dataclass(frozen=True)
class Base:
    """A loaded base model, weights frozen.

    Attributes:
        name: as written in the settings.
        pipeline: diffusers' StableDiffusionXLPipeline.
        device: "cpu", "cuda" or "cuda:1".
        noise: the training noise schedule, `diffusers.DDPMScheduler` with the base's own betas and prediction type.
        fills: it knows only pictures whose original size is the size they are painted at, as `mini` was trained; told
            of larger ones, it learns what that size means instead of the place.
    """

    name: str
    pipeline: Any
    device: str
    noise: Any
    fills: bool = False

    @property
    def unet(self) -> Any:
        return self.pipeline.unet

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def encoders(self) -> tuple[Any, Any]:
        """Both text encoders."""
        return self.pipeline.text_encoder, self.pipeline.text_encoder_2

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell: 8 for SDXL."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the base was made for."""
        return int(self.unet.config.sample_size) * self.latent_factor


_loaded: dict[tuple[str, Quantization, Memory], Base] = {}
"""The base loaded last, by name, form and how it lies in memory: train, test and compose of one process share it."""


def load_base(
    name: str,
    where: Path | None = None,
    *,
    configs: Path | None = None,
    quantization: Quantization = "none",
    memory: Memory = "full",
) -> Base:
    """Loads a base: fp32 on a CPU, bf16 (VAE fp32) on a GPU. The last one stays loaded.

    Args:
        name: as written in the settings; without `where` it is `mini` or a path.
        where: the folder or file that the base lies in. Nothing is fetched.
        configs: a folder with SDXL's configs and tokenizers, which a single file does not carry.
        quantization: how the U-Net's transformers are held; see `bglora.training.quantized`.
        memory: how much of it lies on the card at a time; all of it for training.

    Raises:
        UserError: nothing is there, or it is not an SDXL-class model.
        MachineError: the base is a single file, and `configs` is not given; or what quantizes is not installed.
    """
    key = name, quantization, memory
    if key not in _loaded:
        _loaded.clear()
        place = where or (MINI_FOLDER if name == MINI else Path(name))
        _loaded[key] = _load(name, place, configs, quantization, memory)
    return _loaded[key]


def check_family(where: Path) -> None:
    """Refuses a base of another kind, told without loading it.

    Raises:
        UserError: it is damaged, or no SDXL-class model.
    """
    from bglora.nets import diffusion_base

    family = diffusion_base.family_of(where, SETTING)
    if family != "SDXL":
        raise UserError(f"The base model is {family}, not SDXL's kind.", where=f"{SETTING} = {where}", cure=PICK_ONE)


def _load(name: str, where: Path, configs: Path | None, quantization: Quantization, memory: Memory) -> Base:
    import torch

    from bglora.nets import diffusion_base, offload
    from bglora.nets.device import device, moved
    from bglora.training.quantized import quantize

    if not where.exists():
        raise UserError("There is no base model at this path.", where=f"{SETTING} = {where}", cure=PICK_ONE)
    check_family(where)
    place = device()
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    pipeline = diffusion_base.load(where, setting=SETTING, dtype=dtype, configs=configs, exact_vae=True)
    quantize(pipeline.unet, quantization, place)
    cure = "Close what else uses the card, or set BGLORA_DEVICE=cpu"
    if memory == "full" or place.type == "cpu":
        moved(pipeline, place, what="The base model", setting=f"{SETTING} = {name}", cure=cure)
    else:
        offload.hooked(pipeline, place, memory)
    offload.in_tiles(pipeline.vae, memory in ("tiled", "sequential"))
    fills = (where / MINI_BASIS).is_file()
    return Base(name, pipeline, str(place), _noise_schedule(pipeline.scheduler, name), fills)


def _noise_schedule(scheduler: Any, name: str) -> Any:
    import diffusers

    schedules: Any = diffusers.DDPMScheduler
    noise = schedules.from_config(scheduler.config, clip_sample=False)
    if noise.config.prediction_type not in ("epsilon", "v_prediction"):
        raise UserError(
            f"The base predicts {noise.config.prediction_type}; only epsilon and v_prediction can be trained.",
            where=f"train.base = {name}",
            cure=PICK_ONE,
        )
    return noise


@contextmanager
def exact(threads: int) -> Iterator[None]:
    """Deterministic kernels and a fixed number of CPU threads: sums depend on how they are split."""
    import torch

    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
