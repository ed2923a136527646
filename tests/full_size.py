"""Published networks at full size, built from their published settings; on `torch.device("meta")` they cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


def unet(family: str, **other: Any) -> Any:
    """The UNet of Stable Diffusion 1.5 (`sd15`) or SDXL (`sdxl`) with random weights; `other` settings if given."""
    from diffusers import UNet2DConditionModel

    kinds: Any = UNet2DConditionModel
    return kinds(**{"sd15": SD15_UNET, "sdxl": SDXL_UNET}[family], **other)


def vae() -> Any:
    """The VAE that both families share, with random weights."""
    from diffusers import AutoencoderKL

    kinds: Any = AutoencoderKL
    return kinds(**VAE)


def text_encoders_of(family: str) -> list[Callable[[], Any]]:
    """What builds the text encoders of a family: CLIP's ViT-L, and OpenCLIP's bigG for SDXL."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    small = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    large = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )
    both = [partial(CLIPTextModel, small), partial(CLIPTextModelWithProjection, large)]
    return both[:1] if family == "sd15" else both


def clip(name: str) -> Any:
    """A model of OpenCLIP by name and weights, `ViT-L-14/laion2b_s32b_b82k`, in transformers' classes."""
    from transformers import CLIPConfig, CLIPModel

    from bglora.backends.embed import openclip_names
    from bglora.nets.openclip_checkpoint import clip_config

    return CLIPModel(CLIPConfig(**clip_config(openclip_names.named(name).config)))


def sam2(size: str = "large") -> Any:
    """SAM 2.1 for video."""
    from transformers import Sam2VideoModel

    from bglora.nets import sam2_checkpoint

    return Sam2VideoModel(sam2_checkpoint.config(size))


def grounding_dino() -> Any:
    """grounding-dino-base, on Swin-B."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    swin = {
        "model_type": "swin",
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 12,
        "image_size": 384,
        "out_indices": [2, 3, 4],
    }
    return GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin))


QWEN: dict[str, dict[str, Any]] = {
    "Qwen2-VL-2B": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "vocab_size": 151936},
    "Qwen2-VL-7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "vocab_size": 152064},
    "Qwen3-VL-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32, "vocab_size": 151936},
}


def qwen(name: str) -> Any:
    """Qwen2-VL 2B or 7B, Qwen3-VL 4B."""
    import transformers

    words = QWEN[name]
    if name.startswith("Qwen3"):
        text = words | {"num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128}
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
        seen = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2560}
        seen["deepstack_visual_indexes"] = [5, 11, 17]
        config = transformers.Qwen3VLConfig(text_config=text, vision_config=seen, tie_word_embeddings=True)
        return transformers.Qwen3VLForConditionalGeneration(config)
    small = name.endswith("2B")
    text = words | {"num_hidden_layers": 28, "num_key_value_heads": 2 if small else 4}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    seen = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": words["hidden_size"]}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=seen, tie_word_embeddings=small)
    return transformers.Qwen2VLForConditionalGeneration(config)
