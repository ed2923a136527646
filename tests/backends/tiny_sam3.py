"""SAM 3 in the hub's layout, tiny and random: what it finds is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.backends.tiny_detect import clip_size, clip_tokenizer
from tests.backends.tiny_sam2 import SIDE, randomized, tracker

WIDTH = 128


def config(words: int) -> Any:
    """A SAM 3 of a few layers that looks at 128 x 128; `words`: tokens of its vocabulary."""
    from transformers import Sam3VideoConfig

    sizes = [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2]
    vision = {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": sizes,
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "pretrain_image_size": SIDE // 2,
            "patch_size": 16,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
    }
    part = {"hidden_size": WIDTH, "num_attention_heads": 2}
    layers = part | {"num_layers": 1, "intermediate_size": 16}
    text = {
        "model_type": "clip_text_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "vocab_size": words,
        "max_position_embeddings": 32,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
    }
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": layers,
        "detr_encoder_config": layers,
        "detr_decoder_config": layers | {"num_queries": 6},
        "mask_decoder_config": part,
    }
    following = tracker() | {"model_type": "sam3_tracker_video", "vision_config": vision}
    return Sam3VideoConfig(detector_config=detector, tracker_config=following)


def write_sam3(folder: Path) -> Path:
    """The whole model with its tokenizer."""
    from transformers import Sam3VideoModel

    clip_tokenizer(folder)
    torch.manual_seed(0)
    randomized(Sam3VideoModel(config(clip_size(folder)))).save_pretrained(folder)
    return folder
