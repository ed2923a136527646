"""DoRA (Liu et al. 2024) by peft: a weight becomes magnitude x direction, and the LoRA changes the direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bglora.errors import UserError
from bglora.training.adapter import Adapter, Group, Target, draw_down, replace_module
from bglora.training.job import Recipe

NAME = "dora"


def refuse(recipe: Recipe) -> None:
    """Refuses what goes not with DoRA.

    Raises:
        UserError: dropout or a bound of the norms is on, or the base is quantized.
    """
    if recipe.base_quantization != "none":
        raise UserError(
            "DoRA needs the base's weights as they are, not in fewer bits.",
            where=f"train.dora = true, train.base_quantization = {recipe.base_quantization}",
            cure="bglora set train.base_quantization none; or bglora set train.dora false",
        )
    if recipe.dropout.any or recipe.scale_weight_norms:
        raise UserError(
            "DoRA goes with none of the dropouts and no bound of the weights' norms.",
            where="train.dora",
            cure="bglora set train.dora false; or set the dropouts and train.scale_weight_norms to 0.",
        )


class DoraAdapter(Adapter):
    """An adapter whose layers are peft's; see `Adapter` for what its methods do."""

    def __init__(self, targets: Sequence[Target], seed: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.targets = list(targets)
        self._roots = list({id(target.root): target.root for target in self.targets}.values())
        for root in self._roots:
            own = [target for target in self.targets if target.root is root]
            config = LoraConfig(
                r=own[0].dim,
                lora_alpha=own[0].alpha,  # type: ignore[arg-type]
                use_dora=True,
                target_modules=[target.path for target in own],
                rank_pattern={target.path: target.dim for target in own},
                alpha_pattern={target.path: target.alpha for target in own},
            )
            inject_adapter_in_model(config, root, NAME)  # type: ignore[arg-type]
        self._modules: dict[str, Any] = {target.name: target.layer for target in self.targets}
        for target in self.targets:
            down = self._modules[target.name].lora_A[NAME].weight
            down.data.copy_(draw_down(target.name, down.shape, seed))

    def detach(self) -> None:
        for target in self.targets:
            replace_module(target.root, target.path, self._modules[target.name].base_layer)
        for root in self._roots:
            del root.peft_config

    def _matrices(self) -> dict[str, nn.Parameter]:
        found: dict[str, nn.Parameter] = {}
        for name, module in self._modules.items():
            found[f"{name}.lora_down.weight"] = module.lora_A[NAME].weight
            found[f"{name}.lora_up.weight"] = module.lora_B[NAME].weight
            found[f"{name}.dora_scale"] = module.lora_magnitude_vector[NAME].weight
        return found

    def parameters(self) -> dict[str, Tensor]:
        """Also `<name>.dora_scale` (out, 1) or (out, 1, 1, 1): the norms of the weight's rows, as they are learned."""
        return {name: _shaped(name, matrix.data) for name, matrix in self._matrices().items()}

    def gradients(self) -> dict[str, Tensor]:
        return {name: _shaped(name, _gradient(matrix)) for name, matrix in self._matrices().items()}

    @property
    def grads(self) -> list[Tensor]:
        return [_gradient(matrix) for matrix in self._matrices().values()]

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, matrix in self._matrices().items():
            matrix.data.copy_(tensors[name].view(matrix.shape))

    def groups(self, ratio: float = 1.0) -> list[Group]:
        labels = {target.name: target.group for target in self.targets}
        return [
            Group(labels[name.partition(".")[0]], matrix, ratio if "lora_up" in name else 1.0)
            for name, matrix in self._matrices().items()
        ]

    def begin(self) -> None:
        for matrix in self._matrices().values():
            matrix.grad = None

    def finish(self) -> None:
        for matrix in self._matrices().values():
            matrix.grad = _gradient(matrix)

    def refresh(self) -> None:
        """The layers read the weights themselves."""


def _gradient(matrix: nn.Parameter) -> Tensor:
    return torch.zeros_like(matrix) if matrix.grad is None else matrix.grad


def _shaped(name: str, value: Tensor) -> Tensor:
    if not name.endswith("dora_scale"):
        return value
    return value.view(-1, 1) if value.ndim == 1 else value.view(-1, *[1] * (value.ndim - 1))
