"""Facts of published models that are asked for where torch is not loaded."""

CONFIGS = {"Stable Diffusion 1.5": "sd15-config", "SDXL": "sdxl-config"}
"""Weights with the configs and tokenizers that a base in a single file does not carry, by its family."""
SHARE = {"none": 1.0, "8bit": 0.65, "4bit": 0.45}
"""Memory of Qwen-VL's weights against the files', by `quantize`: vision tower, embedding and head stay as they are."""
