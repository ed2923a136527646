"""The base model: any SDXL-class pipeline, read from a diffusers folder or a single .safetensors file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bglora.errors import MachineError, UserError

MINI = "mini"
MINI_FOLDER = Path(__file__).parents[1] / "assets" / "mini"
PICK_ONE = (
    "Set train.base to mini, an SDXL name on the hub, a diffusers folder or a .safetensors file of an SDXL model."
)


@dataclass(frozen=True)
class Base:
    """A loaded base model, weights frozen.

    Attributes:
        name: as written in the settings.
        pipeline: diffusers' StableDiffusionXLPipeline.
        device: "cpu" or "cuda".
        noise: the training noise schedule, `diffusers.DDPMScheduler` with the base's own betas and prediction type.
    """

    name: str
    pipeline: Any
    device: str
    noise: Any

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


_loaded: dict[str, Base] = {}
"""The base loaded last, by name: train, test and compose of one process share it."""


def load_base(name: str, where: Path | None = None, *, configs: Path | None = None) -> Base:
    """Loads a base: fp32 on a CPU, bf16 (VAE fp32) on a GPU. The last one stays loaded.

    Args:
        name: as written in the settings; without `where` it is `mini` or a path.
        where: the folder or file that the base lies in. Nothing is fetched.
        configs: a folder with SDXL's configs and tokenizers, which a single file does not carry.

    Raises:
        UserError: nothing is there, or it is not an SDXL-class model.
        MachineError: the base is a single file, and `configs` is not given.
    """
    if name not in _loaded:
        _loaded.clear()
        _loaded[name] = _load(name, where or (MINI_FOLDER if name == MINI else Path(name)), configs)
    return _loaded[name]


def _load(name: str, where: Path, configs: Path | None) -> Base:
    import torch

    _silence_libraries()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipeline = _load_path(where, configs, dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
        part.eval()
    return Base(name, pipeline, device, _noise_schedule(pipeline.scheduler, name))


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


def _silence_libraries() -> None:
    """Their bars and warnings would tear our own progress display."""
    for library in ("transformers", "diffusers"):  # in this order: importing diffusers makes transformers warn
        logging = import_module(f"{library}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _from_folder(where: Path, dtype: Any) -> Any:
    """The VAE stays fp32: SDXL's own overflows in half precision."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    pipelines: Any = StableDiffusionXLPipeline
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions call torch_dtype dtype, older ones don't
        return pipelines.from_pretrained(
            where,
            torch_dtype={"default": dtype, "vae": torch.float32},
            local_files_only=True,
            use_safetensors=True,  # nothing is unpickled
            add_watermarker=False,
        )


def _load_path(path: Path, configs: Path | None, dtype: Any) -> Any:
    import torch
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline

    if path.is_dir():
        _check_folder(path)
        return _from_folder(path, dtype)
    if not path.is_file():
        raise UserError("There is no base model at this path.", where=str(path), cure=PICK_ONE)
    _check_single_file(path)
    if configs is None:
        raise MachineError(
            "The configs of SDXL, which a single file does not carry, are not on this machine.",
            where=str(path),
            cure="bglora models pull sdxl-config",
        )
    own = {"config": str(configs), "local_files_only": True}
    vae = AutoencoderKL.from_single_file(str(path), subfolder="vae", torch_dtype=torch.float32, **own)
    pipelines: Any = StableDiffusionXLPipeline
    return pipelines.from_single_file(str(path), vae=vae, torch_dtype=dtype, add_watermarker=False, **own)


def _check_folder(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError("The base model's folder has no model_index.json.", where=str(folder), cure=PICK_ONE)
    _check_class(str(json.loads(index.read_text("utf-8")).get("_class_name")), str(folder))
    config = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    if config.get("addition_embed_type") != "text_time":
        raise UserError("The base model's U-Net is not SDXL's.", where=str(folder / "unet"), cure=PICK_ONE)


def _check_class(name: str, where: str) -> None:
    if not name.startswith("StableDiffusionXL"):
        raise UserError(f"The base model is a {name}, not an SDXL-class model.", where=where, cure=PICK_ONE)


def _check_single_file(path: Path) -> None:
    """SDXL checkpoints carry a second text encoder; SD 1 and 2, Flux and bare LoRAs don't."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        raise UserError("A base model in one file must be .safetensors.", where=str(path), cure=PICK_ONE)
    try:
        with safe_open(str(path), "pt") as stream:
            keys = list(stream.keys())
    except SafetensorError as error:
        raise UserError("The base model's file is damaged.", where=str(path), cure="Copy or fetch it again.") from error
    if not any(key.startswith("conditioner.embedders.1.") for key in keys):
        raise UserError("The file is not an SDXL-class checkpoint.", where=str(path), cure=PICK_ONE)


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
