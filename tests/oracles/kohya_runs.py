"""Whole recorded runs of sd-scripts, replayed by the trainer: losses, gradients, learning rates, weights."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bglora.training import network
from bglora.training.groups import parameter_groups
from bglora.training.job import Recipe
from bglora.training.kohya_recipe import bucketing_of, recipe_of
from bglora.training.learner import Learner
from bglora.training.loss import Batch
from bglora.training.noise_schedule import NoiseSchedule
from bglora.training.optimizers import PACKAGES
from bglora.training.pictures import area_weights
from bglora.training.plan import Plan
from tests.oracles.kohya_oracle import Compared, Part, base, facts, sdxl_scheduler, tensors, unet
from tests.oracles.manifests import Check, Variant

FACTOR = 0.13025
"""SDXL's vae/config.json, scaling_factor; caches hold latents without it."""
UNET = "tiny_unet_diffusers/config.json"


def part_of(variant: Variant, check: Check) -> Part | None:
    """`train_recipe.loss` is about the run in train_recipe.json and train_recipe.safetensors."""
    run, _, what = check.name.rpartition(".")
    if what not in CHECKS or not run.startswith("train_"):
        return None
    files = (f"{run}.json", f"{run}.safetensors") if what != "steps" else (f"{run}.json",)
    if what not in ("noisy", "steps"):
        files += (UNET,)
    if what == "final":
        files += tuple(file for file in final_files(check) if file not in files)
    return Part(files, partial(CHECKS[what], run=run, check=check), lacks=partial(unrecorded, run=run, what=what))


def unrecorded(variant: Variant, run: str, what: str) -> list[str]:
    """What a replay would need beyond a recording: draws that it doesn't hold, encoders, an optimizer's library."""
    if what == "steps":
        return []
    how, found = recipe(variant, run), []
    if how.noise.ip_noise_gamma and what == "noisy":
        found.append("the noise that went into the input alone")
    if what in ("noisy", "unet_output"):
        return found
    if how.text_encoders and any(name.startswith("lora_init.lora_te") for name in tensors(variant.folder, run)):
        found.append("the text encoders that the run trained")
    if how.dropout.any:
        found.append("the masks of its dropout")
    library = PACKAGES.get(how.optimizer)
    if library and importlib.util.find_spec(library) is None:
        found.append(f"{library} on this machine")
    return found


def final_files(check: Check) -> list[str]:
    told = [file.strip() for file in str(check.told.get("files", "")).split(",")]
    return [file for file in told if file.endswith(".safetensors") and "*" not in file]


@cache
def options(folder: Path, run: str) -> dict[str, Any]:
    """The run's configuration, flat as sd-scripts sees it."""
    flat: dict[str, Any] = {}
    for key, value in tomllib.loads(facts(folder, run)["toml"]).items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def recipe(variant: Variant, run: str) -> Recipe:
    return recipe_of(options(variant.folder, run))


def micro_batches(values: Mapping[str, Tensor]) -> list[str]:
    return sorted({name.partition(".")[0] for name in values if name.startswith("m") and name.endswith(".loss")})


def batch(values: Mapping[str, Tensor], name: str, schedule: NoiseSchedule, perturbed: bool = False) -> Batch:
    """A recorded micro-batch. Its input is made from its latents, its noise and its timesteps, or, where further noise
    went into the input alone, is the recorded one."""

    def value(key: str) -> Tensor:
        return values[f"{name}.{key}"]

    latents = value("latents_cached") * FACTOR
    times, states = value("timesteps"), torch.cat([value("text_encoder_1"), value("text_encoder_2")], dim=2)
    sizes = torch.cat([value(key) for key in ("original_sizes_hw", "crop_top_lefts", "target_sizes_hw")], dim=1)
    masks = [values[f"{name}.{key}"] for key in ("alpha_masks", "masks", "mask") if f"{name}.{key}" in values]
    weights = reduced(masks[0], latents) if masks else torch.ones_like(latents[:, :1])
    noisy = value("noisy") if perturbed else schedule.noisy(latents, value("noise"), times)
    return Batch(
        latents, value("noise"), noisy, weights, times, sizes, states, value("pooled_2"), value("loss_weights")
    )


def reduced(mask: Tensor, latents: Tensor) -> Tensor:
    """Masks (b, h, w) or (b, 1, h, w) at the resolution of the latents."""
    rows, columns = latents.shape[2:]
    cells = [area_weights(one.reshape(one.shape[-2:]).numpy(), rows, columns) for one in mask.float()]
    return torch.stack([torch.from_numpy(one)[None] for one in cells])


@dataclass
class Replay:
    """What our trainer did with a run's micro-batches.

    Attributes:
        losses: of every micro-batch.
        gradients: of every update before clipping. norms: over all of them.
        start, end: all matrices before the first and after the last update.
    """

    losses: list[float]
    gradients: list[dict[str, Tensor]]
    norms: list[float]
    start: dict[str, Tensor]
    end: dict[str, Tensor]


@cache
def replay(folder: Path, run: str) -> Replay:
    variant = Variant(folder)
    values, record, how = tensors(folder, run), facts(folder, run)["record"], recipe(variant, run)
    model = base(folder)
    unet_alone = replace(how.network, text_encoders=False)
    adapter = network.create(model.unet, (), unet_alone, how.learning_rates, seed=0)
    try:
        start = {name: torch.zeros_like(value) for name, value in adapter.parameters().items()}
        start |= {name.removeprefix("lora_init."): value for name, value in values.items() if initial(name)}
        adapter.load(start)
        learner, plan = Learner(model, adapter, how), plan_of(variant, run)
        names = iter(micro_batches(values))
        found = Replay([], [], [], start, {})
        seen, perturbed = 0, how.noise.ip_noise_gamma > 0
        for number, step in enumerate(record["steps"]):
            adapter.begin()
            for _ in range(step["micro_batches_seen"] - seen):
                one = batch(values, next(names), learner.schedule, perturbed)
                found.losses.append(float(learner.accumulate(one)))
            seen = step["micro_batches_seen"]
            adapter.finish()
            gradients = adapter.gradients()
            found.norms.append(float(torch.linalg.vector_norm(torch.stack([one.norm() for one in gradients.values()]))))
            found.gradients.append({name: gradient.clone() for name, gradient in gradients.items()})
            learner.update(plan.learning_rate(number))
        found.end = {name: value.clone() for name, value in adapter.parameters().items()}
        return found
    finally:
        adapter.detach()


def initial(name: str) -> bool:
    return name.startswith("lora_init.") and not name.endswith(".alpha")


def plan_of(variant: Variant, run: str) -> Plan:
    """The plan for a run's folders of pictures."""
    how = options(variant.folder, run)
    pictures, repeats = [], []
    for name, entries in facts(variant.folder, run)["folders"].items():
        pictures += [(height, width) for width, height, *_ in entries]
        repeats += [int(name.partition("_")[0])] * len(entries)
    buckets = [cut.bucket for cut in bucketing_of(how).cuts(pictures)]
    return Plan(buckets, repeats, bool(how.get("flip_aug")), recipe(variant, run))


def noisy(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    values = tensors(variant.folder, run)
    schedule = NoiseSchedule.of(sdxl_scheduler(), recipe(variant, run).noise)
    for name in micro_batches(values):
        yield Compared(name, batch(values, name, schedule).noisy, values[f"{name}.noisy"])


@torch.no_grad()
def unet_outputs(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    values, model = tensors(variant.folder, run), unet(variant.folder)
    schedule = NoiseSchedule.of(sdxl_scheduler(), recipe(variant, run).noise)
    for name in micro_batches(values):
        one = batch(values, name, schedule)
        if f"{name}.unet_output" in values:
            added = {"text_embeds": one.pooled, "time_ids": one.time_ids}
            output = model(one.noisy, one.timesteps, one.states, added_cond_kwargs=added).sample
            yield Compared(name, output, values[f"{name}.unet_output"])


def losses(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    values = tensors(variant.folder, run)
    for name, loss in zip(micro_batches(values), replay(variant.folder, run).losses, strict=True):
        yield Compared(name, torch.tensor([loss]), values[f"{name}.loss"])


def gradients(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    found = replay(variant.folder, run).gradients
    for key, value in tensors(variant.folder, run).items():
        if ".grad." in key:
            step, _, name = key.partition(".grad.")
            yield Compared(key, found[int(step.removeprefix("s"))][name], value)


def gradient_norms(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    steps = facts(variant.folder, run)["record"]["steps"]
    for step, norm in zip(steps, replay(variant.folder, run).norms, strict=True):
        yield Compared(f"update {step['step']}", norm, step["grad_norm_before_clip"])


def final(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    """The difference's norm, as a share of how far the weights have come."""
    found = replay(variant.folder, run)
    expected: dict[str, Tensor] = {}
    for file in final_files(check) or [f"{run}.safetensors"]:
        for name, value in load_file(variant.folder / file).items():
            if file != f"{run}.safetensors" or name.startswith("lora_final."):
                expected[name.removeprefix("lora_final.")] = value
    names = [name for name in expected if name in found.end]
    matrices = [name for name in expected if name.endswith(".weight")]
    yield Compared("matrices", sorted(names), sorted(matrices), "exact")
    off = torch.cat([(found.end[name] - expected[name]).flatten() for name in names]).norm()
    come = torch.cat([(expected[name] - found.start[name]).flatten() for name in names]).norm()
    yield Compared("difference over distance", off / come, 0.0)


def steps(variant: Variant, run: str, check: Check) -> Iterator[Compared]:
    record, plan, how = facts(variant.folder, run)["record"], plan_of(variant, run), recipe(variant, run)
    yield Compared("updates", plan.steps, len(record["steps"]), "exact")
    yield Compared("updates told", plan.steps, record.get("max_train_steps", plan.steps), "exact")
    seen, shares = 0, group_shares(variant, run, how)
    for number, step in enumerate(record["steps"]):
        seen += len(plan.batches(number))
        yield Compared(f"micro-batches after update {number + 1}", seen, step["micro_batches_seen"], "exact")
        rates = [plan.learning_rate(number) * share for share in shares]
        for ours, theirs in zip(rates, step["lr"], strict=False):
            yield Compared(f"rate of update {number + 1}", ours, theirs)


def group_shares(variant: Variant, run: str, how: Recipe) -> list[float]:
    """Each parameter group's learning rate as a share of the recipe's; one, where the matrices aren't recorded."""
    if variant.absent(files=(f"{run}.safetensors",)):
        return [1.0]
    downs = [name.removeprefix("lora_init.") for name in tensors(variant.folder, run) if initial(name)]
    both = [name for down in downs for name in (down, down.replace("lora_down", "lora_up"))]
    return [group.rate / how.learning_rate for group in parameter_groups(both, how.learning_rates)] or [1.0]


CHECKS: dict[str, Callable[..., Iterator[Compared]]] = {
    "noisy": noisy,
    "unet_output": unet_outputs,
    "loss": losses,
    "grad": gradients,
    "grad_norm": gradient_norms,
    "final": final,
    "steps": steps,
}
