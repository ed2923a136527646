"""A random SDXL-class base of half a million parameters: SDXL's classes and file layout, nothing learned."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


@cache
def tiny_base() -> Path:
    """The base's folder, written once per test process."""
    home = Path(tempfile.mkdtemp(prefix="bglora-tiny-base-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return write_tiny_base(home / "tiny")


def write_tiny_base(folder: Path, *, prediction_type: str = "v_prediction", seed: int = 0, second: int = 16) -> Path:
    """Writes the base as a diffusers folder; the same seed gives the same weights. `second`: width of the second text
    encoder; a single file tells the two apart by it.
    """
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=16 + second,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.9,
        mid_block_add_attention=False,
    )
    words = CLIPTextConfig(
        vocab_size=_write_tokenizers(folder),
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    more_words = CLIPTextConfig(**{**words.to_dict(), "hidden_size": second})
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(words),
        text_encoder_2=CLIPTextModelWithProjection(more_words),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def _write_tokenizers(folder: Path) -> int:
    """CLIP's tokenizer that knows single letters only."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(letter + "</w>" for letter in letters), BEGIN, END]
    for name, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        vocabulary = {word: number for number, word in enumerate(names)}
        (target / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
        (target / "merges.txt").write_text("#version: 0.2\n", "utf-8")
        marks = {"bos_token": BEGIN, "eos_token": END, "pad_token": pad, "unk_token": END}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **marks}
        (target / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return len(names)
