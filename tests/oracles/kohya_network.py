"""sd-scripts' LoRA network against ours: names, outputs, dropout, norms, text encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bglora.training import network
from bglora.training.adapter import Adapter, Target
from bglora.training.dropout import factors
from bglora.training.groups import LearningRates, parameter_groups
from bglora.training.modules import Layer, branch_shapes, unet_layers
from bglora.training.network_file import extent_of
from bglora.training.options import DropoutOptions, NetworkOptions
from bglora.training.resize import change
from bglora.training.weight_norms import scale_weight_norms
from tests.full_size import SDXL_UNET
from tests.oracles.kohya_oracle import Compared, Part, facts, tensors, unet
from tests.oracles.manifests import Variant

SAME_RATE = LearningRates(1e-4, 1e-4)


def inputs(values: Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Arguments of the U-Net; the six sizes are height before width: original, crop, target."""
    sizes = torch.cat([values[f"in.{name}"] for name in ("original_hw", "crop_top_left", "target_hw")], dim=1)
    return (values["in.sample"], values["in.timesteps"], values["in.context"]), {
        "text_embeds": values["in.pooled"],
        "time_ids": sizes,
    }


@torch.no_grad()
def output(variant: Variant, values: Mapping[str, Tensor]) -> Tensor:
    arguments, added = inputs(values)
    result: Tensor = unet(variant.folder)(*arguments, added_cond_kwargs=added).sample
    return result


def lora_of(values: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def kinds(values: Mapping[str, Tensor]) -> list[str]:
    return sorted({key.split(".")[1] for key in values if key.startswith("lora.")})


def multiplied(weights: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {name: value * factor if name.endswith("lora_up.weight") else value for name, value in weights.items()}


def forward(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "lora_forward")
    yield Compared("base", output(variant, values), values["out.base"])
    for kind in kinds(values):
        weights = lora_of(values, f"lora.{kind}.")
        adapter = network.create(unet(variant.folder), (), extent_of(weights), SAME_RATE, seed=0)
        try:
            told = {key.removesuffix(".alpha"): float(value) for key, value in weights.items() if key.endswith("alpha")}
            yield Compared(f"{kind} alphas", network.alphas(adapter), told, "exact")
            yield Compared(f"{kind} with zero ups", output(variant, values), values["out.base"])
            for key in (key for key in values if key.startswith((f"out.{kind}.mult_", f"out.{kind}.merged_"))):
                adapter.load(multiplied(weights, float(key.rpartition("_")[2])))
                yield Compared(key, output(variant, values), values[key])
        finally:
            adapter.detach()
    yield Compared("taken off again", output(variant, values), values["out.base"])


def merged_weights(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "lora_forward")
    modules = {layer.sgm: layer for layer in unet_layers(unet(variant.folder), convolutions=True)}
    for key in (key for key in values if key.startswith("merged_weight.")):
        _, kind, path = key.removesuffix(".weight").split(".", 2)
        multiplier = next(float(one.rpartition("_")[2]) for one in values if one.startswith(f"out.{kind}.merged_"))
        layer = modules[path]
        parts = (f"lora.{kind}.{layer.name}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha"))
        down, up, alpha = (values[part] for part in parts)
        got = layer.module.weight.detach() + change(down, up, float(alpha) / len(down) * multiplier)
        yield Compared(key, got, values[key])


def size_embedding(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "lora_forward")
    sizes = inputs(values)[1]["time_ids"]
    got = unet(variant.folder).add_time_proj(sizes.flatten()).reshape(len(sizes), -1)
    yield Compared("size embedding", got, values["size_embedding"])


def dropout(variant: Variant) -> Iterator[Compared]:
    values, cases = tensors(variant.folder, "lora_forward"), facts(variant.folder, "lora_forward")["dropout"]
    for key, case in cases.items():
        if key == "conv":
            yield from convolution(values, case)
        elif ".seed" in key:
            yield from dropped(values, key, case)


def dropped(values: Mapping[str, Tensor], key: str, case: dict[str, Any]) -> Iterator[Compared]:
    kind, shape, seed = key.split(".")
    name, x = f"drop.{kind}.{shape}", values[f"drop.{shape}"]
    rates = DropoutOptions(case.get("dropout", 0.0), case.get("rank_dropout", 0.0), case.get("module_dropout", 0.0))
    linear = nn.Linear(*reversed(values[f"{name}.org_weight"].shape))
    neurons, kept = (values.get(f"{name}.{mask}_{seed}") for mask in ("neuron_mask", "rank_keep"))

    def recorded(ranks: Tensor) -> Tensor:
        return torch.zeros_like(ranks) if case.get("skipped") else factors(neurons, kept, ranks, rates)

    layer = alone(linear, values, name, case["dim"], case["alpha"])
    layer.factor = recorded
    with torch.no_grad():
        yield Compared(f"{key} evaluated", layer(x), values[f"{name}.out_eval"])
    yield Compared(key, layer(x).detach(), values[f"{name}.out_{seed}"])
    if "module_draw" in case:
        below = case["module_draw"] < case["module_dropout"]
        yield Compared(f"{key} skipped", below, case["skipped"], "exact")


def convolution(values: Mapping[str, Tensor], case: dict[str, Any]) -> Iterator[Compared]:
    weight, kept = values["conv.org_weight"], values["conv.rank_keep"]
    rates = DropoutOptions(rank_dropout=case["rank_dropout"])
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], case["stride"], case["padding"])
    layer = alone(conv, values, "conv", case["dim"], case["alpha"] * case["multiplier"])
    layer.factor = lambda ranks: factors(None, kept, ranks, rates)
    with torch.no_grad():
        yield Compared("conv evaluated", layer(values["conv.in"]), values["conv.out_eval"])
    yield Compared("conv", layer(values["conv.in"]).detach(), values["conv.out_train"])


def alone(wrapped: nn.Linear | nn.Conv2d, values: Mapping[str, Tensor], name: str, dim: int, alpha: float) -> Any:
    """A recorded layer with its LoRA."""
    wrapped.load_state_dict({part: values[f"{name}.org_{part}"] for part in ("weight", "bias")})
    root = nn.Sequential(wrapped.requires_grad_(False))
    adapter = Adapter(root, dim, alpha, 0, [Target("layer", root, "0", dim, alpha)])
    adapter.load({f"layer.lora_{part}.weight": values[f"{name}.{part}"] for part in ("down", "up")})
    return adapter.layers["layer"]


def max_norm(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "lora_forward")
    case = facts(variant.folder, "lora_forward")["dropout"]["scale_weight_norms"]
    weights = {name: value.clone() for name, value in lora_of(values, "maxnorm.before.").items()}
    alphas = dict.fromkeys(sorted({name.partition(".")[0] for name in weights}), float(case["alpha"]))
    norms = scale_weight_norms(weights, alphas, case["value"])
    for name, value in weights.items():
        yield Compared(name, value, values[f"maxnorm.after.{name}"])
    yield Compared("layers scaled", int(norms.scaled), case["keys_scaled"], "exact")
    yield Compared("largest norm", norms.largest, case["max_norm"])
    yield Compared("mean norm", norms.mean, case["mean_norm"])


def keys(variant: Variant) -> Iterator[Compared]:
    if not variant.absent(files=("lora_keys.json", "tiny_unet_diffusers/config.json")):
        yield from tiny_keys(variant)
        yield from groups(variant)
    if (variant.folder / "full_sdxl_keys.json").exists():
        yield from full_keys(variant)


def tiny_keys(variant: Variant) -> Iterator[Compared]:
    told = facts(variant.folder, "lora_keys")
    for name, case in told["variants"].items():
        if "modules" not in case:
            yield Compared(name, NetworkOptions(4, 1.0, 4).size(True)[1], case["conv_alpha used"], "exact")
            continue
        own = dict(entry.split("=") for entry in case.get("network_args", ()))
        options = NetworkOptions(
            case["network_dim"],
            case["network_alpha"],
            int(own.get("conv_dim", 0)),
            float(own.get("conv_alpha", 1.0)),
            text_encoders=True,
        )
        rows = {row[0]: list(row[1:]) for row in case["modules"]}
        encoders = [encoder_like(rows, model) for model in ("te1", "te2")]
        found = {}
        for layer in network.layers(unet(variant.folder), encoders, options):
            dim, alpha = options.size(layer.large_kernel)
            shapes = shapes_of(layer, options)
            found[layer.name] = [layer.model, layer.sgm, published_path(layer), *shapes, alpha, alpha / dim]
        yield Compared(f"{name} modules", found, rows, "exact")
        unet_alone = replace(options, text_encoders=False)
        attached = network.create(unet(variant.folder), (), unet_alone, SAME_RATE, seed=0)
        attached.detach()
        made = {key: list(value.shape) for key, value in attached.parameters().items()}
        both = (("lora_down.weight", 3), ("lora_up.weight", 4))
        expected = {f"{key}.{part}": row[at] for key, row in rows.items() if row[0] == "unet" for part, at in both}
        yield Compared(f"{name} matrices", made, expected, "exact")
    for rule in told.get("alpha_rules", ()):
        dim, alpha = NetworkOptions(4, float(rule["given"] or 0)).size(False)
        yield Compared(f"alpha {rule['given']}", (alpha, alpha / dim), (rule["alpha_buffer"], rule["scale"]), "exact")


def shapes_of(layer: Layer, options: NetworkOptions) -> list[list[int]]:
    return [list(shape) for shape in branch_shapes(layer.module, options.size(layer.large_kernel)[0])]


def published_path(layer: Layer) -> str:
    """Its path in diffusers or in transformers 4, which has one level more than transformers 5."""
    return layer.path if layer.model == "unet" else layer.sgm


def encoder_like(rows: Mapping[str, list[Any]], model: str) -> Any:
    """A text encoder of the sizes that a list of modules tells, without weights."""
    own = {name: row for name, row in rows.items() if row[0] == model}
    layers = 1 + max(int(row[1].split(".")[3]) for row in own.values())
    first = f"lora_{model}_text_model_encoder_layers_0_"
    width, inner = own[f"{first}self_attn_q_proj"][3][1], own[f"{first}mlp_fc1"][4][0]
    return encoder(model, width, inner, layers)


@cache
def encoder(model: str, width: int, inner: int, layers: int) -> Any:
    import transformers

    kind: Any = transformers.CLIPTextModel if model == "te1" else transformers.CLIPTextModelWithProjection
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=1, vocab_size=99
    )
    with torch.device("meta"):
        return kind(config)


def groups(variant: Variant) -> Iterator[Compared]:
    told = facts(variant.folder, "lora_keys")
    listed = (case for case in told["variants"].values() if "modules" in case and "network_args" not in case)
    rows = next(listed)["modules"]
    names = [f"{row[0]}.{part}" for row in rows for part in ("lora_down.weight", "lora_up.weight")]
    for case in told.get("param_groups", ()):
        found = parameter_groups(names, rates_of(case))
        got = [(group.label, len(group.names)) for group in found]
        expected = [(group["label"], group["tensors"]) for group in case["groups"]]
        yield Compared(f"groups {case['case']}", got, expected, "exact")
        for ours, theirs in zip(found, case["groups"], strict=False):
            yield Compared(f"rate {case['case']} {ours.label}", ours.rate, theirs["lr"], tolerance=1e-12)


def rates_of(case: dict[str, Any]) -> LearningRates:
    own, lr = case["network_args"], case["learning_rate"]
    both = own.get("loraplus_lr_ratio", 1.0)
    weights = [own.get(key) for key in ("down_lr_weight", "mid_lr_weight", "up_lr_weight")]
    blocks = ",".join(one or ",".join(["1"] * n) for one, n in zip(weights, (9, 3, 9), strict=True))
    return LearningRates(
        lr if case["unet_lr"] is None else case["unet_lr"],
        lr if case["text_encoder_lr"] is None else case["text_encoder_lr"],
        float(own.get("loraplus_unet_lr_ratio", both)),
        float(own.get("loraplus_text_encoder_lr_ratio", both)),
        tuple(float(one) for one in blocks.split(",")) if any(weights) else (),
    )


def full_keys(variant: Variant) -> Iterator[Compared]:
    from diffusers import UNet2DConditionModel

    told = facts(variant.folder, "full_sdxl_keys")
    with torch.device("meta"):
        model: Any = UNet2DConditionModel(**SDXL_UNET)  # type: ignore[arg-type]
    yield Compared("parameters", sum(p.numel() for p in model.parameters()), told["unet_parameters"], "exact")
    extra = told.get("extra_modules_with_conv_dim_16", [])
    options = NetworkOptions(told["rank"], 1.0, 16 if extra else 0, text_encoders=True)
    rows = {row[0]: row[1:] for row in (*told["modules"], *extra)}
    encoders = [encoder("te1", 768, 3072, 12), encoder("te2", 1280, 5120, 32)]
    found = {
        layer.name: [layer.model, published_path(layer), *shapes_of(layer, options)]
        for layer in network.layers(model, encoders, options)
    }
    for model_name in ("te1", "te2", "unet"):
        got, expected = ({name: row for name, row in all_.items() if row[0] == model_name} for all_ in (found, rows))
        yield Compared(f"modules of {model_name}", got, expected, "exact")


FORWARD = ("lora_forward.safetensors", "tiny_unet_diffusers/config.json")
DROPPED = ("lora_forward.safetensors", "lora_forward.json")
PARTS = {
    "forward": Part(FORWARD, forward),
    "merged_weight": Part(FORWARD, merged_weights),
    "size_embedding": Part(FORWARD, size_embedding),
    "dropout": Part(DROPPED, dropout),
    "maxnorm": Part(DROPPED, max_norm),
    "lora keys": Part((), keys, ("lora_keys.json", "full_sdxl_keys.json")),
}
