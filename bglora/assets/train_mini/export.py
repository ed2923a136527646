"""Write a trained `mini` as a folder in diffusers' layout; U-Net and VAE in fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bglora.assets.train_mini import pca_encoder


def save_basis(basis: pca_encoder.PcaBasis, path: Path) -> None:
    """Keep the encoder's basis beside its weights, so that a decoder can be trained again for the same latents."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": basis.weight, "bias": basis.bias}, path)


def load_basis(path: Path) -> pca_encoder.PcaBasis:
    from safetensors.numpy import load_file

    stored = load_file(path)
    return pca_encoder.PcaBasis(stored["weight"], stored["bias"])


def write_pipeline(
    unet: Any, encoders: tuple[Any, Any], tokenizers: Path, vae: Any, basis: pca_encoder.PcaBasis, out: Path
) -> None:
    """Write what StableDiffusionXLPipeline.from_pretrained(out) reads; `tokenizers` holds tokenizer and tokenizer_2."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTokenizer

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    pipeline: Any = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=CLIPTokenizer.from_pretrained(tokenizers / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(tokenizers / "tokenizer_2"),
        unet=unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    unet.half()
    vae.half()  # text encoders stay float32: transformers loads them in the type they are stored in
    pipeline.save_pretrained(out, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        for file in (tokenizers / name).iterdir():
            (out / name / file.name).write_bytes(file.read_bytes())
    for name in ("text_encoder", "text_encoder_2"):
        _name_as_published(out / name / "model.safetensors")
    save_basis(basis, out / "vae" / "patch_basis.safetensors")
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files for the owner only, which a wheel would keep


def _name_as_published(path: Path) -> None:
    """Give text weights the names of SDXL's own files ("text_model. ..."), which every version of transformers reads.

    Version 5 writes CLIPTextModel without that prefix, and version 4 then starts it from random numbers.
    """
    from safetensors.torch import load_file, save_file

    named = {}
    for name, weight in load_file(path).items():
        complete = name.startswith(("text_model.", "text_projection."))
        named[name if complete else f"text_model.{name}"] = weight
    save_file(named, path, metadata={"format": "pt"})
