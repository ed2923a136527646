"""sd-scripts' noise, losses, weights of timesteps and learning rates against the trainer's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bglora.errors import UserError
from bglora.training import huber, noise, rates
from bglora.training.loss import Batch, per_picture
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.options import LossOptions, NoiseOptions, RateOptions
from bglora.training.pictures import area_weights
from bglora.training.weighting import weigh
from tests.oracles.kohya_oracle import Compared, Part, facts, sdxl_scheduler, tensors
from tests.oracles.manifests import Variant

PLAIN = NoiseOptions()
ZERO = NoiseOptions(zero_terminal_snr=True, prediction="v_prediction")
VELOCITY = "v_parameterization"


def schedule_of(options: NoiseOptions = PLAIN) -> NoiseSchedule:
    return NoiseSchedule.of(sdxl_scheduler(), options)


def told(case: dict[str, Any], *others: str) -> dict[str, Any]:
    """A case's options alone."""
    return {key: value for key, value in case.items() if key not in ("name", "mask", VELOCITY, *others)}


def for_prediction(case: dict[str, Any]) -> NoiseSchedule:
    return schedule_of(NoiseOptions(prediction="v_prediction" if case.get(VELOCITY) else "epsilon"))


def schedule(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "losses")
    for name, ours in (("schedule", schedule_of()), ("schedule_ztsnr", schedule_of(ZERO))):
        if f"{name}.alphas_cumprod" in values:
            yield Compared(f"{name} alphas", ours.alphas, values[f"{name}.alphas_cumprod"])
            yield Compared(f"{name} snr", ours.snr, values[f"{name}.all_snr"], "relative")
    latents, plain, times = values["latents"], values["noise"], values["timesteps"]
    for suffix, ours in (("", schedule_of(NoiseOptions(prediction="v_prediction"))), ("_ztsnr", schedule_of(ZERO))):
        if f"noisy{suffix}" in values:
            yield Compared(f"noisy{suffix}", ours.noisy(latents, plain, times), values[f"noisy{suffix}"])
            yield Compared(f"velocity{suffix}", ours.target(latents, plain, times), values[f"velocity{suffix}"])


def loss_types(variant: Variant) -> Iterator[Compared]:
    values, ours = tensors(variant.folder, "losses"), schedule_of()
    times = values["timesteps"]
    for case in facts(variant.folder, "losses")["huber"]:
        name, options = case["name"], LossOptions(**told(case))
        each = huber.elementwise(values["pred"], values["noise"], times, options, ours)
        yield Compared(name, each.mean(dim=(1, 2, 3)), values[f"{name}.per_sample"], "relative")
        yield Compared(f"{name} elements", each[0], values[f"{name}.elementwise_sample0"], "relative")
        if f"{name}.threshold" in values:
            yield Compared(
                f"{name} threshold", huber.threshold(times, options, ours), values[f"{name}.threshold"], "relative"
            )


def weighting(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "losses")
    times = values["weighting.timesteps_long"]
    for case in facts(variant.folder, "losses")["weighting"]:
        name, options, ours = case["name"], LossOptions(**told(case)), for_prediction(case)
        out = weigh(values["weighting.in"], values["timesteps"], options, ours)
        yield Compared(name, out, values[f"weighting.out.{name}"], "relative")
        factor = weigh(torch.ones(len(times)), times, options, ours)
        yield Compared(f"{name} factors", factor, values[f"weighting.factor.{name}"], "relative")
    for name in (name for name in values if name.endswith("_with_ztsnr_scheduler")):
        gamma = float(name.removeprefix("weighting.factor.min_snr_").removesuffix("_with_ztsnr_scheduler"))
        factor = weigh(torch.ones(len(times)), times, LossOptions(min_snr_gamma=gamma), schedule_of(ZERO))
        yield Compared(name, factor, values[name], "relative")


def masks_and_chain(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "losses")
    rows, columns = values["pred"].shape[2:]
    for key, most, out in (("alpha", 1.0, "out_alpha"), ("conditioning_red_0_255", 255.0, "out_conditioning")):
        if f"mask.{key}" not in values:
            continue
        pixels = (values[f"mask.{key}"].float() / most).numpy()
        weights = torch.stack([torch.from_numpy(area_weights(one, rows, columns))[None] for one in pixels])
        if key == "alpha" and "mask.resized" in values:
            yield Compared("mask resized", weights, values["mask.resized"], tolerance=1e-3 if most > 1 else None)
        got = per_picture(values["pred"], batch(values, weights), schedule_of(), LossOptions())
        yield Compared(f"masked by {key}", got, values[f"mask.{out}.per_sample"], "relative")
    for case in facts(variant.folder, "losses")["chain"]:
        weights = values["mask.resized"] if case["mask"] else torch.ones(len(values["pred"]), 1, rows, columns)
        whole = batch(values, weights, values["chain.loss_weights"])
        got = per_picture(values["pred"], whole, for_prediction(case), LossOptions(**told(case))).mean()
        yield Compared(f"chain {case['name']}", got.view(1), values[f"chain.{case['name']}"], "relative")


def batch(values: Any, weights: Tensor, shares: Tensor | None = None) -> Batch:
    """What the loss reads of a micro-batch; the U-Net's inputs are absent."""
    none: Any = None
    return Batch(values["latents"], values["noise"], none, weights, values["timesteps"], none, none, none, shares)


def noises(variant: Variant) -> Iterator[Compared]:
    values, ours = tensors(variant.folder, "losses"), schedule_of()
    for case in facts(variant.folder, "losses")["noise"]:
        name, options = f"noise.{case['name']}", NoiseOptions(**told(case))
        drawn = draws(values, name)
        got = noise.compose(drawn, values["latents"], options)
        noisy = ours.noisy(values["latents"], noise.perturbed(drawn, got, options), drawn.timesteps)
        yield Compared(name, got, values[f"{name}.noise"])
        yield Compared(f"{name} noisy", noisy, values[f"{name}.noisy"])
        for number, factor in enumerate(values.get(f"{name}.draw.r", ())):
            if number < len(drawn.octaves):
                size = noise.octave_size(tuple(got.shape[2:]), number, (float(factor) - 2) / 2)
                yield Compared(f"{name} octave {number}", size, tuple(drawn.octaves[number].shape[2:]), "exact")
    for case in facts(variant.folder, "losses").get("timesteps", ()):
        options = NoiseOptions(min_timestep=case["min_timestep"] or 0, max_timestep=case["max_timestep"] or 0)
        times = noise.draw_timesteps(20_000, options, ours.steps, torch.Generator().manual_seed(0))
        inside = int(times.min()) <= case["min_seen"] and case["max_seen"] <= int(times.max())
        alike = abs(float(times.double().mean()) - case["mean"]) < 0.1 * ours.steps
        yield Compared(f"timesteps {told(case)}", (inside, alike), (True, True), "exact")


def draws(values: Any, name: str) -> noise.Draws:
    """The recorded draws of a case."""

    def drawn(key: str) -> Any:
        return values.get(f"{name}.draw.{key}")

    octaves = sorted(key for key in values if key.startswith(f"{name}.draw.octave"))
    strength = 1.0 if drawn("strength_uniform") is None else float(drawn("strength_uniform"))
    return noise.Draws(
        drawn("gauss"),
        values[f"{name}.timesteps"],
        drawn("offset_gauss"),
        strength,
        tuple(values[key] for key in octaves),
        drawn("ip_gauss"),
        strength,
    )


def learning_rates(variant: Variant) -> Iterator[Compared]:
    for case in facts(variant.folder, "losses")["lr"]:
        options = RateOptions(
            **{
                key: value
                for key, value in case.items()
                if key.startswith("lr_") and key in RateOptions.__dataclass_fields__
            }
        )
        steps, base = case["max_train_steps"] * case.get("processes", 1), case.get("base_lr", 1e-4)
        try:
            got = [base * rates.factor(step, steps, base, options) for step in range(steps)]
        except UserError:
            yield Compared(f"{case['name']} refused", True, "exception" in case, "exact")
            continue
        yield Compared(f"{case['name']} taken", True, "exception" not in case, "exact")
        if "lr_per_scheduler_step" in case:
            expected = torch.tensor(case["lr_per_scheduler_step"], dtype=torch.float64)
            yield Compared(case["name"], torch.tensor(got, dtype=torch.float64)[: len(expected)], expected)


LOSSES = ("losses.safetensors", "losses.json")
PARTS = {
    "schedule": Part(LOSSES[:1], schedule),
    "loss types": Part(LOSSES, loss_types),
    "weighting": Part(LOSSES, weighting),
    "mask, chain": Part(LOSSES, masks_and_chain),
    "noise": Part(LOSSES, noises),
    "lr": Part(LOSSES[1:], learning_rates),
}
