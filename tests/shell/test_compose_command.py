"""`compose` and `train --character` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import bglora
from bglora.cli import lora
from bglora.cli.options import Options, Session, begin
from bglora.errors import UserError
from tests.shell.conftest import Answer

Command = Callable[..., Answer]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = bglora.init(tmp_path / "film").root
    (root / "loras").mkdir()
    for name in ("scene-00", "scene-01", "character-kid"):
        (root / f"loras/{name}.safetensors").write_bytes(b"")
    return root


@pytest.fixture
def asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Options]]:
    """The settings and options with which `compose` would go to work."""

    def call(**values: Any) -> tuple[Any, Options]:
        seen: list[Session] = []
        monkeypatch.setattr(lora, "work", lambda session, stages: seen.append(session) or 0)
        lora.compose(begin(Options(folder=root)), **values)
        return seen[0].project().settings.compose, seen[0].options

    return call


def test_options_stand_for_settings(asked: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    Image.new("L", (8, 8), 255).save("mask.png")
    Path("pose.safetensors").write_bytes(b"")
    settings, options = asked(
        character=["kid", str(root / "loras/character-kid.safetensors")],
        background=["scene-00", "scene-01"],
        lora=["pose.safetensors=0.6"],
        region=["mask.png", "0.3 0.2 0.7 0.9"],
        prompt='a "quoted", ünusual prompt',
        sweep="0.5:0.9",
    )
    assert settings.characters == ("kid", "loras/character-kid.safetensors")
    assert options.only == "scene-00,scene-01"
    assert settings.others == {str(elsewhere / "pose.safetensors"): 0.6}
    assert settings.region == (str(elsewhere / "mask.png"), "0.3 0.2 0.7 0.9") and settings.mode == "regional"
    assert settings.prompt == 'a "quoted", ünusual prompt'
    assert settings.sweep == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert asked(sweep="0.5:0.9:0.2")[0].sweep == (0.5, 0.7, 0.9) and asked(sweep="0.3,1")[0].sweep == (0.3, 1.0)
    plain = bglora.open(root).settings.compose
    assert asked()[0] == plain and asked(mode="switch")[0].mode == "switch"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sweep": "much"}, "no row of scales"),
        ({"sweep": "0.9:0.5"}, "no row of scales"),
        ({"lora": ["a.safetensors=strong"]}, "no scale"),
        ({"background": ["scene-07"]}, "no background LoRA of 'scene-07'"),
        ({"to": Path("x.png")}, "--to says"),
    ],
)
def test_wrong_options_are_told_in_three_lines(asked: Any, values: Any, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        asked(**values)
    assert caught.value.where and caught.value.cure


def test_a_scale_of_5_and_a_picture_without_recipe_are_told(command: Command, root: Path, tmp_path: Path) -> None:
    answer = command("-C", root, "compose", "--set", "compose.background_scale=5")
    assert answer.code == 2 and "compose.background_scale = 5" in answer.told[0]
    answer = command("-C", root, "compose", "--sweep", "0.5,5")
    assert answer.code == 2 and answer.told[1].startswith("--set compose.sweep")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    answer = command("-C", root, "compose", "--from", tmp_path / "plain.png")
    assert answer.code == 2 and answer.told[0] == "The picture has no recipe in it."


def test_a_character_is_written_into_the_manifest_and_stays(command: Command, root: Path) -> None:
    answer = command("-C", root, "train", "--character", "kid")
    assert answer.code == 2 and "segment" in answer.told[2]  # the stages before have to run first
    project = bglora.open(root)
    project.add_character("dog", ["film-s000_2"])
    assert project.settings.train.characters == {"kid": (), "dog": ("film-s000_2",)}
    project.add_character("dog")
    assert project.settings.train.characters["dog"] == ("film-s000_2",)
    lines = (root / "project.toml").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("characters = {k")]
    assert lines.index('base = "mini"') < lines.index(line) < lines.index("[test]")  # where it was
    answer = command("-C", root, "train", "--character", "Der Hund")
    assert answer.code == 2 and "train.characters" in answer.told[0]
    assert command("-C", root, "--json", "train", "--cutouts", "x").code == 2
    assert json.dumps(sorted(project.settings.train.characters)) == '["dog", "kid"]'
