"""What fewer bits save, told without torch."""

SHARE = {"none": 1.0, "8bit": 0.65, "4bit": 0.45}
"""Memory of Qwen-VL's weights against the files', by `quantize`: vision tower, embedding and head stay as they are."""
