"""Settings of `train`, `test` and `compose`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bglora.settings.table import Table


class TrainSettings(Table):
    backend: Literal["native", "kohya"] = Field("native", description="Who trains.")
    base: str = Field("mini", description="Base model: mini, a hub name, a diffusers folder or a .safetensors file.")
    resolution: int = Field(1024, ge=64, description="Pixels: training pictures have about resolution x resolution.")
    dim: int = Field(128, ge=1, description="Rank of the LoRA.")
    alpha: float = Field(96.0, gt=0, description="The LoRA is scaled by alpha / dim.")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's learning rate.")
    batch_size: int = Field(1, ge=1, description="Pictures per micro-batch.")
    accumulation: int = Field(2, ge=1, description="Micro-batches per optimizer step.")
    epochs: int = Field(12, ge=1, description="Epochs; `epochs_small` for scenes under 100 plates.")
    epochs_small: int = Field(20, ge=1, description="Epochs for scenes under 100 plates.")
    max_steps: int = Field(0, ge=0, description="Optimizer steps at most. 0: as many as the epochs take.")
    save_precision: Literal["bf16", "fp16", "fp32"] = Field("bf16", description="Number format of the LoRA file.")
    provenance_loss: bool = Field(True, description="Weigh the loss by provenance: guessed less, not trusted 0.")
    seed: int = Field(0, ge=0, description="Seed of noise, order and initial weights.")


class TestSettings(Table):
    prompts: tuple[str, ...] = Field((), description="Prompts of the grid; empty: made from the scene's captions.")
    scales: tuple[float, ...] = Field((0.0, 0.5, 0.7, 1.0), description="LoRA scales of the grid; 0 is the control.")
    seeds: int = Field(4, ge=1, description="Pictures per prompt and scale.")
    steps: int = Field(50, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=0, description="Classifier-free guidance.")
    negative_prompt: str = Field("person, people, character, animal, creature", description="What must not appear.")


class ComposeSettings(Table):
    mode: Literal["weighted", "switch", "regional"] = Field("weighted", description="How adapters act together.")
    character_scale: float = Field(1.0, ge=0, le=2, description="Scale of character LoRAs.")
    background_scale: float = Field(0.7, ge=0, le=2, description="Scale of the background LoRA.")
    characters: tuple[str, ...] = Field((), description="Character LoRA files.")
    prompt: str = Field("", description="Prompt; empty: trigger and caption of the scene.")
    pictures: int = Field(2, ge=1, description="Pictures per background.")
    steps: int = Field(50, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=0, description="Classifier-free guidance.")
