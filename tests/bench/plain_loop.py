"""The other side of the training benchmarks: a loop on diffusers, peft and accelerate, as diffusers' own SDXL LoRA
example (examples/text_to_image/train_text_to_image_lora_sdxl.py) writes it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bglora.training.job import Recipe
from bglora.training.loss import Batch
from bglora.training.modules import unet_layers


class PlainLoop:
    """LoRA on every linear layer of the U-Net's transformers. Gradients clipped, AdamW, constant rate."""

    def __init__(self, unet: Any, noise: Any, recipe: Recipe, start: dict[str, Tensor]) -> None:
        """`start`: path of a layer to its first down weights, the same as the other side's."""
        from accelerate import Accelerator
        from diffusers.optimization import get_scheduler
        from peft import LoraConfig

        on_card = next(unet.parameters()).is_cuda
        self.accelerator = Accelerator(
            gradient_accumulation_steps=1, cpu=not on_card, mixed_precision="bf16" if on_card else "no"
        )
        self.noise, self.recipe = noise, recipe
        paths = [layer.path for layer in unet_layers(unet, convolutions=False)]
        unet.add_adapter(LoraConfig(r=recipe.dim, lora_alpha=recipe.alpha, target_modules=paths))
        with torch.no_grad():
            for path in paths:
                unet.get_submodule(path).lora_A["default"].weight.copy_(start[path])
        unet.train()
        self.parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, betas=(0.9, 0.999), weight_decay=recipe.weight_decay, eps=1e-8
        )
        scheduler = get_scheduler("constant", optimizer=optimizer)
        self.unet, self.optimizer, self.scheduler = self.accelerator.prepare(unet, optimizer, scheduler)

    def step(self, batch: Batch) -> float:
        """One step, as the example's loop body from the noise on."""
        with self.accelerator.accumulate(self.unet):
            noisy = self.noise.add_noise(batch.latents, batch.noise, batch.timesteps)
            added = {"time_ids": batch.time_ids, "text_embeds": batch.pooled}
            predicted = self.unet(noisy, batch.timesteps, batch.states, added_cond_kwargs=added, return_dict=False)[0]
            loss = functional.mse_loss(predicted.float(), batch.noise.float(), reduction="mean")
            mean = self.accelerator.gather(loss.repeat(len(batch.latents))).mean()
            trained: float = mean.item()
            self.accelerator.backward(loss)
            self.update()
        loss.detach().item()  # the example shows it beside its bar
        return trained

    def update(self) -> None:
        with torch.profiler.record_function("optimizer"):
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()

    def weights(self, path: str) -> tuple[Tensor, Tensor]:
        """Down and up of a layer."""
        layer = self.accelerator.unwrap_model(self.unet).get_submodule(path)
        return layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()


class Floor:
    """The least that any LoRA costs: a forward pass of the frozen U-Net and the backward pass of its activations, from
    the loss to the first adapted layer."""

    def __init__(self, unet: Any, noise: Any) -> None:
        self.unet, self.noise = unet, noise
        self._rows: dict[str, int] = {}
        for number, layer in enumerate(unet_layers(unet, convolutions=False)):
            layer.module.register_forward_hook(partial(self._note, layer.path))
            if number == 0:
                layer.module.register_forward_hook(lambda _, __, output: output.detach().requires_grad_(True))

    def _note(self, path: str, _: Any, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        self._rows[path] = inputs[0][..., 0].numel()

    def rows(self) -> dict[str, int]:
        """Path of each adapted layer to the vectors that it was given in the last step."""
        return dict(self._rows)

    def step(self, batch: Batch) -> None:
        noisy = self.noise.add_noise(batch.latents, batch.noise, batch.timesteps)
        added = {"time_ids": batch.time_ids, "text_embeds": batch.pooled}
        predicted = self.unet(noisy, batch.timesteps, batch.states, added_cond_kwargs=added, return_dict=False)[0]
        torch.autograd.backward(functional.mse_loss(predicted, batch.noise))
