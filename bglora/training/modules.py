"""Which modules of a base get a LoRA, and what files call them: sd-scripts' choice and names (networks/lora.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from bglora.errors import UserError

Model = Literal["unet", "te1", "te2"]
TRANSFORMERS = ("Transformer2DModel",)
CONVOLUTIONS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
TEXT = ("CLIPAttention", "CLIPSdpaAttention", "CLIPFlashAttention2", "CLIPMLP")
RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
"""Names of a resnet's parts in diffusers and in SDXL's original code."""


@dataclass(frozen=True)
class Layer:
    """A module that gets a LoRA, where it is and what files call it.

    Attributes:
        name: as in LoRA files, `lora_unet_input_blocks_4_1_proj_in`.
        model: the U-Net, or one of the text encoders.
        path: of the module in diffusers' or transformers' model.
        sgm: its path in SDXL's original code, `input_blocks.4.1.proj_in`; of a text encoder with `text_model.`.
        module: a Linear or a Conv2d.
    """

    name: str
    model: Model
    path: str
    sgm: str
    module: nn.Linear | nn.Conv2d

    @property
    def large_kernel(self) -> bool:
        """A convolution over more than one cell: gets conv_dim, not dim."""
        return isinstance(self.module, nn.Conv2d) and tuple(self.module.kernel_size) != (1, 1)


def unet_layers(unet: Any, convolutions: bool) -> Iterator[Layer]:
    """The transformers' linear layers (722 in SDXL), and the resnets' and samplers' layers (66) if asked for."""
    layers = unet.config.layers_per_block
    for path, module in _inside(unet, TRANSFORMERS + (CONVOLUTIONS if convolutions else ())):
        sgm = sgm_path(path, layers)
        yield Layer("lora_unet_" + sgm.replace(".", "_"), "unet", path, sgm, module)


def text_layers(encoder: nn.Module, model: Model) -> Iterator[Layer]:
    """A CLIP text encoder's attention and MLP layers; newer transformers lack one level of names, files don't."""
    for path, module in _inside(encoder, TEXT):
        whole = path if path.startswith("text_model.") else f"text_model.{path}"
        yield Layer(f"lora_{model}_" + whole.replace(".", "_"), model, path, whole, module)


def _inside(root: nn.Module, kinds: tuple[str, ...]) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Path and module of every layer in blocks of these kinds, also where peft has put a LoRA around it."""
    for path, block in root.named_modules():
        if type(block).__name__ in kinds:
            for inner, module in block.named_modules():
                if isinstance(module, nn.Linear | nn.Conv2d) and ".lora_" not in inner:
                    yield f"{path}.{inner.removesuffix('.base_layer')}", module


def sgm_path(path: str, layers_per_block: int) -> str:
    """A U-Net module's path in SDXL's original code (SGM), whose blocks are numbered through: with two layers per block
    `down_blocks.1.attentions.0.proj_in` is `input_blocks.4.1.proj_in`.

    Raises:
        UserError: the U-Net has different numbers of layers in its blocks, which LoRA files cannot name.
    """
    if not isinstance(layers_per_block, int):
        raise UserError(
            "The base's U-Net has a different number of layers in each block, which LoRA files cannot name.",
            where=path,
            cure="Take an SDXL-class base with one number in unet/config.json, layers_per_block.",
        )
    middle = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", path)
    if middle:
        kind, number, rest = middle.groups()
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(number)}.{RESNET[rest]}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", path)
    if found is None:
        raise ValueError(f"no adapted module of an SDXL-class U-Net: {path}")
    side, block, kind, number, rest = found.groups()
    first = int(block) * (layers_per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers_per_block + 1}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers_per_block}.2.conv"
    position = first + int(number) + (1 if side == "down" else 0)
    place = f"{'input' if side == 'down' else 'output'}_blocks.{position}"
    return f"{place}.1.{rest}" if kind == "attentions" else f"{place}.0.{RESNET[rest]}"


def branch_shapes(module: nn.Linear | nn.Conv2d, dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of down and up beside a module: (dim, in) and (out, dim), of a convolution with its kernel and 1 x 1."""
    if isinstance(module, nn.Conv2d):
        return (dim, module.in_channels, *module.kernel_size), (module.out_channels, dim, 1, 1)
    return (dim, module.in_features), (module.out_features, dim)
