"""What the research code of BrushNet computed, as calls of ours: one function a kind of check."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from bglora.nets import brushnet_painting as painting
from bglora.nets import brushnet_pictures as pictures
from bglora.nets import diffusion_base
from bglora.nets.brushnet import BrushNet, Features, load
from bglora.nets.brushnet_injection import check_fit, injected
from tests.oracles import brushnet_published as published
from tests.oracles import manifests

Found = dict[str, Tensor]
SCHEDULERS = {"unipc": "unipc", "dpm": "dpm++", "ddim": "ddim"}


@dataclass
class Reference:
    """A folder of the oracle: a tiny base model, a BrushNet beside it, and tensors in and out."""

    variant: manifests.Variant

    @property
    def folder(self) -> Path:
        return self.variant.folder

    @property
    def params(self) -> Mapping[str, Any]:
        return self.variant.manifest.get("params", {})

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.variant.tensors

    @cached_property
    def brushnet(self) -> BrushNet:
        return load(self.folder / "brushnet")

    @cached_property
    def unet(self) -> Any:
        from diffusers import UNet2DConditionModel

        net = UNet2DConditionModel.from_pretrained(self.folder / "unet", local_files_only=True).eval()
        check_fit(net, self.brushnet, str(self.folder))
        return net.requires_grad_(False)

    @cached_property
    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(self.folder / "vae", local_files_only=True).eval().requires_grad_(False)

    @cached_property
    def pipeline(self) -> Any:
        return diffusion_base.load(self.folder, setting="inpaint.brushnet_base", dtype=torch.float32)

    @property
    def cell(self) -> int:
        """Pixels per latent cell; the published models' own where the folder has no VAE."""
        if not (self.folder / "vae/config.json").is_file():
            return pictures.CELL
        config = json.loads((self.folder / "vae/config.json").read_text("utf-8"))
        return int(2 ** (len(config["block_out_channels"]) - 1))

    def words(self, rows: int) -> painting.Words:
        """The given embeddings, one for all pictures or one for each."""
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        given = [self.tensors.get(f"in.{name}") for name in names]
        found: Any = [None if one is None else repeated(one, rows) for one in given]
        return painting.Words(*found)

    def given(self, name: str) -> Tensor:
        return self.tensors[name]

    def course(self, check: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters of a run, of the check itself or of the run that its name starts with."""
        if "params" in check:
            return dict(check["params"])
        runs = [run for run in self.params["e2e"] if check["name"].startswith(run["name"])]
        return dict(max(runs, key=lambda run: len(run["name"])))

    def scheduler(self, name: str) -> Any:
        config = json.loads((self.folder / "scheduler/scheduler_config.json").read_text("utf-8"))
        import diffusers

        return painting.sampler(SCHEDULERS[name], getattr(diffusers, config["_class_name"]).from_config(config))

    def features(self, sample: Tensor, condition: Tensor, scale: float = 1.0, guess: bool = False) -> Features:
        """The branch on a batch with both halves."""
        _, pooled = self.words(len(sample) // 2).rows(True)
        added = None if pooled is None else self.brushnet.added(pooled, self.given("in.time_ids"))
        scales = self.brushnet.scales(scale, guess=guess)
        return self.brushnet(sample, self.given("in.timestep"), condition, added, scales)

    def predicted(self, sample: Tensor, features: Features | None) -> Tensor:
        """The UNet on a batch with both halves, with features or without."""
        text, pooled = self.words(len(sample) // 2).rows(True)
        more = {} if pooled is None else {"text_embeds": pooled, "time_ids": self.given("in.time_ids")}
        with injected(self.unet) as slots:
            if features is not None:
                slots.put(features)
            return self.unet(
                sample, self.given("in.timestep"), encoder_hidden_states=text, added_cond_kwargs=more
            ).sample

    def given_features(self) -> Features:
        def numbered(kind: str) -> tuple[Tensor, ...]:
            prefix = f"out.brushnet_a.{kind}."
            return tuple(self.tensors[f"{prefix}{k}"] for k in range(sum(n.startswith(prefix) for n in self.tensors)))

        return Features(numbered("down"), self.given("out.brushnet_a.mid"), numbered("up"))


def repeated(rows: Tensor, count: int) -> Tensor:
    """One row for all as one for each."""
    return rows.expand(count, *rows.shape[1:]) if len(rows) == 1 else rows


def named(prefix: str, features: Features) -> Found:
    found = {f"{prefix}.down.{k}": value for k, value in enumerate(features.down)}
    found |= {f"{prefix}.up.{k}": value for k, value in enumerate(features.up)}
    return found | {f"{prefix}.mid": features.mid}


def text_ids(v: Reference, check: Mapping[str, Any]) -> Found:
    from transformers import CLIPTokenizer

    found = {}
    for end in ("", "_2"):
        if not (v.folder / f"tokenizer{end}").is_dir():
            continue
        tokenizer = CLIPTokenizer.from_pretrained(v.folder / f"tokenizer{end}", local_files_only=True)
        for prefix in ("", "negative_"):
            texts = v.params[f"{prefix}prompts"]
            ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            found[f"out.text.{prefix}input_ids{end}"] = ids.input_ids
    return found


def text_embeds(v: Reference, check: Mapping[str, Any]) -> Found:
    prompts, negatives = v.params["prompts"], v.params["negative_prompts"]
    one_for_all = len(negatives) == 1 < len(prompts)
    words = painting.encoded(v.pipeline, prompts, negatives * len(prompts) if one_for_all else negatives)
    found = {"out.text.prompt_embeds": words.prompt, "out.text.negative_prompt_embeds": words.negative}
    if words.pooled is not None and words.negative_pooled is not None:
        found |= {"out.text.pooled_prompt_embeds": words.pooled}
        found |= {"out.text.negative_pooled_prompt_embeds": words.negative_pooled}
    return found


def preprocess(v: Reference, check: Mapping[str, Any]) -> Found:
    keep = pictures.kept(v.given("in.mask_u8").numpy())
    blacked = pictures.blacked_out(v.given("in.image_u8").numpy(), 1 - keep[:, 0].numpy())
    return {
        "out.pre.masked_image_u8": torch.from_numpy(blacked),
        "out.pre.image_tensor": pictures.as_tensor(blacked),
        "out.pre.keep_mask_full": keep,
        "out.pre.keep_mask_latent": pictures.kept_cells(keep, v.cell),
    }


def preprocess_resize(v: Reference, check: Mapping[str, Any]) -> Found:
    picture, mask = v.given("in.odd_image_u8").numpy(), v.given("in.odd_mask_u8").numpy()
    size = published.whole_cells(*mask.shape, v.cell)
    keep = pictures.kept(published.resized(mask, size)[None])
    return {
        "out.odd.image_tensor": pictures.as_tensor(published.resized(picture, size)[None]),
        "out.odd.keep_mask_full": keep,
        "out.odd.keep_mask_latent": pictures.kept_cells(keep, v.cell),
    }


def script_resize(v: Reference, check: Mapping[str, Any]) -> Found:
    picture, mask = v.given("in.script_image_u8").numpy(), v.given("in.script_mask_u8").numpy()
    height, width = mask.shape
    short = v.params["script_short_side"]
    scale = short / min(height, width)
    size = int(width * scale), int(height * scale)
    picture = cv2.resize(picture, size)
    hole = cv2.resize((3.0 * mask > 255).astype(np.float32), size)  # the script's own test: the sum of three channels
    whole = np.repeat((hole.astype(np.uint8) * 255)[..., None], 3, 2)
    return {
        "out.script.masked_image_u8": torch.from_numpy(pictures.blacked_out(picture, hole)),
        "out.script.mask_u8": torch.from_numpy(whole),
    }


def vae_posterior(v: Reference, check: Mapping[str, Any]) -> Found:
    found = v.vae.encode(v.given("out.pre.image_tensor")).latent_dist
    return {"out.vae.mean": found.mean, "out.vae.logvar": found.logvar, "out.vae.std": found.std}


def vae_mode(v: Reference, check: Mapping[str, Any]) -> Found:
    return {"out.vae.masked_latents_mode": painting.masked_latents(v.vae, v.given("out.pre.image_tensor"))}


def vae_sample(v: Reference, check: Mapping[str, Any]) -> Found:
    noise = v.given("in.vae_eps")
    mean, spread = (
        v.given(f"out.vae.{name}").repeat(len(noise) // len(v.given("out.vae.mean")), 1, 1, 1)
        for name in ("mean", "std")
    )
    return {"out.vae.masked_latents": painting.drawn(mean, spread, noise) * v.vae.config.scaling_factor}


def conditioning(v: Reference, check: Mapping[str, Any]) -> Found:
    latents, cells = v.given("out.vae.masked_latents"), v.given("out.pre.keep_mask_latent")
    return {"out.cond.conditioning_latents": painting.conditioned(latents, cells)}


def brushnet_internal(v: Reference, check: Mapping[str, Any]) -> Found:
    found: Found = {}

    def entry(_: Any, __: Any, output: Tensor) -> None:
        found["out.brushnet_mid.conv_in"] = output

    def middle(_: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        found["out.brushnet_mid.emb"], found["out.brushnet_mid.mid_block"] = given[1], output

    with ExitStack() as stack:
        for module, hook in ((v.brushnet.conv_in_condition, entry), (v.brushnet.mid_block, middle)):
            stack.callback(module.register_forward_hook(hook).remove)
        v.features(v.given("in.sample"), v.given("out.cond.conditioning_latents"), **scale_of(check))
    return found


def scale_of(check: Mapping[str, Any]) -> dict[str, Any]:
    params = check.get("params", {})
    return {"scale": params.get("conditioning_scale", 1.0), "guess": params.get("guess_mode", False)}


def brushnet_features(v: Reference, check: Mapping[str, Any]) -> Found:
    """brushnet_forward and brushnet_guess; the outputs' first word says under which name they stand."""
    prefix = ".".join(check["outputs"][0].split(".")[:2])
    options = scale_of(check)
    found = named(prefix, v.features(v.given("in.sample"), v.given("out.cond.conditioning_latents"), **options))
    return found | {f"{prefix}.scales": torch.tensor(v.brushnet.scales(**options))}


def unet_plain(v: Reference, check: Mapping[str, Any]) -> Found:
    return {"out.unet_plain.noise_pred": v.predicted(v.given("in.sample"), None)}


def unet_injected(v: Reference, check: Mapping[str, Any]) -> Found:
    return {"out.unet_a.noise_pred": v.predicted(v.given("in.sample"), v.given_features())}


def unet_injected_internal(v: Reference, check: Mapping[str, Any]) -> Found:
    found: Found = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            found[f"out.unet_a.{name}"] = output[0] if isinstance(output, tuple) else output

        return hook

    # These hooks are there before those of the injection, so they see what it adds inside of a block, not after it.
    modules = [("conv_in", v.unet.conv_in), ("mid_block_before_add", v.unet.mid_block)]
    modules += [(f"down_block.{k}", block) for k, block in enumerate(v.unet.down_blocks)]
    modules += [(f"up_block.{k}", block) for k, block in enumerate(v.unet.up_blocks)]
    with ExitStack() as stack:
        for name, module in modules:
            stack.callback(module.register_forward_hook(keep(name)).remove)
        v.predicted(v.given("in.sample"), v.given_features())
    return found


def unet_with_branch(v: Reference, check: Mapping[str, Any]) -> Found:
    """unet_injected_scale_b and unet_guess."""
    features = v.features(v.given("in.sample"), v.given("out.cond.conditioning_latents"), **scale_of(check))
    return {check["outputs"][0]: v.predicted(v.given("in.sample"), features)}


def odd_latent(v: Reference, check: Mapping[str, Any]) -> Found:
    features = v.features(v.given("in.odd_sample"), v.given("in.odd_cond"), **scale_of(check))
    return {
        "out.odd_latent.mid": features.mid,
        "out.odd_latent.up_last": features.up[-1],
        "out.odd_latent.noise_pred": v.predicted(v.given("in.odd_sample"), features),
    }


def run(v: Reference, check: Mapping[str, Any]) -> Found:
    """A whole denoising."""
    params = v.course(check)
    eps = params.get("eps", "full")
    name = check["outputs"][0].split(".")[1]
    if "in.image_u8" in check["inputs"]:
        noise = None if eps == "zero" else v.given("in.vae_eps")
        rows = len(v.given("in.noise"))
        picture, mask = (repeated(v.given(name), rows).numpy() for name in ("in.image_u8", "in.mask_u8"))
        condition = painting.condition(v.vae, picture, mask, noise)
    elif eps == "zero":
        condition = painting.conditioned(v.given("out.vae.masked_latents_mode"), v.given("out.pre.keep_mask_latent"))
    elif "out.cond.conditioning_latents" in check["inputs"]:
        condition = v.given("out.cond.conditioning_latents")
    else:
        condition = painting.conditioned(v.given("out.vae.masked_latents"), v.given("out.pre.keep_mask_latent"))
    noise = v.given("in.noise")
    condition = repeated(condition, len(noise))
    course = painting.Course(
        params["steps"],
        params["guidance"],
        params.get("scale", 1.0),
        (params.get("start", 0.0), params.get("end", 1.0)),
        params.get("guess", False),
    )
    found: Found = {}
    latents = painting.denoise(
        v.unet,
        v.brushnet,
        v.scheduler(params["scheduler"]),
        noise,
        condition,
        v.words(len(noise)),
        course,
        time_ids=v.tensors.get("in.time_ids"),
        on_step=lambda step, after: found.__setitem__(f"out.{name}.latents_after_step.{step}", after),
    )
    return found | {f"out.{name}.latents": latents}


def run_timesteps(v: Reference, check: Mapping[str, Any]) -> Found:
    params = v.course(check)
    scheduler = v.scheduler(params["scheduler"])
    scheduler.set_timesteps(params["steps"])
    return {check["outputs"][0]: scheduler.timesteps}


def run_decode(v: Reference, check: Mapping[str, Any]) -> Found:
    return {check["outputs"][0]: painting.decoded(v.vae, v.given(check["inputs"][0]))}


def run_image(v: Reference, check: Mapping[str, Any]) -> Found:
    return {check["outputs"][0]: torch.from_numpy(pictures.as_pictures(v.given(check["inputs"][0])))}


def blend_alpha(v: Reference, check: Mapping[str, Any]) -> Found:
    holes = v.given("in.mask_u8").numpy() >= pictures.HOLE_FROM
    return {"out.blend.alpha": torch.from_numpy(np.stack([published.paste_weight(hole) for hole in holes]))}


def blend(v: Reference, check: Mapping[str, Any]) -> Found:
    names = ("in.image_u8", "in.generated_u8", "in.mask_u8")
    rows = zip(*(v.given(name).numpy() for name in names), strict=True)
    found = [published.soft_paste(picture, made, mask >= pictures.HOLE_FROM) for picture, made, mask in rows]
    return {"out.blend.image_u8": torch.from_numpy(np.stack(found))}


EXACT: dict[str, Callable[[Reference, Mapping[str, Any]], Found]] = {
    function.__name__: function
    for function in (text_ids, text_embeds, preprocess, preprocess_resize, script_resize, vae_posterior, vae_mode)
    + (vae_sample, conditioning, brushnet_internal, unet_plain, unet_injected, unet_injected_internal, odd_latent)
    + (blend_alpha, blend)
} | {"full_chain": run}
