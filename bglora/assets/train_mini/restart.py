"""Training that goes on from an exported `mini`: its basis, its words and its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bglora.assets.train_mini import pca_encoder
from bglora.errors import UserError


def prepare(folder: Path, work: Path) -> None:
    """Take up the encoder's basis and the vocabulary, to which the weights belong.

    Raises:
        UserError: the folder is no exported `mini`.
    """
    files = {
        folder / "tokenizer" / "vocab.json": work / "vocabulary" / "vocab.json",
        folder / "tokenizer" / "merges.txt": work / "vocabulary" / "merges.txt",
        folder / "vae" / "patch_basis.safetensors": work / "basis.safetensors",
    }
    for source, target in files.items():
        if not source.is_file():
            raise UserError("this is no exported mini", where=str(source), cure="--start FOLDER that --out once wrote")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def load_decoder(vae: Any, folder: Path, basis: pca_encoder.PcaBasis) -> None:
    """The exported decoder's weights, as float32; the encoder stays the one that `basis` makes."""
    from diffusers import AutoencoderKL

    vae.load_state_dict(AutoencoderKL.from_pretrained(folder / "vae").float().state_dict())
    pca_encoder.write_into(vae, basis)


def load_painter(unet: Any, encoders: tuple[Any, Any], folder: Path) -> None:
    """The exported weights of the U-Net and both text encoders, as float32."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    unet.load_state_dict(UNet2DConditionModel.from_pretrained(folder / "unet").float().state_dict())
    encoders[0].load_state_dict(CLIPTextModel.from_pretrained(folder / "text_encoder").state_dict())
    encoders[1].load_state_dict(CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").state_dict())
