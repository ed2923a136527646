"""Training that goes on from an exported `mini`: its basis, its words and its weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bglora.assets.train_mini import pca_encoder
from bglora.errors import UserError

KEPT = {
    Path("tokenizer", "vocab.json"): Path("vocabulary", "vocab.json"),
    Path("tokenizer", "merges.txt"): Path("vocabulary", "merges.txt"),
    Path("vae", "patch_basis.safetensors"): Path("basis.safetensors"),
}
"""Files of an exported pipeline to which its weights belong, and their places in a work folder."""


def prepare(folders: Sequence[Path], work: Path) -> None:
    """Take up the encoder's basis and the vocabulary, to which the weights of all folders belong.

    Raises:
        UserError: a folder is no exported `mini`, or folders and work folder don't belong together.
    """
    for source, place in KEPT.items():
        first = folders[0] / source
        for folder in folders:
            if not (folder / source).is_file():
                raise UserError(
                    "this is no exported mini", where=str(folder / source), cure="--start FOLDER that --out once wrote"
                )
            if (folder / source).read_bytes() != first.read_bytes():
                raise UserError(
                    f"these weights have another vocabulary or encoder than those of {folders[0]}",
                    where=str(folder / source),
                    cure="--start with folders of which one was trained on from the other",
                )
        target = work / place
        if target.is_file() and target.read_bytes() != first.read_bytes():
            raise UserError(
                f"this work folder belongs to other weights than {folders[0]}",
                where=str(target),
                cure="--work with an empty folder",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first, target)


def load_decoder(vae: Any, folder: Path, basis: pca_encoder.PcaBasis) -> None:
    """The exported decoder's weights, as float32; the encoder stays the one that `basis` makes."""
    from diffusers import AutoencoderKL

    vae.load_state_dict(AutoencoderKL.from_pretrained(folder / "vae").float().state_dict())
    pca_encoder.write_into(vae, basis)


def load_painter(unet: Any, encoders: tuple[Any, Any], folders: Sequence[Path]) -> None:
    """The exported weights of the U-Net and both text encoders, as float32; of several folders their mean.

    Between weights of which one was trained on from the other, the mean is often better than both, for it has less of
    what each learned by heart (Wortsman et al. 2022, "Model soups").
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    for model, kind, name in (
        (unet, UNet2DConditionModel, "unet"),
        (encoders[0], CLIPTextModel, "text_encoder"),
        (encoders[1], CLIPTextModelWithProjection, "text_encoder_2"),
    ):
        kept: list[dict[str, Any]] = [kind.from_pretrained(folder / name).float().state_dict() for folder in folders]
        model.load_state_dict({key: _mean([weights[key] for weights in kept]) for key in kept[0]})


def _mean(values: list[Any]) -> Any:
    """Of tensors of one shape; whole numbers (positions of tokens) are the same in all."""
    return sum(values) / len(values) if values[0].is_floating_point() else values[0]
