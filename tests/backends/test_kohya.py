"""The training backend `kohya`: what it writes for a job, and what it says is left to do."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bglora import backends
from bglora.errors import UserError
from bglora.settings import Settings
from bglora.training.job import Recipe, TrainJob, TrainPicture, TrainResult
from bglora.training.kohya_config import render
from bglora.training.options import DropoutOptions

OPEN = Recipe(provenance_weights=None)


def job(root: Path, **changes: Any) -> TrainJob:
    picture = TrainPicture("film-s000/000000", root / "a.png", "flm_1, background", root / "p.png")
    whole = TrainJob(
        scene="scene-00",
        title='The "old" pier',
        trigger="flm_1",
        base="sdxl.safetensors",
        pictures=(picture,),
        held_out=(),
        dataset=root / "datasets/scene-00",
        repeats=5,
        flip=False,
        keep_tokens=3,
        created="",
        recipe=Recipe(),
    )
    return replace(whole, **changes)


def train(root: Path, one: TrainJob, template: str = "sdxl_24gb") -> tuple[dict[str, Any], TrainResult]:
    settings = Settings().train.model_copy(update={"kohya_template": template})
    tools = SimpleNamespace(root=root, scratch=root / "scratch")
    result = backends.load("train", "kohya", settings).train(one, tools)
    text = (root / "scratch" / result.outputs[0]).read_text("utf-8")
    tables = tomllib.loads(text)
    return {key: value for table in tables.values() for key, value in table.items()}, result


def test_a_job_becomes_a_checked_configuration_and_a_command(tmp_path: Path) -> None:
    options, result = train(tmp_path, job(tmp_path))
    assert result.outputs == ("loras/scene-00.kohya.toml",)
    assert options["train_data_dir"] == "datasets/scene-00" and options["output_name"] == "scene-00"
    assert options["keep_tokens"] == 3 and options["flip_aug"] is False and options["alpha_mask"] is True
    assert "caption_prefix" not in options and options["metadata_title"] == 'The "old" pier'
    assert result.record["masks"] == 1
    assert "accelerate launch" in result.undone and "--config_file loras/scene-00.kohya.toml" in result.undone
    assert str(tmp_path) not in (tmp_path / "scratch/loras/scene-00.kohya.toml").read_text("utf-8")


def test_what_a_person_set_wins_over_the_template_and_defaults_do_not(tmp_path: Path) -> None:
    plain, _ = train(tmp_path, job(tmp_path), "sdxl_12gb")
    assert plain["network_dim"] == 32 and plain["resolution"] == "1024,1024"
    recipe = Recipe(dim=16, alpha=8.0, resolution=768, max_steps=500, lr_scheduler="constant", warmup_steps=10)
    own, _ = train(tmp_path, job(tmp_path, recipe=recipe), "sdxl_12gb")
    assert own["network_dim"] == 16 and own["network_alpha"] == 8.0 and own["resolution"] == "768,768"
    assert own["max_train_steps"] == 500 and "max_train_epochs" not in own
    assert own["lr_scheduler"] == "constant_with_warmup" and own["lr_warmup_steps"] == 10


def test_sizes_of_buckets_are_said_and_what_sd_scripts_lacks_is_told(tmp_path: Path) -> None:
    recipe = Recipe(resolution=512, resolution_height=768, bucket_step=32, max_bucket=1280, ema=0.99, resize_rank=8)
    options, result = train(tmp_path, job(tmp_path, recipe=recipe))
    assert options["resolution"] == "512,768" and options["bucket_reso_steps"] == 32
    assert (options["min_bucket_reso"], options["max_bucket_reso"]) == (256, 1280)
    assert "sd-scripts has no resize_rank, ema" in " ".join(result.record["notices"])
    squares, _ = train(tmp_path, job(tmp_path, recipe=Recipe(bucket_step=0)))
    assert squares["enable_bucket"] is False and "bucket_reso_steps" not in squares


def test_what_another_lora_gave_is_written_even_where_it_is_the_default(tmp_path: Path) -> None:
    own = tmp_path / "templates/kohya/own.toml"
    own.parent.mkdir(parents=True)
    base = (Path(__file__).parents[2] / "templates/kohya/sdxl_12gb.toml").read_text("utf-8")
    own.write_text(render(base, {"min_snr_gamma": 5.0, "noise_offset": 0.05}), "utf-8")
    taken = ("dim", "resolution", "optimizer", "lr_scheduler", "min_snr_gamma")
    start = tmp_path / "characters/hero.safetensors"
    options, _ = train(tmp_path, job(tmp_path, taken=taken, network_weights=start), "own")
    assert (options["network_dim"], options["resolution"], options["optimizer_type"]) == (128, "1024,1024", "AdamW")
    assert "min_snr_gamma" not in options and options["noise_offset"] == 0.05
    assert options["network_weights"] == "characters/hero.safetensors"


def test_a_template_of_the_project_overrides_and_its_errors_are_told(tmp_path: Path) -> None:
    own = tmp_path / "templates/kohya/sdxl_24gb.toml"
    own.parent.mkdir(parents=True)
    base = (Path(__file__).parents[2] / "templates/kohya/sdxl_24gb.toml").read_text("utf-8")
    own.write_text(render(base, {"min_snr_gamma": 5.0}), "utf-8")
    assert train(tmp_path, job(tmp_path))[0]["min_snr_gamma"] == 5.0
    own.write_text(render(base, {"cache_text_encoder_outputs": True}), "utf-8")
    with pytest.raises(UserError) as told:
        train(tmp_path, job(tmp_path))
    assert "shuffle_caption" in told.value.what and told.value.where == str(own)


def test_lists_of_a_template_keep_what_the_settings_do_not_name(tmp_path: Path) -> None:
    own = tmp_path / "templates/kohya/sdxl_24gb.toml"
    own.parent.mkdir(parents=True)
    base = (Path(__file__).parents[2] / "templates/kohya/sdxl_24gb.toml").read_text("utf-8")
    own.write_text(render(base, {"network_args": ["conv_dim=8", "rank_dropout=0.5"]}), "utf-8")
    recipe = Recipe(dropout=DropoutOptions(rank_dropout=0.25), weight_decay=0.1)
    options, _ = train(tmp_path, job(tmp_path, recipe=recipe))
    assert options["network_args"] == ["conv_dim=8", "rank_dropout=0.25"]
    assert options["optimizer_args"] == ["weight_decay=0.1"]
    own.write_text("[a\n", "utf-8")
    with pytest.raises(UserError, match="no TOML"):
        train(tmp_path, job(tmp_path))
    own.write_text(render(base, {"network_args": ["conv_dmi=8"]}), "utf-8")
    with pytest.raises(UserError, match="nearest is conv_dim"):
        train(tmp_path, job(tmp_path))


def test_a_name_of_ours_for_the_base_becomes_one_that_sd_scripts_knows(tmp_path: Path) -> None:
    options, _ = train(tmp_path, job(tmp_path, base="sdxl-base"))
    assert options["pretrained_model_name_or_path"] == "stabilityai/stable-diffusion-xl-base-1.0"


def test_mini_and_a_missing_template_are_told_in_three_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't train on mini"):
        train(tmp_path, job(tmp_path, base="mini"))
    with pytest.raises(UserError) as told:
        train(tmp_path, job(tmp_path), "sdxl_8gb")
    assert "sdxl_12gb" in told.value.cure


def test_without_provenance_there_are_no_masks(tmp_path: Path) -> None:
    options, result = train(tmp_path, job(tmp_path, recipe=OPEN))
    assert "alpha_mask" not in options and result.record["masks"] == 0


def test_rendering_keeps_comments_and_places(tmp_path: Path) -> None:
    text = render("# top\n[a]\nx = 1 # why\ny = 2\n", {"x": 5, "y": None, "new": "z"})
    assert text.startswith("# top\n[a]\nx = 5 # why\n") and "y =" not in text
    assert tomllib.loads(text)["bglora"] == {"new": "z"}


def test_the_identity_names_the_template_by_content() -> None:
    settings = Settings().train
    one = backends.identity("train", "kohya", settings)
    other = backends.identity("train", "kohya", settings.model_copy(update={"kohya_template": "sdxl_24gb"}))
    launched = backends.identity("train", "kohya", settings.model_copy(update={"sd_scripts": "/x"}))
    assert one.startswith("kohya/2 sdxl_16gb_stable@") and len({one, other, launched}) == 3
