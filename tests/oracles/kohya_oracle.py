"""What sd-scripts computed for SDXL LoRAs: reading a variant's folder, and comparing with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from bglora.training.base import Base
from tests.oracles.manifests import Check, Variant

SUBJECT = "kohya"


@dataclass(frozen=True)
class Compared:
    """One value of ours beside theirs.

    Attributes:
        by: `abs`: largest difference; `relative`: to the expected value; `exact`: equal, of any type.
        tolerance: most that they may differ by; None: what the check says.
    """

    name: str
    got: Any
    expected: Any
    by: Literal["abs", "relative", "exact"] = "abs"
    tolerance: float | None = None

    def excess(self, told: float) -> tuple[float, str]:
        """Difference over what is tolerated (above 1 fails), and the same in words."""
        if self.by == "exact":
            same = self.got == self.expected
            return (0.0, "equal") if same else (float("inf"), f"{_short(self.got)}, expected {_short(self.expected)}")
        got, expected = (torch.as_tensor(value).double() for value in (self.got, self.expected))
        if got.shape != expected.shape:
            return float("inf"), f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        off = (got - expected).abs()
        if self.by == "relative":
            off = torch.where(off > 0, off / expected.abs().clamp(min=1e-300), 0.0)
        largest = float(off.max()) if off.numel() else 0.0
        if largest != largest:
            return float("inf"), "not a number"
        most = told if self.tolerance is None else self.tolerance
        over = largest / most if most else (0.0 if largest == 0 else float("inf"))
        return over, f"differs by {largest:.3g} at most; {over:.3g} of what is tolerated"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"


@dataclass(frozen=True)
class Part:
    """What computes a check.

    Attributes:
        files: without which it can't. any_of: of which it needs one at least.
        compare: the comparison.
        lacks: what else a recording lacks.
    """

    files: tuple[str, ...]
    compare: Callable[[Variant], Iterator[Compared]]
    any_of: tuple[str, ...] = ()
    lacks: Callable[[Variant], list[str]] = lambda variant: []

    def missing(self, variant: Variant) -> list[str]:
        absent = variant.absent(files=self.files)
        if self.any_of and len(variant.absent(files=self.any_of)) == len(self.any_of):
            absent += self.any_of
        return absent or self.lacks(variant)


def informative(check: Check) -> bool:
    """Printed only: it is about the original's behavior or another library's filters."""
    words = f"{check.told.get('unit', '')} {check.told.get('what', '')}"
    return check.informative or "for information" in words or "only informative" in words


def judge(check: Check, found: Iterator[Compared]) -> list[str]:
    """What is wrong, in words; prints everything."""
    bad, seen = [], 0
    for one in found:
        over, words = one.excess(float(check.told.get("tolerance", 0)))
        seen += 1
        print(f"{one.name}: {words}")
        if over > 1:
            bad.append(f"{one.name}: {words}")
    return bad if seen else ["nothing was compared"]


@cache
def tensors(folder: Path, name: str) -> Mapping[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


@cache
def facts(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


@cache
def unet(folder: Path) -> Any:
    """The tiny U-Net, frozen. Whoever attaches a LoRA to it takes it off again."""
    from diffusers import UNet2DConditionModel

    models: Any = UNet2DConditionModel
    model = models.from_pretrained(folder / "tiny_unet_diffusers")
    return model.eval().requires_grad_(False)


def sdxl_scheduler() -> Any:
    """SDXL's noise schedule."""
    from diffusers import DDPMScheduler

    schedulers: Any = DDPMScheduler
    return schedulers(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False
    )


def base(folder: Path) -> Base:
    """The tiny U-Net as a base model without text encoders and VAE."""
    pipeline = SimpleNamespace(unet=unet(folder), text_encoder=None, text_encoder_2=None)
    return Base("oracle", pipeline, "cpu", sdxl_scheduler())


@cache
def text_encoders(folder: Path) -> tuple[Any, Any]:
    """The two tiny text encoders of captions.safetensors, frozen."""
    import transformers

    weights, configs = tensors(folder, "captions"), facts(folder, "captions")["te_config"]
    found = []
    for key in ("te1", "te2"):
        config = dict(configs[key])
        model = getattr(transformers, config.pop("class"))(transformers.CLIPTextConfig(**config))
        own = model.state_dict()
        theirs = {name.removeprefix(f"{key}."): value for name, value in weights.items() if name.startswith(f"{key}.")}
        model.load_state_dict(
            {name if name in own else name.removeprefix("text_model."): value for name, value in theirs.items()}
        )
        found.append(model.eval().requires_grad_(False))
    return found[0], found[1]
