"""What sd-scripts makes of sizes, captions, configurations and files, against what we make of them."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
import torch

from bglora.errors import UserError
from bglora.training import metadata, tensor_file
from bglora.training.buckets import Bucketing, Cut, area_buckets, whole_bounds
from bglora.training.captions import Moment, processed
from bglora.training.job import Recipe
from bglora.training.kohya_config import check as check_config
from bglora.training.kohya_config import flattened
from bglora.training.kohya_recipe import options_of, recipe_of
from bglora.training.options import CaptionOptions
from bglora.training.pictures import cut_pixels
from bglora.training.plan import Plan, optimizer_steps
from tests.oracles import kohya_runs
from tests.oracles.kohya_oracle import Compared, Part, facts, tensors
from tests.oracles.manifests import Variant


def turned(size: Any) -> tuple[int, int]:
    """Width and height to height and width, and back."""
    return int(size[1]), int(size[0])


def buckets(variant: Variant) -> Iterator[Compared]:
    told = facts(variant.folder, "bucketing")
    for case in told.get("make_bucket_resolutions", ()):
        sizes = area_buckets(turned(case["max_reso"]), case["min_size"], case["max_size"], case["steps"])
        got, expected = [turned(size) for size in sizes], [tuple(size) for size in case["resolutions_w_h"]]
        yield Compared(f"buckets of {case['max_reso']}", got, expected, "exact")
    for case in told.get("assignment", ()):
        yield from assigned(case)
    for case in told.get("min_max_adjustment", ()):
        try:
            got = list(whole_bounds(turned(case["resolution"]), case["min"], case["max"], case["steps"]))
        except UserError:
            got = "refused"
        yield Compared(f"bounds {case['min']} {case['max']}", got, case["result"], "exact")
    for case in told.get("bucket off", ()):
        (cut,) = Bucketing(turned(case["bucket_w_h"]), step=0).cuts([turned(case["image_w_h"])])
        yield Compared(f"one bucket {case['image_w_h']}", turned(cut.resized), tuple(case["resized_w_h"]), "exact")
    for case in told.get("steps", ()):
        yield from counted(case)


def assigned(case: dict[str, Any]) -> Iterator[Compared]:
    names = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    bucketing = Bucketing(turned(case["resolution"]), *(case[name] for name in names))
    cuts = bucketing.cuts([turned(image["image_w_h"]) for image in case["images"]])
    for cut, image in zip(cuts, case["images"], strict=True):
        where = f"{case['min_bucket_reso']} {case['bucket_no_upscale']} {image['image_w_h']}"
        got = [list(turned(size)) for size in (cut.bucket, cut.resized, cut.offset)]
        expected = [image[key] for key in ("bucket_w_h", "resized_w_h", "pixel_crop_left_top")]
        yield Compared(f"{where} cut", got, expected, "exact")
        yield Compared(f"{where} fitted", torch.tensor(cut.fitted), torch.tensor(image["crop_ltrb"]), tolerance=1e-3)
        for flipped, ids in ((False, image["plain"]), (True, image["flipped"])):
            theirs = (*ids["original_hw"], *ids["crop_top_left"], *ids["target_hw"])
            yield Compared(f"{where} sizes, mirrored: {flipped}", cut.time_ids(flipped), theirs, "exact")
    present = sorted({turned(cut.bucket) for cut in cuts})
    yield Compared("buckets present", present, [tuple(size) for size in case["resos_present_sorted"]], "exact")
    mean = sum(cut.aspect_error for cut in cuts) / len(cuts)
    yield Compared("mean error of aspects", mean, case["mean_ar_error"])


def counted(case: dict[str, Any]) -> Iterator[Compared]:
    groups = case["groups (w,h,images,repeats)"]
    sizes = [(height, width) for width, height, count, _ in groups for _ in range(count)]
    repeats = [times for _, _, count, times in groups for _ in range(count)]
    batch, accumulation, processes = case["batch_size"], case["gradient_accumulation_steps"], case["processes"]
    recipe = Recipe(batch_size=batch, accumulation=accumulation, epochs=case["max_train_epochs"] or 1)
    plan = Plan(sizes, repeats, False, recipe)
    yield Compared(f"{case['name']}: batches", plan.batches_per_epoch, case["batches_per_epoch"], "exact")
    per_epoch = optimizer_steps(plan.batches_per_epoch, accumulation, processes)
    yield Compared(f"{case['name']}: steps of an epoch", per_epoch, case["optimizer_steps_per_epoch"], "exact")
    steps = case["max_train_steps_given"] or case["max_train_epochs"] * per_epoch
    yield Compared(f"{case['name']}: steps", steps, case["max_train_steps"], "exact")
    yield Compared(f"{case['name']}: epochs", -(-steps // per_epoch), case["num_epochs_printed"], "exact")
    if processes == 1:
        yield Compared(f"{case['name']}: steps of an epoch here", plan.steps_per_epoch, per_epoch, "exact")


def pixels(variant: Variant) -> Iterator[Compared]:
    values = tensors(variant.folder, "resize")
    for case in facts(variant.folder, "bucketing")["resize"]:
        name = f"resize{case['case']}"
        sizes = [turned(case[key]) for key in ("image_w_h", "resized_w_h", "bucket_w_h")]
        got = torch.from_numpy(cut_pixels(values[f"{name}.in"].numpy(), Cut(*sizes)).copy())
        yield Compared(name, got.int(), values[f"{name}.out.default"].int())


def captions(variant: Variant) -> Iterator[Compared]:
    for case in facts(variant.folder, "captions")["cases"]:
        rng, moment = random.Random(case["seed"]), Moment(case["epoch"], case["step"], case["max_train_steps"])
        options = CaptionOptions(**case["settings"])
        got = [processed(case["caption"], options, moment, rng) for _ in range(case["calls"])]
        yield Compared(case["name"], got, case["out"], "exact")
        if len(set(got)) > 1:
            yield Compared(f"{case['name']} varies", options.varies, True, "exact")


def processes(variant: Variant) -> Iterator[Compared]:
    told = facts(variant.folder, "two_processes")
    printed, ranks = told["printed"], told["ranks"]
    per_epoch = int(printed["num batches per epoch"])
    steps = optimizer_steps(per_epoch, 2) * int(printed["epochs"])
    yield Compared("updates", steps, int(printed["total optimization steps"]), "exact")
    yield Compared("updates of each rank", {len(rank["updates"]) for rank in ranks}, {steps}, "exact")


def resumed(variant: Variant) -> Iterator[Compared]:
    """A run's learning rates and steps; a resumed one goes on with those of the steps that are left."""
    cases = {name: case for name, case in facts(variant.folder, "resume_cases").items() if isinstance(case, dict)}
    whole = next(case for name, case in cases.items() if name.startswith("full"))
    epochs, batches = len(whole["epoch lines"]), whole["micro_batches_trained"]
    rates = whole["lr of each update"]
    accumulation = next(n for n in range(1, 65) if optimizer_steps(batches // epochs, n) * epochs == whole["updates"])
    warmup = rates.index(max(rates))
    recipe = Recipe(
        batch_size=1, accumulation=accumulation, epochs=epochs, learning_rate=max(rates), warmup_steps=warmup
    )
    plan = Plan([(64, 64)] * (batches // epochs), 1, False, recipe)
    yield Compared("updates", plan.steps, whole["updates"], "exact")
    trained = sum(len(plan.batches(step)) for step in range(plan.steps))
    yield Compared("micro-batches", trained, batches, "exact")
    ours = [plan.learning_rate(step) for step in range(plan.steps)]
    yield Compared("rates", torch.tensor(ours), torch.tensor(rates), tolerance=1e-9)
    for name, case in cases.items():
        left = case["updates"]
        if case is not whole and left:
            theirs = torch.tensor(case["lr of each update"])
            yield Compared(f"{name}: rates", torch.tensor(ours[-left:]), theirs, tolerance=1e-9)
            seen = sum(len(plan.batches(step)) for step in range(plan.steps - left, plan.steps))
            yield Compared(f"{name}: micro-batches", seen, case["micro_batches_trained"], "exact")


ORDINARY: dict[str, Any] = {
    "pretrained_model_name_or_path": "base.safetensors",
    "train_data_dir": "datasets/scene-00",
    "resolution": "128,128",
    "caption_extension": ".txt",
    "network_module": "networks.lora",
    "sdpa": True,
    "mixed_precision": "bf16",
    "cache_latents": True,
    "enable_bucket": True,
    "min_bucket_reso": 64,
    "max_bucket_reso": 256,
}
"""The options that the recorded starts had in common."""
SILENT = (
    "cached text",
    "network_args as a plain string",
    "learning_rate as text",
    "no images",
    "images directly",
    "parent does not exist",
    "ordinary",
)
"""Starts that sd-scripts accepts although it trains something else or nothing, and those that are about folders."""


def config(variant: Variant) -> Iterator[Compared]:
    if (variant.folder / "config_cases.json").exists():
        yield from read_configs(variant)
    if (variant.folder / "arg_checks.json").exists():
        for case in facts(variant.folder, "arg_checks"):
            refused = bool(errors({"enable_bucket": False, "network_train_unet_only": True, **case["given"]}))
            old_name = "caption_extention" in case["given"]
            yield Compared(f"refused: {case['given']}", refused, not case["result"]["ok"] or old_name, "exact")
    if (variant.folder / "startup_cases.json").exists():
        for case in facts(variant.folder, "startup_cases"):
            if not case["case"].startswith(SILENT):
                refused = not case["result"].startswith("accepted")
                yield Compared(f"refused: {case['case']}", bool(errors(case["options"])), refused, "exact")


def errors(options: dict[str, Any]) -> list[str]:
    whole = {key: value for key, value in {**ORDINARY, **options}.items() if value is not None}
    return [str(problem) for problem in check_config(tomlkit.dumps(whole)) if problem.grade == "error"]


def read_configs(variant: Variant) -> Iterator[Compared]:
    """Values as sd-scripts takes them from a file, and its unknown keys, which we name."""
    for case in facts(variant.folder, "config_cases"):
        changed = case["result"].get("changed")
        if changed is None or case["argv"]:
            continue
        flat, _ = flattened(tomllib.loads(case["toml"]))
        for key, told in changed.items():
            if told["py_type"] != "dict":
                yield Compared(f"{case['name']}: {key}", flat.get(key), told["value"], "exact")
                yield Compared(f"{case['name']}: type of {key}", type(flat.get(key)).__name__, told["py_type"], "exact")
            if not told["known"]:
                named = {problem.key for problem in check_config(case["toml"]) if problem.grade == "error"}
                yield Compared(f"{case['name']}: {key} is named", key in named, True, "exact")


def files(variant: Variant) -> Iterator[Compared]:
    if (variant.folder / "hash_cases.json").exists():
        yield from hashes(variant)
    for path in sorted(variant.folder.glob("*lora*.safetensors")):
        yield from hashed(path)
    if (variant.folder / "metadata_examples.json").exists():
        yield from told_in_files(variant)


def hashes(variant: Variant) -> Iterator[Compared]:
    last: Mapping[str, torch.Tensor] = {}
    for case in facts(variant.folder, "hash_cases"):
        if "tensors" in case:
            last = {name: made(words) for name, words in case["tensors"].items()}
        yield Compared(case["case"], tensor_file.model_hash(last), case["sshs_model_hash"], "exact")
        legacy = tensor_file.legacy_hash(last, case["metadata"])
        yield Compared(f"{case['case']}, legacy", legacy, case["sshs_legacy_hash"], "exact")


def made(words: str) -> torch.Tensor:
    """`arange(100) float32`, `ones(3) float16` or `3.0 float32 scalar`."""
    shape, kind = words.split()[:2]
    dtype = getattr(torch, kind)
    if "(" not in shape:
        return torch.tensor(float(shape), dtype=dtype)
    name, _, count = shape.removesuffix(")").partition("(")
    return {"arange": torch.arange, "ones": torch.ones}[name](int(count), dtype=dtype)


def hashed(path: Any) -> Iterator[Compared]:
    from safetensors import safe_open

    with safe_open(str(path), "pt") as stream:
        told = stream.metadata() or {}
        weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    if "sshs_model_hash" in told:
        yield Compared(f"hash of {path.name}", tensor_file.model_hash(weights), told["sshs_model_hash"], "exact")
        legacy = tensor_file.legacy_hash(weights, told)
        yield Compared(f"legacy hash of {path.name}", legacy, told["sshs_legacy_hash"], "exact")


OURS = {"ss_network_args", "sshs_model_hash", "sshs_legacy_hash"}
OWN_VALUES = {
    "ss_session_id",
    "ss_training_started_at",
    "ss_training_finished_at",
    "ss_sd_scripts_commit_hash",
    "ss_cache_latents",
    "modelspec.date",
    "modelspec.implementation_version",
    *OURS,
}


def told_in_files(variant: Variant) -> Iterator[Compared]:
    """The first example is whole, the others list what differs from it; runs in train_*.json made those named so."""
    examples = facts(variant.folder, "metadata_examples")
    whole: dict[str, str] = {}
    for title, example in examples.items():
        if not isinstance(example, dict) or "ss_output_name" not in example:
            continue
        whole = {**whole, **example}
        run = f"train_{title.split()[0]}"
        yield from understood(title, whole)
        if (variant.folder / f"{run}.json").exists():
            yield from written(variant, run, whole)


def understood(title: str, theirs: Mapping[str, str]) -> Iterator[Compared]:
    """Hyper-parameters that `like` takes from a file."""
    recipe = recipe_of(options_of(theirs))
    values = {
        "ss_network_dim": recipe.dim,
        "ss_network_alpha": recipe.alpha,
        "ss_batch_size_per_device": recipe.batch_size,
        "ss_gradient_accumulation_steps": recipe.accumulation,
        "ss_max_grad_norm": recipe.max_grad_norm,
        "ss_lr_warmup_steps": recipe.warmup_steps,
    }
    for key, value in values.items():
        yield Compared(f"{title}: {key} read", value, plain(theirs[key]), "exact")


def written(variant: Variant, run: str, theirs: Mapping[str, str]) -> Iterator[Compared]:
    recipe, plan = kohya_runs.recipe(variant, run), kohya_runs.plan_of(variant, run)
    options = kohya_runs.options(variant.folder, run)
    folders, sizes = {}, []
    for name, entries in facts(variant.folder, run)["folders"].items():
        folders[name] = metadata.Folder(int(name.partition("_")[0]), tuple(entry[2] for entry in entries))
        sizes += [turned(entry[:2]) for entry in entries]
    about = metadata.About(
        name=options.get("output_name", "last"),
        title="",
        comment="",
        base=options["pretrained_model_name_or_path"],
        family="sdxl_base_v1-0",
        architecture="stable-diffusion-xl-v1-base",
        prediction="epsilon",
        precision=options.get("mixed_precision", "no"),
        folders=folders,
        cuts=recipe.bucketing.cuts(sizes),
        held_out=0,
        keep_tokens=options.get("keep_tokens", 0),
        steps=plan.steps,
        created="2026-01-02",
    )
    ours = metadata.describe(recipe, plan, about)
    yield Compared(f"{run}: keys", sorted(set(ours) - OURS), sorted(set(theirs) - OURS), "exact")
    for key in sorted(set(ours) & set(theirs) - OWN_VALUES):
        yield Compared(f"{run}: {key}", plain(ours[key]), plain(theirs[key]), "exact")


def plain(text: str) -> Any:
    """A value as what it says: numbers as numbers, JSON as its content."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


PARTS = {
    "bucketing": Part(("bucketing.json",), buckets),
    "resize": Part(("resize.safetensors", "bucketing.json"), pixels),
    "captions": Part(("captions.json",), captions),
    "two processes": Part(("two_processes.json",), processes),
    "resume": Part(("resume_cases.json",), resumed),
    "config": Part((), config, ("config_cases.json", "arg_checks.json", "startup_cases.json")),
    "hash, metadata": Part((), files, ("hash_cases.json", "metadata_examples.json", "tiny_lora.safetensors")),
}
