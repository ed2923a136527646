"""Stock diffusion models as bases for filling: Stable Diffusion 1.5 and SDXL, from a folder or one file, offline."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bglora.errors import MachineError, UserError, first_line
from bglora.nets.device import is_full, too_large
from bglora.nets.published import CONFIGS
from bglora.nets.quiet import silence

PIPELINES = {
    ("Stable Diffusion 1.5", False): "StableDiffusionPipeline",
    ("SDXL", False): "StableDiffusionXLPipeline",
    ("SDXL", True): "StableDiffusionXLInpaintPipeline",
}
WITHOUT: dict[str, dict[str, Any]] = {
    "Stable Diffusion 1.5": {"safety_checker": None, "requires_safety_checker": False},
    "SDXL": {"add_watermarker": False},
}
"""What diffusers would add to the pictures, or blank them for."""
PLAIN, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"


def load(
    path: Path,
    *,
    setting: str,
    dtype: torch.dtype,
    inpainting: bool = False,
    configs: Path | None = None,
    exact_vae: bool = False,
) -> Any:
    """A stock pipeline of diffusers on the CPU, weights frozen, without a safety checker (it blanks pictures).

    The VAE of SDXL stays in float32 unless its config says that it bears half precision.

    Args:
        path: a diffusers folder, or a .safetensors file with the whole model.
        setting: the key that names it, for errors.
        inpainting: diffusers' inpainting pipeline instead of the ordinary one; SDXL only.
        configs: a folder with the configs and tokenizers that a single file does not carry.
        exact_vae: keep it in float32 whatever its config says.

    Raises:
        UserError: nothing is there, it is damaged, or it is no model of these kinds.
        MachineError: a single file, and `configs` is not given.
    """
    silence()
    family = family_of(path, setting)
    if (family, inpainting) not in PIPELINES:
        raise UserError(
            f"This is a {family} model; one of SDXL's kind is needed.",
            where=f"{setting} = {path}",
            cure=f"Set {setting} to an SDXL model, for instance sdxl-inpainting",
        )
    kind: Any = getattr(import_module("diffusers"), PIPELINES[family, inpainting])
    try:
        pipeline = (
            _from_file(kind, path, dtype, family, configs)
            if path.is_file()
            else _from_folder(kind, path, dtype, family)
        )
    except (SafetensorError, ValueError, OSError, KeyError, RuntimeError, MemoryError) as error:
        if is_full(error):
            raise too_large(
                "The base model", f"{setting} = {path}", "Close other programs, or take a smaller one"
            ) from error
        raise UserError(
            f"The base model can't be read: {first_line(error)}",
            where=f"{setting} = {path}",
            cure="Copy or fetch it again",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    if not exact_vae and (family != "SDXL" or not pipeline.vae.config.force_upcast):
        pipeline.vae.to(dtype)
    return pipeline


def family_of(path: Path, setting: str) -> str:
    """ "Stable Diffusion 1.5" or "SDXL", told without loading anything.

    Raises:
        UserError: it is damaged, or no model of these kinds.
    """
    return _family_of_file(path, setting) if path.is_file() else _family_of_folder(path, setting)


def native_side(pipeline: Any) -> int:
    """Side in pixels of the pictures that the model was trained on: 512, 1024."""
    return int(pipeline.unet.config.sample_size) * cell(pipeline)


def cell(pipeline: Any) -> int:
    """Pixels per latent cell: 8."""
    return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def _from_folder(kind: Any, folder: Path, dtype: torch.dtype, family: str) -> Any:
    unet = folder / "unet"
    half = (unet / HALF).is_file() and not (unet / PLAIN).is_file()
    more = dict(WITHOUT[family])
    if family != "SDXL":
        more |= {"feature_extractor": None, "image_encoder": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions call torch_dtype dtype, older ones don't
        return kind.from_pretrained(
            folder,
            torch_dtype={"default": dtype, "vae": torch.float32},
            variant="fp16" if half else None,
            local_files_only=True,
            use_safetensors=True,  # nothing is unpickled
            **more,
        )


def _from_file(kind: Any, file: Path, dtype: torch.dtype, family: str, configs: Path | None) -> Any:
    import diffusers

    if configs is None:
        raise MachineError(
            f"The configs of {family}, which a single file does not carry, are not on this machine.",
            where=str(file),
            cure=f"bglora models pull {CONFIGS[family]}",
        )
    vaes: Any = diffusers.AutoencoderKL
    own = {"config": str(configs), "local_files_only": True}
    vae = vaes.from_single_file(str(file), subfolder="vae", torch_dtype=torch.float32, **own)
    return kind.from_single_file(str(file), vae=vae, torch_dtype=dtype, **WITHOUT[family], **own)


def _family_of_folder(folder: Path, setting: str) -> str:
    index, unet = folder / "model_index.json", folder / "unet" / "config.json"
    for file in (index, unet):
        if not file.is_file():
            _check_index(index, folder, setting)
            raise UserError(
                f"This is no folder of a diffusion model: it has no {file.relative_to(folder).as_posix()}.",
                where=f"{setting} = {folder}",
                cure="Give the folder that holds model_index.json, or a .safetensors file with the whole model",
            )
    try:
        name = str(json.loads(index.read_text("utf-8")).get("_class_name"))
        config = json.loads(unet.read_text("utf-8"))
    except ValueError as error:
        raise UserError(
            f"The base model's description is damaged: {error}", where=f"{setting} = {folder}", cure="Fetch it again"
        ) from error
    if not name.startswith("StableDiffusion") or "cross_attention_dim" not in config:
        raise UserError(
            f"The base model is a {name}; Stable Diffusion 1.5 and SDXL can be used.",
            where=f"{setting} = {folder}",
            cure="Set it to sd15, realistic-vision, sdxl-base, or another model of these kinds",
        )
    return "SDXL" if config.get("addition_embed_type") == "text_time" else "Stable Diffusion 1.5"


def _check_index(index: Path, folder: Path, setting: str) -> None:
    """Raises `UserError` if the folder says that it holds another kind of diffusion model, one without a U-Net."""
    try:
        name = str(json.loads(index.read_text("utf-8")).get("_class_name"))
    except (OSError, ValueError, AttributeError):
        return
    raise UserError(
        f"The base model is a {name} without a U-Net; Stable Diffusion 1.5 and SDXL can be used.",
        where=f"{setting} = {folder}",
        cure="Set it to sd15, realistic-vision, sdxl-base, or another model of these kinds",
    )


def _family_of_file(file: Path, setting: str) -> str:
    cure = "Give a .safetensors file with a whole Stable Diffusion 1.5 or SDXL model, or a diffusers folder"
    if file.suffix != ".safetensors":
        raise UserError("A base model in one file must be .safetensors.", where=f"{setting} = {file}", cure=cure)
    try:
        with safe_open(str(file), "pt") as stream:
            keys = list(stream.keys())
    except SafetensorError as error:
        raise UserError(f"The base model's file is damaged: {error}", where=f"{setting} = {file}", cure=cure) from error
    if any(key.startswith("conditioner.embedders.1.") for key in keys):
        return "SDXL"
    if any(key.startswith("cond_stage_model.transformer.") for key in keys):
        return "Stable Diffusion 1.5"
    raise UserError("This file holds no whole model of these kinds.", where=f"{setting} = {file}", cure=cure)
