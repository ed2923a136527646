"""Configurations for sd-scripts against what sd-scripts itself accepted, refused and silently ignored."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
import tomlkit

from bglora.settings.presets import templates
from bglora.training.kohya_config import arguments, check
from tests.oracles.kohya_facts import ORDINARY
from tests.shared import shared

KNOWN = ("kohya", "dev")


def oracle(name: str) -> Any:
    return json.loads(shared("oracles", *KNOWN, name).read_text("utf-8"))


def errors(options: dict[str, Any]) -> list[str]:
    whole = {key: value for key, value in {**ORDINARY, **options}.items() if value is not None}
    return [str(problem) for problem in check(tomlkit.dumps(whole)) if problem.grade == "error"]


def test_the_table_of_options_is_that_of_the_script() -> None:
    theirs = {
        one["dest"]: (
            one["type"] + ("*" if one["nargs"] == "*" else ""),
            tuple(choice for choice in one["choices"] or () if choice is not None),
        )
        for one in oracle("args.json")["arguments"]
    }
    assert arguments() == theirs


def test_what_the_ordinary_start_takes_has_no_error() -> None:
    assert errors({}) == []


EXPECTED_ERRORS_THOUGH_ACCEPTED = {
    "ordinary": "caption_extension",  # accepted, but finds no caption
    "cached text + caption_dropout_every_n_epochs": "caption_dropout_every_n_epochs",  # silently not applied
    "cached text + keep_tokens and caption_prefix": "caption_prefix",
    "cached text + enable_wildcard": "enable_wildcard",
    "network_args as a plain string is seen only after model loading": "network_args",
    "learning_rate as text is seen only after model loading": "learning_rate",
}
ABOUT_FOLDERS = ("no images", "images directly", "parent does not exist", "ordinary (one caption")


def test_every_recorded_start_is_judged_as_it_ended_or_stricter() -> None:
    for case in oracle("startup_cases.json"):
        if case["case"].startswith(ABOUT_FOLDERS):
            continue  # what lies in the folders is the caption stage's work, not the configuration's
        found = errors(case["options"])
        if case["case"] in EXPECTED_ERRORS_THOUGH_ACCEPTED:
            assert any(line.startswith(EXPECTED_ERRORS_THOUGH_ACCEPTED[case["case"]]) for line in found), case["case"]
        elif case["result"].startswith("accepted"):
            assert found == [], case["case"]
        else:
            assert found, case["case"]


def test_every_value_that_the_start_refuses_is_an_error_here() -> None:
    for case in oracle("arg_checks.json"):
        found = errors({"enable_bucket": False, "network_train_unet_only": True, **case["given"]})
        old_name = "caption_extention" in case["given"]
        assert bool(found) == (not case["result"]["ok"] or old_name), case["given"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("unknown key is kept silently", "this_does_not_exist"),
        ("hyphenated key is not the option", "learning-rate"),
        ("string for a float is not converted", "learning_rate"),
        ("string for an int is not converted", "network_dim"),
        ("same key in two sections: last one in file wins", "network_dim"),
        ("second level table stays a dict under its own name", "inner"),
        ("dotted second level under a known list option", "network_args"),
        ("integer for a store_true", "cache_latents"),
        ("value outside choices is accepted from the file", "mixed_precision"),
        ("list option as plain string stays a string", "network_args"),
        ("resolution as int", "resolution"),
        ("resolution as array", "resolution"),
    ],
)
def test_what_a_file_silently_gets_wrong_is_said(name: str, key: str) -> None:
    cases = {case["name"]: case for case in oracle("config_cases.json")}
    found = [problem for problem in check(cases[name]["toml"]) if problem.grade == "error"]
    assert key in {problem.key for problem in found}
    assert all(problem.what and problem.cure for problem in found)


def test_a_whole_alpha_is_a_notice_and_a_misspelt_key_names_the_nearest() -> None:
    found = {problem.key: problem for problem in check("network_alpha = 96\nnetwrok_dim = 4\n")}
    assert found["network_alpha"].grade == "notice" and "96.0" in found["network_alpha"].cure
    assert "network_dim" in found["netwrok_dim"].cure


@pytest.mark.parametrize("name", ["sdxl_12gb", "sdxl_16gb_stable", "sdxl_24gb", "sdxl_80gb"])
def test_a_template_is_right_and_follows_the_recipe(name: str) -> None:
    text = (templates() / "kohya" / f"{name}.toml").read_text("utf-8")
    assert [problem for problem in check(text) if problem.grade == "error"] == []
    flat = {key: value for table in tomllib.loads(text).values() for key, value in table.items()}
    assert flat["train_batch_size"] * flat["gradient_accumulation_steps"] == 2
    assert flat["learning_rate"] == 1e-4 and flat["max_train_epochs"] == 12
    assert flat["network_alpha"] / flat["network_dim"] == 0.75
    assert "caption_prefix" not in flat and "cache_latents_to_disk" not in flat


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        ("network_args", "conv_dim", "no name=value"),
        ("network_args", "conv_dimm=4", "nearest is conv_dim"),
        ("network_args", "conv_dim=4.5", "a whole number is needed"),
        ("network_args", "block_dims=4,4", "23 whole numbers"),
        ("network_args", "down_lr_weight=zigzag", "9 numbers with commas"),
        ("network_args", "algo=loha", "lycoris.kohya"),
        ("optimizer_args", "weight_decay=0.1=2", "no name=value"),
        ("optimizer_args", "scale_parameter=false", "read as Python"),
        ("lr_scheduler_args", "T_max=ten", "read as Python"),
    ],
)
def test_what_is_wrong_inside_a_list_is_said(key: str, entry: str, said: str) -> None:
    assert any(line.startswith(key) and said in line for line in errors({key: [entry]}))


def test_a_right_list_has_no_error_and_twice_the_same_name_has() -> None:
    good = ["conv_dim=4", "conv_alpha=1", "loraplus_lr_ratio=16", "down_lr_weight=cosine+.25", "mid_lr_weight=1,0.5,1"]
    assert errors({"network_args": good, "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99", "use=None"]}) == []
    assert errors({"network_args": [*good, "conv_dim=8"]}) != []
    assert errors({"network_module": "lycoris.kohya", "network_args": ["algo=loha", "preset=attn-mlp"]}) == []
