"""What README and CONTRIBUTING say is true: commands parse, settings exist, links lead somewhere, the example runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.foreign import example_blocks, installed_example

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
WORKFLOWS = sorted([*(ROOT / ".github" / "workflows").glob("*.yml"), *(ROOT / "templates" / "ci").glob("*.yml")])


def commands(text: str) -> list[list[str]]:
    """Arguments of every `bglora …` in code spans and code blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(bglora [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and Path(words[0].replace("\\", "/")).name == "bglora" and len(words) > 1:
            found.append(words[1:])
    return found


README_COMMANDS = commands(README.read_text(encoding="utf-8"))


def test_the_readme_names_commands() -> None:
    assert len(README_COMMANDS) > 25


@pytest.mark.parametrize("arguments", README_COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_is_one(arguments: list[str]) -> None:
    from typer.main import get_command

    from bglora.cli.app import app

    found: Any = get_command(app)
    if arguments[0] == "-C":  # the shared options stand before or after the command
        arguments = [*arguments[2:], *arguments[:2]]
    name, *rest = arguments
    assert name in found.commands
    if rest:  # alone it only names the command in running text
        found.commands[name].make_context(name, rest)


@pytest.mark.parametrize("arguments", [each for each in README_COMMANDS if "set" in each], ids=" ".join)
def test_every_setting_of_the_readme_is_one(arguments: list[str]) -> None:
    from bglora.settings import Settings

    words = arguments[arguments.index("set") + 1 :]
    if not words:
        return
    key, value = words
    table, _, name = key.partition(".")
    try:
        given = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        given = value
    checked = Settings.model_validate({table: {name: given}})
    assert getattr(getattr(checked, table), name) == given


@pytest.mark.parametrize("path", [README, CONTRIBUTING], ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        aim = (path.parent / name) if name else path
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", aim.read_text(encoding="utf-8"), re.M)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


def test_folders_of_the_readme_are_folders_of_stages() -> None:
    from bglora.stages import load

    homes = {stage.home.split("/")[0] for stage in load()}
    named = set(re.findall(r"`([a-z]+)/`", README.read_text(encoding="utf-8")))
    assert homes <= named


def test_the_house_in_contributing_is_the_house() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    plan = text[text.index("    bglora/") : text.index("    templates/")]
    named = set(re.findall(r"[├└]── ([a-z_]+)", plan))
    package = ROOT / "bglora"
    there = {path.name.removesuffix(".py") for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - named <= {"__pycache__", "__main__", "templates"}
    assert named <= there


def test_the_example_engine_is_found_and_fills_the_hole_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bglora import backends

    assert len(example_blocks()["python"].splitlines()) <= 30
    with installed_example(tmp_path, monkeypatch):
        assert backends.identity("fill", "mirror") == "mirror/1"
        engine = backends.load("fill", "mirror", None)
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    hole = np.zeros((40, 60), bool)
    hole[5:30, 4:40] = True
    marked = frame.copy()
    marked[hole] = (255, 0, 255)
    filled = engine.fill(marked, hole, seed=1)
    assert filled.shape == frame.shape and filled.dtype == np.uint8
    assert np.array_equal(filled[~hole], frame[~hole])
    assert not (filled[hole] == (255, 0, 255)).all(axis=1).any(), "what lies in the hole is not to be used"
    assert np.array_equal(filled, engine.fill(marked, hole, seed=1))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_commands_and_tests_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(tests/[\w/.]+)", text):
        assert (ROOT / name).exists(), name
    assert text.count("\t") == 0


def test_every_dependency_is_pinned_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if line and not line.startswith("#"))
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    outside = [each for each in map(Requirement, wanted) if pins.get(each.name.lower(), "0") not in each.specifier]
    assert outside == []
    assert not any("+" in pin for pin in pins.values()), "a build suffix would rule out other builds"
