"""Tiny random checkpoints of every model of the studio, in their published formats, and the settings that name them."""

from __future__ import annotations

from pathlib import Path

from tests.backends import tiny_detect, tiny_diffusion, tiny_lama, tiny_openclip, tiny_qwen, tiny_sam2


def settings(folder: Path) -> list[str]:
    """Writes the checkpoints into a folder and gives `KEY=VALUE` for `init --set`; with numbers that fit such nets."""
    paths = {
        "segment.sam2": tiny_sam2.write_sam2(folder / "sam2", shift=-0.075),
        "segment.grounding": tiny_detect.write_grounding_dino(folder / "grounding", level=-7.0),
        "inpaint.lama": tiny_lama.checkpoint(folder / "big-lama.safetensors"),
        "inpaint.brushnet": tiny_diffusion.tiny_brushnet("sd15"),
        "inpaint.brushnet_base": tiny_diffusion.tiny_sd15(),
        "cluster.openclip": tiny_openclip.write(folder / "openclip"),
        "caption.qwen_vl": tiny_qwen.write(folder / "qwen", says=tiny_qwen.GOOD),
        "train.base": tiny_diffusion.tiny_sdxl(),
    }
    lenient = {
        **dict.fromkeys(("inpaint.psnr_db", "inpaint.ssim", "inpaint.recovered_psnr_db"), 0),
        **{"inpaint.hole_gain_db": -99, "inpaint.hole_gain_ssim": -2, "inpaint.simple_below": 0.01},
    }
    small = {
        "inpaint.audit": "false",
        "inpaint.steps": 2,
        "train.resolution": 64,
        "train.dim": 4,
        "train.alpha": 3,
        "train.max_steps": 2,
        "train.samples": 1,
        "train.sample_steps": 2,
        "train.threads": 1,
        "test.steps": 2,
        "test.seeds": 1,
        "cluster.min_cluster_size": 3,
        "compose.steps": 2,
        "compose.pictures": 1,
        "compose.mode": "regional",
        "compose.region": '["0.25 0.1 0.75 1"]',
        "compose.sweep": "[0.5, 0.9]",
    }
    return [f"{key}={value}" for key, value in (paths | lenient | small).items()]
