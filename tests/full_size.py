"""Published networks at full size, built from their published settings; on `torch.device("meta")` they cost nothing."""

from __future__ import annotations

from typing import Any

SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD15_UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def unet(family: str) -> Any:
    """The UNet of Stable Diffusion 1.5 (`sd15`) or SDXL (`sdxl`) with random weights."""
    from diffusers import UNet2DConditionModel

    kinds: Any = UNet2DConditionModel
    return kinds(**{"sd15": SD15_UNET, "sdxl": SDXL_UNET}[family])


def vae() -> Any:
    """The VAE that both families share, with random weights."""
    from diffusers import AutoencoderKL

    kinds: Any = AutoencoderKL
    return kinds(**VAE)
